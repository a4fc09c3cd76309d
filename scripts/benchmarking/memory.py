"""Peak memory of a process that explains one image, with a small and a large setting."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarking.place import ROOT
from benchmarking.row import Row

SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "integrated_gradients": ({"n_steps": 20}, {"n_steps": 1000}),
    "ig_smooth_grad_sq": ({"n_samples": 1}, {"n_samples": 20}),
    "smooth_grad": ({"n_samples": 20}, {"n_samples": 1000}),
    "gradient_shap": ({"n_samples": 20}, {"n_samples": 1000}),
    "occlusion": ({"stride": 4}, {"stride": 2}),
    "rise": ({"n_masks": 100}, {"n_masks": 2000}),
    "kernel_shap": ({"n_samples": 100}, {"n_samples": 1000}),
    "lime": ({"n_samples": 100}, {"n_samples": 1000}),
    "guided_ig": ({"n_steps": 20}, {"n_steps": 400}),
    "blur_ig": ({"n_steps": 20}, {"n_steps": 400}),
}
"""Of each method a small and a large setting whose peak must be the same."""
IN_QUICK = ("integrated_gradients",)


def memory_rows(model: str, names: Sequence[str], device: str, quick: bool, pixels: int | None = None) -> Iterator[Row]:
    """A row for each method, its peak with the large setting and the ratio to that with the small one."""
    for name in names:
        if name not in SETTINGS or (quick and name not in IN_QUICK):
            continue
        settings = SETTINGS[name]
        try:
            peaks = [peak_megabytes(model, name, setting, device, pixels) for setting in settings]
        except subprocess.CalledProcessError as error:
            yield Row(
                part="memory", model=model, name=name, note=f"failed: {error.stderr.strip().splitlines()[-1][:150]}"
            )
            continue
        small, large = (", ".join(f"{key}={value}" for key, value in setting.items()) for setting in settings)
        yield Row(
            part="memory",
            model=model,
            name=name,
            setting=large,
            images=1,
            ratio=peaks[1] / peaks[0],
            megabytes=peaks[1],
            note=f"{small}: {peaks[0]:.0f} MB",
        )


def peak_megabytes(model: str, method: str, setting: dict[str, Any], device: str, pixels: int | None) -> float:
    """Peak of the process (CPU) or of the allocator (CUDA) in MB."""
    task = json.dumps([model, method, setting, device, pixels])
    command = [sys.executable, "-m", "benchmarking.memory", task]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "scripts")
    return float(done.stdout.split()[-1])


def explain_once(model: str, method: str, setting: dict[str, Any], device: str, pixels: int | None) -> None:
    """The body of such a process: prints its peak."""
    sys.path.insert(0, str(ROOT / "src"))
    import torch

    from benchmarking import peak
    from benchmarking.subject import build, explainer_named

    subject = build(model, 1, device, pixels)
    explainer = explainer_named(
        method, "probe_batch_size=8", *(f"explainer.{key}={value}" for key, value in setting.items())
    )
    explainer(subject.classifier, subject.images, subject.targets)
    print(peak.megabytes(torch.device(device)))


if __name__ == "__main__":
    explain_once(*json.loads(sys.argv[1]))
