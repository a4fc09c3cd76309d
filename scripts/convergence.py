"""Whether maps that `n_steps=auto` of integrated gradients calls converged are: against a fine fixed rule, image by image.

    python scripts/convergence.py ../shared/data/imagenet-sample --limit 100 --networks efficientnet_lite0 --steps 2000

Prints a line for each map (steps used, estimated error, error against the reference, error of 50 fixed steps and, with
--grid, the fewest fixed steps that are within the tolerance), and for each network how many of the maps that are called
converged are within the tolerance.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from seewhy import explain

GRID = (10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 600)
COLUMNS = (
    "network",
    "image",
    "steps",
    "estimated_error",
    "gap",
    "converged",
    "error",
    "error_of_50_steps",
    "enough_steps",
)


def list_images(folder: Path, limit: int, only: Sequence[str]) -> list[Path]:
    """List the pictures of a folder, evenly spaced in the order of their names, or those whose name holds a word."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if only:
        return [path for path in paths if any(word in path.stem for word in only)]
    return paths[:: max(1, len(paths) // limit)][:limit]


def measure_error(found: Tensor, reference: Tensor) -> float:
    """Measure the L2 distance of a map from the reference as a share of the reference."""
    return float((found - reference).double().norm() / reference.double().norm())


def study_image(network: str, path: Path, options: argparse.Namespace) -> dict[str, object]:
    """Compare the map of one image with that of many fixed steps."""
    overrides = ["trainer=cpu", *options.override]
    if network not in ("efficientnet_lite0", "mobilenetv2", "cifar_cnn"):
        overrides += [f"model.name={network}"]
        overrides += [f"model.weights={options.weights}/{network}.safetensors"] if options.weights else []
        model = "timm"
    else:
        model = network

    def integrate(**fields: object) -> tuple[Tensor, dict[str, float]]:
        (result,) = explain(model, str(path), "integrated_gradients", overrides=overrides, **fields)
        return result.attribution, dict(result.facts)

    reference, _ = integrate(n_steps=options.steps)
    found, facts = integrate(n_steps="auto", map_tolerance=options.map_tolerance)
    fixed = GRID if options.grid else (50,)
    errors = {steps: measure_error(integrate(n_steps=steps)[0], reference) for steps in fixed}
    enough = next((steps for steps, error in errors.items() if error <= options.map_tolerance), None)
    converged = facts["map_error"] <= options.map_tolerance and facts["completeness_gap_relative"] <= 0.01
    row = (network, path.stem, int(facts["n_steps"]), facts["map_error"], facts["completeness_gap_relative"], converged)
    return dict(zip(COLUMNS, (*row, measure_error(found, reference), errors[50], enough), strict=True))


def main() -> None:
    """Study every image with every network and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of pictures")
    parser.add_argument(
        "--networks", nargs="+", default=["efficientnet_lite0"], help="a model config, or names of timm"
    )
    parser.add_argument("--weights", type=Path, help="folder with <name>.safetensors of each network of timm")
    parser.add_argument("--limit", type=int, default=100, help="pictures of each network")
    parser.add_argument("--only", nargs="*", default=[], help="only pictures whose name holds one of these words")
    parser.add_argument("--steps", type=int, default=2000, help="fixed steps of the reference")
    parser.add_argument("--map-tolerance", type=float, default=0.05)
    parser.add_argument("--grid", action="store_true", help="also look for the fewest fixed steps that are enough")
    parser.add_argument(
        "--override", nargs="*", default=[], help="further settings, such as 'model.mean=[0.5,0.5,0.5]'"
    )
    parser.add_argument("--csv", type=Path, help="file for the rows")
    options = parser.parse_args()
    rows = []
    for network in options.networks:
        for path in list_images(options.images, options.limit, options.only):
            rows.append(study_image(network, path, options))
            print("  ".join(f"{key}={format_value(value)}" for key, value in rows[-1].items()), flush=True)
        print(summarise(network, [row for row in rows if row["network"] == network], options.map_tolerance), flush=True)
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


def format_value(value: object) -> str:
    """Format a cell of the printed rows."""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def summarise(network: str, rows: list[dict[str, object]], tolerance: float) -> str:
    """Summarise the rows of a network in a sentence."""
    called = [row for row in rows if row["converged"]]
    right = sum(float(str(row["error"])) <= tolerance for row in called)
    steps = sum(int(str(row["steps"])) for row in rows) / max(1, len(rows))
    share = f"{right} of {len(called)} called converged (of {len(rows)}) are within {tolerance:g}"
    return f"{network}: {share}; {steps:.0f} steps on average"


if __name__ == "__main__":
    main()
