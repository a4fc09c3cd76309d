"""How often the recommendation of a verdict is right: `python scripts/rule.py FOLDER... --output TABLE.csv`.

FOLDER is a run folder of `src/ground_truth.py`, made here. On each of its networks that uses what was planted, the methods
are judged by the lines of the verdict, without that of planted data, and the rule recommends one, or none. The truth is the
mean average precision of the same methods on the same network. Beside the rule stands the method that the truth prefers most
often, chosen in hindsight. TABLE gets a row per network: what the rule recommends, what the truth prefers, and why.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from seewhy.analyses.ground_truth.judge import add_controls, fit_explainer
from seewhy.analyses.ground_truth.networks import prepare_explained, select_explained
from seewhy.analyses.ground_truth.run import CellStore, digest_plan, settle_kind
from seewhy.cli.ground_truth import build_study
from seewhy.core.files import RunFolder, name_files
from seewhy.report.verdict import measure_lines, tabulate_lines
from seewhy.statistics.recommendation import measure_rule, recommend
from seewhy.statistics.verdict import TRUTH


class Judged(NamedTuple):
    """A planted network, judged by the truth and by the verdict."""

    key: dict[str, str]
    truth: list[dict[str, Any]]
    lines: list[dict[str, Any]]


def judge_networks(folder: Path, images: int) -> Iterator[Judged]:
    """Judge the methods on every network of a run that uses what was planted.

    Args:
        folder: Of a run of ground_truth.
        images: That are explained with each network.

    Yields:
        A network.
    """
    cfg: Any = OmegaConf.load(folder / ".hydra" / "config.yaml")
    cfg.output = str(folder)
    study, pools = build_study(cfg), []
    store = CellStore(RunFolder(folder), digest_plan(study.plan or {}))
    explainers = add_controls(study.explainers, study.seed)
    files = name_files(explainers)
    for name, given in study.kinds.items():
        for setting, kind in settle_kind(name, given, study, pools).items():
            for seed in range(study.seed, study.seed + 2 * study.networks):
                classifier = study.build_classifier(kind, seed)
                proof = store.read_network(f"{setting}_{seed}", classifier)
                if proof is None or not proof.used:
                    continue
                key = {"ground_truth": setting, "model": f"{classifier.name} {seed}"}
                truth = []
                for method in explainers:
                    cell = store.read_cell(f"{setting}_{seed}_{files[method]}")
                    if cell and not cell["reason"]:
                        value = float(pd.Series(cell[TRUTH], dtype=float).mean())
                        truth.append({**key, "explainer": method, "metric": TRUTH, "value": value, "used": True})
                explained = prepare_explained(classifier, kind)
                _, planted = select_explained(explained, kind, images, pools[0] if kind.needs_pictures else None)
                shape = planted.images.shape[2:]
                scored = {row["explainer"] for row in truth}
                fitted = {
                    method: fit_explainer(explainer, kind).resolve(explained, shape)
                    for method, explainer in explainers.items()
                    if method in scored
                }
                judgement = measure_lines(explained, fitted, planted.images, planted.labels, seed)
                if judgement is not None:
                    yield Judged(key, truth, [{**key, **row} for row in tabulate_lines(judgement.lines)])


def main() -> None:
    """Judge all networks, print what the rule is worth, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=24, help="explained with each network (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="the table")
    options = parser.parse_args()
    truth: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    rows = []
    for folder in options.folders:
        for judged in judge_networks(folder, options.images):
            truth, lines = truth + judged.truth, lines + judged.lines
            choice = recommend(pd.DataFrame(judged.lines))
            values = {row["explainer"]: row["value"] for row in judged.truth}
            methods = {row["explainer"] for row in judged.lines}
            best = max(sorted(methods), key=lambda name: values[name])
            rows.append(
                {**judged.key, "recommended": choice.name or "none", "preferred": best, "reason": choice.reason}
            )
            print(f"{judged.key['ground_truth']}, {judged.key['model']}: {choice.reason}; truth: {best}", flush=True)
            pd.DataFrame(rows).to_csv(options.output, index=False, lineterminator="\n")
    print(measure_rule(pd.DataFrame(truth), pd.DataFrame(lines)).describe())


if __name__ == "__main__":
    main()
