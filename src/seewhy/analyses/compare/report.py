"""What a comparison of two networks leaves: compare.csv, classes.csv, compare.md, changed.png and a verdict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from seewhy.analyses.compare.measure import MARGIN, Pair, Verdict, judge
from seewhy.analyses.synthesis.summary import create_page, enlarge_to
from seewhy.core.facts import select_display
from seewhy.core.files import RunFolder
from seewhy.explainers.base import Explainer
from seewhy.models.classifier import Classifier
from seewhy.plots.canvas import Drawing, encode_figure
from seewhy.plots.explanation import GAP, Cell, draw_cells
from seewhy.plots.explanation import MARGIN as EDGE
from seewhy.plots.heatmaps import INK, MUTED, build_colour_map, compute_scale, normalise, to_rgb
from seewhy.plots.text import join_lines, wrap
from seewhy.runs.console import TextConsole
from seewhy.statistics.tests import compute_sign_flip_p

COLUMNS = ("image", "label", "predicted_a", "predicted_b", "correct_a", "correct_b", "agreement", "band")
CLASS_COLUMNS = ("class", "images", "agreement", "band", "gap", "low", "high", "p")
SEEDS = (
    "the band is a's own noise: networks of two seeds agree much less than that. After a new training, give a third "
    "network of the recipe as band="
)
"""What to do where another network was held against the noise of one."""
DRAWN = 8
"""Images whose reasons changed most that are drawn."""
HEADING, SMALL = 11.0, 7.5


class Comparison:
    """Takes pairs batch by batch; at the end the files, and what the run's record says of them.

    Args:
        first: The network that the other is held against.
        second: The other.
        explainer: The method.
        band: Name of the band, in words.
        seed: Of the bootstrap.
        own_noise: Whether another network, not a rounded copy, is held against the noise of the first.
    """

    def __init__(
        self,
        first: Classifier,
        second: Classifier,
        explainer: Explainer,
        band: str,
        seed: int,
        own_noise: bool = False,
    ) -> None:
        self.names = f"a: {first.name} ({first.origin})", f"b: {second.name} ({second.origin})"
        self.display, self.signed = first.facts.display, explainer.signed
        self.method = f"{explainer.name} ({explainer.parameters})" if explainer.parameters else explainer.name
        self.band, self.seed, self.own_noise = band, seed, own_noise
        self.pairs: list[Pair] = []
        self.changed: list[Pair] = []

    def add(self, pairs: Iterable[Pair]) -> None:
        """Take the pairs of a batch; pictures stay in memory for the few that changed most.

        Args:
            pairs: Of the batch.
        """
        pairs = list(pairs)
        empty = pairs[0].image[:, :0] if pairs else None
        same = [pair for pair in pairs if pair.first == pair.second and math.isfinite(pair.agreement)]
        self.changed = sorted([*self.changed, *same], key=lambda pair: pair.agreement)[:DRAWN]
        self.pairs += [_drop_pictures(pair, empty) for pair in pairs]

    def write(self, folder: Path) -> tuple[Verdict, dict[str, Any]]:
        """Write the files and print the verdict.

        Args:
            folder: The run folder.

        Returns:
            The verdict, and what the run's record says of it.
        """
        files, verdict = RunFolder(folder), judge(self.pairs, self.seed)
        files.write_csv("compare.csv", COLUMNS, map(_write_row, self.pairs))
        groups: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            groups.setdefault(pair.label or pair.first, []).append(pair)
        rows = [_write_class(name, judge(members, self.seed)) for name, members in sorted(groups.items())]
        files.write_csv("classes.csv", CLASS_COLUMNS, rows)
        sentences = [*self.names, f"method: {self.method}; band: {self.band}", *self._describe(verdict)]
        table = ["| " + " | ".join(CLASS_COLUMNS) + " |", "|" + "---|" * len(CLASS_COLUMNS)]
        table += ["| " + " | ".join(str(row[key]) for key in CLASS_COLUMNS) + " |" for row in rows]
        lines = ["# Same answers, same reasons?", "", *(f"{each}  " for each in sentences), "", *table, ""]
        files.write_bytes("compare.md", "\n".join(lines).encode())
        if self.changed:
            files.write_bytes("changed.png", encode_figure(self._draw()))
        TextConsole().print("\n".join(sentences), soft_wrap=True, markup=False)
        return verdict, {"images": len(self.pairs), "passed": verdict.passed, "gap": verdict.gap}

    def _describe(self, verdict: Verdict) -> list[str]:
        """Accuracy, agreement and pass or fail, a sentence each."""
        known = [pair.correct for pair in self.pairs if None not in pair.correct]
        both = sum(pair.first == pair.second for pair in self.pairs)
        sentences = [f"{both} of {len(self.pairs)} images have one prediction"]
        if known:
            right = np.array(known, dtype=float)
            p = float(compute_sign_flip_p([right[:, 0] - right[:, 1]], self.seed)[0])
            first, second = 100 * right.mean(0)
            sentences.append(
                f"accuracy on {len(known)} labelled images: a {first:.1f} %, b {second:.1f} % (p = {p:.2g})"
            )
        if verdict.passed is None:
            return [*sentences, f"{verdict.images} images have an agreement and a band: too few for a verdict"]
        sentences.append(
            f"agreement {verdict.agreement:.3f}, band {verdict.band:.3f}: the difference is {verdict.gap:.3f} "
            f"[{verdict.low:.3f}, {verdict.high:.3f}] over {verdict.images} images (p = {verdict.p:.2g})"
        )
        word = "passed" if verdict.passed else "failed"
        meaning = "is not shown to be" if verdict.passed else "is"
        hint = [SEEDS] if self.own_noise and not verdict.passed else []
        return [*sentences, f"{word}: the agreement {meaning} more than {MARGIN} below the band", *hint]

    def _draw(self) -> Drawing:
        """Image and both maps of those whose reasons changed most although the prediction did not."""
        height, width = self.changed[0].image.shape[-2:]
        side = enlarge_to(height, width, 224)
        page = create_page(3, side[1])
        room = page.points(page.width - 2 * EDGE)
        title = f"reasons that changed most under one prediction: {len(self.changed)} of {len(self.pairs)} images"
        y = page.lines(EDGE, EDGE * 0.6, wrap(title, room, HEADING, True), HEADING, weight="bold")
        for line in join_lines([*self.names, self.method], room, SMALL):
            y = page.lines(EDGE, y, wrap(line, room, SMALL), SMALL, MUTED)
        colours = build_colour_map("default", "signed" if self.signed else "unsigned")
        for pair in self.changed:
            cells = [Cell([(pair.name, INK), (pair.first, MUTED)], to_rgb(select_display(pair.image, self.display)))]
            for letter, values in zip("ab", pair.maps, strict=True):
                words = f"agreement {pair.agreement:.2f}" if letter == "b" else "own scale each"
                painted = colours.paint(normalise(values, compute_scale(values), self.signed))
                cells.append(Cell([(f"map of {letter}", INK), (words, MUTED)], painted))
            y = draw_cells(page, y + GAP / 2, cells, side, SMALL)
        return page.finish(y + EDGE * 0.7)


def _drop_pictures(pair: Pair, empty: Any) -> Pair:
    return dataclasses.replace(pair, image=empty, maps=empty)


def _write_row(pair: Pair) -> dict[str, Any]:
    words = {True: "yes", False: "no", None: ""}
    return {
        "image": pair.name,
        "label": pair.label,
        "predicted_a": pair.first,
        "predicted_b": pair.second,
        "correct_a": words[pair.correct[0]],
        "correct_b": words[pair.correct[1]],
        "agreement": f"{pair.agreement:.6g}",
        "band": f"{pair.band:.6g}",
    }


def _write_class(name: str, verdict: Verdict) -> dict[str, Any]:
    numbers = {key: f"{getattr(verdict, key):.4g}" for key in ("agreement", "band", "gap", "low", "high", "p")}
    return {"class": name, "images": verdict.images, **numbers}
