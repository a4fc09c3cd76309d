"""The certificate of ground truth as tables, for its own page and a section of the page of runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from seewhy.analyses.ground_truth.certificate import SCORES, WORDS, describe_finding


@dataclass(frozen=True)
class CertificateView:
    """A certificate as tables of methods and kinds of truth.

    Args:
        finding: A sentence for each setting.
        tables: For each score and model the score's name and words, the model, the settings, and a row for each method: its
            name and a cell for each setting with the value, the interval and what it beats, or the reason for none.
    """

    finding: list[str]
    tables: list[tuple[str, str, str, list[str], list[tuple[str, list[tuple[str, str, str]]]]]]


def build_certificate_view(certificate: pd.DataFrame) -> CertificateView:
    """Build the tables of a certificate.

    Args:
        certificate: See `seewhy.analyses.ground_truth.certificate.build_certificate`.

    Returns:
        The view.
    """
    rows = {
        (row["ground_truth"], row["model"], row["explainer"], row["metric"]): row
        for row in certificate.to_dict("records")
    }
    tables = []
    for metric, (model, part) in product(SCORES, certificate.groupby("model", sort=False)):
        settings = list(dict.fromkeys(part["ground_truth"]))
        lines = [
            (explainer, [_fill(rows.get((setting, model, explainer, metric))) for setting in settings])
            for explainer in dict.fromkeys(part["explainer"])
        ]
        chances = part[part["metric"] == metric].groupby("ground_truth")["chance"].mean()
        lines.append(("chance", [(_round(float(chances.get(setting, math.nan))), "", "") for setting in settings]))
        tables.append((metric.replace("_", " "), WORDS[metric], str(model), settings, lines))
    finding = [sentence.replace("*", "").replace("`", "") for sentence in describe_finding(certificate)]
    return CertificateView(finding, tables)


def _fill(row: Mapping[Any, Any] | None) -> tuple[str, str, str]:
    """(value, interval or reason, what it beats)."""
    if row is None:
        return "", "", ""
    if math.isnan(row["value"]):
        return "–", str(row["reason"]), "none"
    interval = "" if math.isnan(row["low"]) else f"{_round(row['low'])} to {_round(row['high'])}"
    beats = "" if row["beats_chance"] != "yes" else "both" if row["beats_edges"] == "yes" else "chance"
    return _round(row["value"]), interval, beats


def _round(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def select_certificate(networks: Iterable[str], certificate: pd.DataFrame) -> CertificateView | None:
    """Select what a certificate says of architectures.

    Args:
        networks: Names of the architectures.
        certificate: As `seewhy.analyses.ground_truth.certificate.read_certificate` returns it.

    Returns:
        The view; None where the table has none of them.
    """
    table = certificate[certificate["model"].isin(list(networks))]
    return None if table.empty else build_certificate_view(table)
