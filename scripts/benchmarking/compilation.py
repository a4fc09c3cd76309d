"""torch.compile beside the fused passes: what it costs to compile a network, and after how many images that is gained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from benchmarking.place import ROOT
from benchmarking.row import Row

MODELS = ("cifar_cnn", "vit_cifar", "mobilenetv3", "efficientnet_lite0")
LONGEST = 300
"""Seconds after which compiling is given up."""
BATCH = {"cifar_cnn": 64, "vit_cifar": 64, "mobilenetv3": 64}
"""Images of 32 pixels in one pass; of larger ones `LARGE`."""
LARGE = 8
ROUNDS = 15


def compile_rows(quick: bool, threads: int) -> Iterator[Row]:
    """A row for each network, without and with the gradient of the images; each is compiled in a process of its own."""
    for model in MODELS[:1] if quick else MODELS:
        for gradient in (False, True):
            yield _row(model, gradient, threads)


def _row(model: str, gradient: bool, threads: int) -> Row:
    words = "gradient" if gradient else "forward"
    count = BATCH.get(model, LARGE)
    with tempfile.TemporaryDirectory() as cache:  # what was compiled before is compiled again
        environment = os.environ | {
            "TORCHINDUCTOR_CACHE_DIR": cache,
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "OMP_NUM_THREADS": str(threads),
        }
        task = json.dumps([model, gradient, count])
        command = [sys.executable, "-m", "benchmarking.compilation", task]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=ROOT / "scripts", env=environment, timeout=LONGEST
            )
        except subprocess.TimeoutExpired:
            return Row("compile", model, words, note=f"not compiled after {LONGEST} s")
    if done.returncode:
        return Row("compile", model, words, note=f"failed: {done.stderr.strip().splitlines()[-1][:150]}")
    compiling, fused, compiled, difference = json.loads(done.stdout.splitlines()[-1])
    gained = fused - compiled
    after = f"gained after {compiling / gained:,.0f} images" if gained > 0.02 * fused else "nothing gained"
    return Row(
        "compile",
        model,
        words,
        setting=f"in batches of {count}",
        images=count,
        seconds=compiled,
        ratio=compiled / fused,
        difference=difference,
        note=f"{compiling:.0f} s to compile, fused {1e3 * fused:.2f} ms an image; {after}",
    )


def compare_passes(model: str, gradient: bool, count: int) -> list[float]:
    """The body of such a process: seconds of its processors to compile, and for an image fused and compiled.

    Args:
        model: Of the configs.
        gradient: Whether passes come with the gradient of the images.
        count: Images in one pass.

    Returns:
        [seconds to compile, seconds an image fused, and compiled, the largest difference of the results].
    """
    import torch
    from torch._inductor import config

    from benchmarking.peers.peer import difference
    from benchmarking.subject import build

    subject = build(model, count)
    classifier, network = subject.classifier, subject.plain
    config.freezing = not gradient  # parameters become constants, where no gradient passes them
    compiled = torch.compile(network)

    def run(passes: torch.nn.Module) -> torch.Tensor:
        with torch.set_grad_enabled(gradient):
            leaves = subject.images.clone().requires_grad_(gradient)
            scores = passes(leaves)
            if gradient:
                (scores,) = torch.autograd.grad(scores.gather(1, subject.targets[:, None]).sum(), leaves)
            return scores

    before = sum(os.times()[:4])
    theirs = run(compiled)
    compiling = sum(os.times()[:4]) - before
    spent: dict[str, list[float]] = {"fused": [], "compiled": []}
    with classifier.frozen():
        ours = run(classifier)
        for _ in range(ROUNDS):
            for name, passes in (("fused", classifier), ("compiled", compiled)):
                start = time.process_time()
                run(passes)
                spent[name].append(time.process_time() - start)
    each = [min(values) / count / torch.get_num_threads() for values in spent.values()]
    return [compiling, *each, difference(ours, theirs, False)]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    print(json.dumps(compare_passes(*json.loads(sys.argv[1]))))
