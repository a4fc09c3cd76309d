"""How often the recommendation of a verdict is right: `python scripts/rule.py FOLDER... --lines LINES --output TABLE`.

FOLDER is a run folder of `src/ground_truth.py`, made here. On each of its networks that uses what was planted, the methods
are judged by the lines of the verdict, without that of planted data, and the rule recommends one, or none. The truth is the
mean average precision of the same methods on the same network. Beside the rule stands the method that the truth prefers most
often, chosen in hindsight. TABLE gets a row per network: what the rule recommends, what the truth prefers, and why. LINES
gets all lines; the same command goes on behind the last of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from seewhy.analyses.ground_truth.judge import add_controls, fit_explainer
from seewhy.analyses.ground_truth.networks import find_fault, prepare_explained, select_explained
from seewhy.analyses.ground_truth.run import settle_kind
from seewhy.cli.ground_truth import build_study
from seewhy.core.files import RunFolder, name_files
from seewhy.report.verdict import judge_measured, measure_method, tabulate_lines
from seewhy.statistics.recommendation import measure_rule, recommend
from seewhy.statistics.verdict import TRUTH

KEYS = ("ground_truth", "model")


def judge_networks(
    folder: Path, images: int, methods: Sequence[str] = (), done: Collection[tuple[str, str]] = ()
) -> Iterator[pd.DataFrame]:
    """Judge the methods on every network of a run that uses what was planted.

    Args:
        folder: Of a run of ground_truth.
        images: That are explained with each network.
        methods: Their names; empty: all of the run.
        done: (ground_truth, model) of networks that are left out.

    Yields:
        The lines of a network's methods, with `KEYS` and `truth` (the mean average precision over the images that all
        methods were judged on).
    """
    cfg: Any = OmegaConf.load(folder / ".hydra" / "config.yaml")
    cfg.output = str(folder)
    study, pools, out = build_study(cfg), [], RunFolder(folder)
    chosen = {name: each for name, each in study.explainers.items() if not methods or name in methods}
    explainers = add_controls(chosen, study.seed)
    files = name_files(explainers)
    for name, given in study.kinds.items():
        for setting, kind in settle_kind(name, given, study, pools).items():
            for seed in range(study.seed, study.seed + 2 * study.networks):
                classifier = study.build_classifier(kind, seed)
                key = setting, f"{classifier.name} {seed}"
                proof = study.open_network(kind, out, pools).read_network(f"{setting}_{seed}", classifier)
                if proof is None or find_fault(proof.shares, kind, proof.chance, proof.n) or key in done:
                    continue
                cells = {
                    method: study.open_cell(kind, method, out, pools).read_cell(f"{setting}_{seed}_{files[method]}")
                    for method in explainers
                }
                scores = {
                    method: pd.Series(cell[TRUTH], cell["image"], dtype=float)
                    for method, cell in cells.items()
                    if cell and not cell["reason"]
                }
                truth = pd.DataFrame(scores).dropna().mean()
                explained = prepare_explained(classifier, kind)
                _, planted = select_explained(explained, kind, images, pools[0] if kind.needs_pictures else None)
                shape = planted.images.shape[2:]
                fitted = {
                    method: fit_explainer(explainers[method], kind).resolve(explained, shape) for method in scores
                }
                images_and_labels = planted.images, planted.labels
                measured = {
                    method: measure_method(explained, method, explainer, *images_and_labels, seed)
                    for method, explainer in fitted.items()
                }
                judgement = judge_measured(explained, measured, seed)
                if judgement is None:
                    continue
                lines = pd.DataFrame(tabulate_lines(judgement.lines)).assign(**dict(zip(KEYS, key, strict=True)))
                yield lines.assign(truth=lines["explainer"].map(truth))


def main() -> None:
    """Judge all networks, print what the rule is worth, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=24, help="explained with each network (default: %(default)s)")
    parser.add_argument("--methods", nargs="*", default=(), help="default: all of the run")
    parser.add_argument(
        "--lines", type=Path, required=True, help="all lines; networks that it has are not judged again"
    )
    parser.add_argument("--output", type=Path, required=True, help="the table")
    options = parser.parse_args()
    lines = (
        pd.read_csv(options.lines, keep_default_na=False)
        if options.lines.is_file()
        else pd.DataFrame(columns=list(KEYS))
    )
    done = set(zip(*(lines[key] for key in KEYS), strict=True))
    for folder in options.folders:
        for judged in judge_networks(folder, options.images, options.methods, done):
            lines = pd.concat([lines, judged], ignore_index=True)
            lines.to_csv(options.lines, index=False, lineterminator="\n")
            print(f"{judged['ground_truth'].iloc[0]}, {judged['model'].iloc[0]}: judged", flush=True)
    numbers = ["value", "low", "high", "truth"]
    lines[numbers] = lines[numbers].apply(pd.to_numeric, errors="coerce")
    rows = []
    for key, group in lines.groupby(list(KEYS), sort=False):
        choice = recommend(group)
        best = sorted(set(group.loc[group["truth"] == group["truth"].max(), "explainer"]))
        rows.append(dict(zip(KEYS, key, strict=True)) | {"recommended": choice.name or "none"})
        rows[-1]["preferred"] = " or ".join(best)
        rows[-1]["reason"] = choice.reason
    pd.DataFrame(rows).to_csv(options.output, index=False, lineterminator="\n")
    truth = lines.drop_duplicates([*KEYS, "explainer"]).assign(metric=TRUTH, used=True)
    print(measure_rule(truth.assign(value=truth["truth"]), lines).describe())


if __name__ == "__main__":
    main()
