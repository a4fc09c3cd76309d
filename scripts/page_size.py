"""How large report.html is, and how fast it is made and opened: python scripts/page_size.py [images] [explainers].

The run is made up: smooth photographs, and maps of which half are noise, which compresses worst. Opening needs the
`browser` extra and Chromium; the clock stops when the first cards are painted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import io
import shutil

import numpy as np
import torch

from seewhy.core.files import RunFolder
from seewhy.plots.heatmaps import encode_preview
from seewhy.report.write import write_run_page
from seewhy.statistics.schema import MetricFact, write_metric_facts

SIZE = 224
FACTS = {"deletion": MetricFact("lower", "made up"), "insertion": MetricFact("higher", "made up")}
PREDICTIONS = ("image", "path", "label", "predicted", "probability", "correct", "target", "target_probability")


def smooth(generator: np.random.Generator, channels: int, cells: int) -> np.ndarray:
    """[channels, 224, 224] interpolated from a coarse grid of random values in [-1, 1]."""
    coarse = torch.from_numpy(generator.uniform(-1, 1, (1, channels, cells, cells)).astype(np.float32))
    made = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic", align_corners=False)
    return np.asarray(made[0])


def write_run(folder: Path, number: int, images: int) -> None:
    """The run of one made-up explainer: even ones are smooth, odd ones heavy-tailed noise."""
    out, name = RunFolder(folder), f"method_{number}"
    model = {"name": "network", "weights": "made up", "weights_sha256": "0" * 64, "size": SIZE, "classes": 10}
    explainer = {"name": name, "parameters": "", "target": "predicted", "signed": number % 4 < 2}
    given = {"status": "completed", "task": "explain", "seed": 0, "model": model, "explainer": explainer}
    out.write_json("run.json", {**given, "images": images, "images_explained": images})
    generator = np.random.default_rng(number)
    rows = []
    for place in range(images):
        noise = generator.standard_t(4, (SIZE, SIZE)).astype(np.float32)
        made = smooth(generator, 1, 7)[0] if number % 2 == 0 else noise
        content = io.BytesIO()
        np.save(content, made if explainer["signed"] else np.abs(made))
        out.write_bytes(f"attributions/image_{place:04d}.npy", content.getvalue())
        rows += [
            {"image": f"image_{place:04d}", "explainer": name, "metric": metric, "value": repr(generator.random())}
            for metric in FACTS
        ]
    out.write_csv("metrics.csv", ("image", "explainer", "metric", "value"), rows)
    said = [(f"image_{place:04d}", "", f"class {place % 7}", f"class {place % 10}") for place in range(images)]
    tables = [dict(zip(PREDICTIONS, (*one, "0.7", "no", one[3], "0.7"), strict=True)) for one in said]
    out.write_csv("predictions.csv", PREDICTIONS, tables)
    write_metric_facts(out, FACTS)


def write_previews(folder: Path, images: int) -> None:
    """Photographs with fine detail: about as many bytes as real ones."""
    generator = np.random.default_rng(99)
    for place in range(images):
        picture = 0.5 + 0.3 * smooth(generator, 3, 6) + 0.12 * smooth(generator, 3, 56)
        RunFolder(folder).write_bytes(f"images/image_{place:04d}.webp", encode_preview(torch.from_numpy(picture)))


def opening_seconds(page: Path) -> list[tuple[float, float, float]]:
    """(seconds until the cards are there, until maps are painted, processor time of the page), three times."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(3):
            tab = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            session = tab.context.new_cdp_session(tab)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            start = time.perf_counter()
            tab.goto(page.as_uri(), wait_until="commit")
            tab.wait_for_selector(".thumb", state="attached")
            usable = time.perf_counter() - start
            tab.locator(".thumb").first.scroll_into_view_if_needed()
            tab.wait_for_selector("canvas[data-drawn]")
            painted = time.perf_counter() - start
            metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
            found.append((usable, painted, metrics["TaskDuration"]))
            tab.context.close()
        browser.close()
    return found


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=int, nargs="?", default=500)
    parser.add_argument("explainers", type=int, nargs="?", default=10)
    chosen = parser.parse_args()
    images, explainers = chosen.images, chosen.explainers
    with tempfile.TemporaryDirectory() as place:
        sweep = Path(place)
        for number in range(explainers):
            write_run(sweep / str(number), number, images)
        write_previews(sweep / "0", images)
        start = time.perf_counter()
        page = write_run_page(sweep)
        print(f"{images} images x {explainers} explainers: made in {time.perf_counter() - start:.1f} s")
        print(f"report.html: {page.stat().st_size / 1e6:.1f} MB")
        for usable, painted, worked in opening_seconds(page):
            print(f"cards after {usable:.2f} s, maps after {painted:.2f} s ({worked:.2f} s of processor time)")


if __name__ == "__main__":
    main()
