"""What each method costs beside its floor: the passes it needs, times the bare pass at its best batch size.

usage: python scripts/benchmark.py [--model NAME] [--methods NAME ...] [--images N] [--repeats N] [--markdown FILE]
       python scripts/benchmark.py --memory [--model NAME] [--size PIXELS]

The floor is measured in the same run, in turn with the method (A B A B): the bare pass (a forward, or a forward and the
gradient with respect to the image) over the batch sizes 1, 2, 4 ... at its fastest. `over floor` is the median of the
ratios, `spread` their smallest and largest value. `--memory` runs each method with its smallest and a large setting in
a process of its own and compares the peaks.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "scripts")]

SIZES = (1, 2, 4, 8, 16, 32, 64)
CHEAP = {"n_masks": 400, "n_samples": 20, "n_steps": 50, "channels": 64}
"""Settings that only decide the number of passes, cut down so that a method takes seconds."""
ONCE = {"lime": {"n_samples": 300}, "kernel_shap": {"n_samples": 300}}
"""Methods that cut an image into regions once: as many passes as make that small beside them, as in real use."""
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "integrated_gradients": ({"n_steps": 20}, {"n_steps": 1000}),
    "ig_smooth_grad_sq": ({"n_samples": 1}, {"n_samples": 100}),
    "smooth_grad": ({"n_samples": 20}, {"n_samples": 1000}),
    "gradient_shap": ({"n_samples": 20}, {"n_samples": 1000}),
    "occlusion": ({"stride": 3}, {"stride": 1}),
    "rise": ({"n_masks": 100}, {"n_masks": 8000}),
    "kernel_shap": ({"n_samples": 100}, {"n_samples": 2000}),
    "lime": ({"n_samples": 100}, {"n_samples": 2000}),
    "guided_ig": ({"n_steps": 20}, {"n_steps": 400}),
    "blur_ig": ({"n_steps": 20}, {"n_steps": 400}),
}
"""Of each method a small and a large setting whose peak memory must be the same."""


@dataclasses.dataclass
class Floor:
    """The bare pass at its best batch size: seconds per image, and the size, without and with gradient."""

    forward: float
    gradient: float
    sizes: tuple[int, int]

    def seconds(self, forward: int, backward: int) -> float:
        """What that many passes cost at least; every backward pass comes with a forward one."""
        return (forward - backward) * self.forward + backward * self.gradient


def bare_pass(classifier: Any, images: Any, gradient: bool) -> float:
    """Seconds per image of one pass over a batch."""
    import torch

    with torch.set_grad_enabled(gradient), classifier.frozen():
        leaves = images.detach().clone().requires_grad_(gradient)
        start = time.perf_counter()
        total = classifier(leaves).sum()
        if gradient:
            torch.autograd.grad(total, leaves)
        synchronise(images)
    return (time.perf_counter() - start) / len(images)


def synchronise(images: Any) -> None:
    """Wait until the device is done."""
    import torch

    if images.device.type == "cuda":
        torch.cuda.synchronize()


def best_size(classifier: Any, image: Any, gradient: bool, seconds: float = 1.5) -> int:
    """The batch size of the fastest bare pass, over batch sizes that take up to half a second."""
    found: dict[int, float] = {}
    for size in SIZES:
        images = image.expand(size, -1, -1, -1)
        bare_pass(classifier, images, gradient)
        start, times = time.perf_counter(), []
        while len(times) < 3 or time.perf_counter() - start < seconds / len(SIZES):
            times.append(bare_pass(classifier, images, gradient))
        found[size] = min(times)
        if found[size] * size > 0.5:
            break
    return min(found, key=lambda size: found[size])


def measured_floor(classifier: Any, image: Any, sizes: tuple[int, int], passes: int = 5) -> Floor:
    """The bare pass at given batch sizes, the median of some passes."""
    times = [
        statistics.median(bare_pass(classifier, image.expand(size, -1, -1, -1), gradient) for _ in range(passes))
        for size, gradient in zip(sizes, (False, True), strict=True)
    ]
    return Floor(times[0], times[1], sizes)


def cheap(explainer: Any) -> Any:
    """The explainer with fewer passes; the costs per pass stay the same."""
    changed = {
        key: min(getattr(explainer, key), most)
        for key, most in (CHEAP | ONCE.get(explainer.name, {})).items()
        if isinstance(getattr(explainer, key, None), int)
    }
    if hasattr(explainer, "channels"):
        changed["channels"] = CHEAP["channels"]
    inner = {"explainer": cheap(explainer.explainer)} if hasattr(explainer, "explainer") else {}
    return dataclasses.replace(explainer, **changed, **inner)


def time_method(
    explainer: Any, classifier: Any, images: Any, targets: Any, sizes: tuple[int, int], repeats: int
) -> Any:
    """One row: seconds and passes per image, the ratio to the floor and its spread."""
    from seewhy.errors import Incompatible

    try:
        explainer(classifier, images[:1], targets[:1])
    except Incompatible:
        return None
    rows, ratios = [], []
    for _ in range(repeats):
        floor = measured_floor(classifier, images[:1], sizes)
        classifier.passes.forward = classifier.passes.backward = 0
        start = time.perf_counter()
        explainer(classifier, images, targets)
        synchronise(images)
        seconds = (time.perf_counter() - start) / len(images)
        forward, backward = (count / len(images) for count in vars(classifier.passes).values())
        after = measured_floor(classifier, images[:1], sizes)
        bare = (floor.seconds(forward, backward) + after.seconds(forward, backward)) / 2
        rows.append(seconds)
        ratios.append(seconds / bare if bare else float("nan"))
    middle = statistics.median(ratios)
    cost = {"seconds": statistics.median(rows), "forward": forward, "backward": backward}
    return cost | {"over floor": middle, "smallest": min(ratios), "largest": max(ratios)}


def images_for(explainer: Any, most: int) -> int:
    """Fewer images for methods of many passes: a repeat stays in seconds."""
    passes = explainer.passes_per_image(size=224, classes=1000)
    return most if passes is None or not sum(passes) else max(2, min(most, 400 // sum(passes)))


def peak_megabytes(model: str, method: str, setting: dict[str, Any], size: int) -> float:
    """Peak resident memory of a process that explains one image, in MB."""
    command = [sys.executable, __file__, "--one", json.dumps([model, method, setting, size])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def explain_once(model: str, method: str, setting: dict[str, Any], size: int) -> None:
    """The body of such a process: prints its peak."""
    import torch
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    overrides = [f"model={model}", f"model.size={size}", f"explainer={method}", "probe_batch_size=16"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("explain", [*overrides, *(f"explainer.{key}={value}" for key, value in setting.items())])
    classifier = instantiate(cfg.model, _convert_="object")
    explainer = instantiate(cfg.explainer, _convert_="object")
    explainer(classifier, torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)), torch.tensor([1]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory_table(model: str, methods: list[str], size: int) -> list[str]:
    """Markdown rows: peaks of the small and the large setting, and their ratio."""
    lines = ["| method | small | MB | large | MB | ratio |", "|---|---|---|---|---|---|"]
    for method in [name for name in SETTINGS if name in methods]:
        settings = SETTINGS[method]
        peaks = [peak_megabytes(model, method, setting, size) for setting in settings]
        words = [", ".join(f"{key}={value}" for key, value in setting.items()) for setting in settings]
        row = f"{words[0]} | {peaks[0]:.0f} | {words[1]} | {peaks[1]:.0f} | {peaks[1] / peaks[0]:.2f}"
        lines.append(f"| `{method}` | {row} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def time_table(model: str, methods: list[str], count: int, repeats: int) -> list[str]:
    """Markdown rows: seconds, passes and ratio to the floor of every method."""
    import torch
    from hydra.utils import instantiate
    from methods import composed, image_for, load

    classifier = load(model)
    image = image_for(classifier)
    images = torch.cat([image, torch.rand(count - 1, *image.shape[1:], generator=torch.Generator().manual_seed(0))])
    with torch.no_grad():
        targets = classifier(images).argmax(1)
    sizes = best_size(classifier, image, False), best_size(classifier, image, True)
    floor = measured_floor(classifier, image, sizes)
    lines = [
        f"Bare pass of {model} at {image.shape[-1]} pixels: forward {1 / floor.forward:.0f} images/s at batch {sizes[0]}, "
        f"forward and gradient {1 / floor.gradient:.0f} images/s at batch {sizes[1]}.",
        "",
        "| method | seconds per image | forward | backward | over floor | spread |",
        "|---|---|---|---|---|---|",
    ]
    for method in methods:
        explainer = cheap(instantiate(composed(model, method, "random").explainer, _convert_="object"))
        number = images_for(explainer, count)
        row = time_method(explainer, classifier, images[:number], targets[:number], sizes, repeats)
        text = "refused | | | | |"
        if row is not None:
            spread = f"{row['smallest']:.2f} – {row['largest']:.2f}"
            over = f"{row['over floor']:.2f} | {spread}" if row["forward"] else "no passes |"
            text = f"{row['seconds']:.3f} | {row['forward']:.0f} | {row['backward']:.0f} | {over} |"
        lines.append(f"| `{method}` | {text}")
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def machine() -> str:
    """One line that says what measured."""
    import torch

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads"
    return f"{platform.machine()}, {cores}, Python {platform.python_version()}, torch {torch.__version__}, {commit.strip()}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = sorted(path.stem for path in (ROOT / "configs" / "explainer").glob("*.yaml"))
    parser.add_argument("--model", default="efficientnet_lite0", help="timm:NAME for any timm network")
    parser.add_argument("--methods", nargs="+", default=everything, choices=everything, metavar="NAME")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--size", type=int, default=96, help="pixels of the image of --memory")
    parser.add_argument("--markdown", type=Path, help="append the table to this file as well")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return explain_once(*arguments.one)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # the best batch sizes are found anew
        if arguments.memory:
            lines = memory_table(arguments.model, arguments.methods, arguments.size)
        else:
            lines = time_table(arguments.model, arguments.methods, arguments.images, arguments.repeats)
    text = "\n".join([machine(), "", *lines, ""])
    if arguments.markdown:
        with arguments.markdown.open("a") as file:
            file.write(text)
    print(text)


if __name__ == "__main__":
    main()
