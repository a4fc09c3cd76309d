"""Finding the batch size at which a network runs fastest on this machine.

The one place where perturbed images go through the network: bounded batches, gradients, counting.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.tensors import widen
from seewhy.core.types import Classes, Images, Targets
from seewhy.models.classifier import Classifier, Passes

CANDIDATES = {
    "cpu": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "cuda": (16, 32, 64, 128, 256, 512),
    "mps": (8, 16, 32, 64, 128),
}
ROUNDS = 3
LONGEST_PASS = 0.5
"""Seconds after which no larger size is tried: it could only gain a little, and measuring must stay short."""
LARGEST_SPREAD = 1.5
"""The best two timings of the chosen size may differ by this factor."""
MINIMUM_GAIN = 1.03
"""A larger batch is taken only when it is at least this much faster: it also needs more memory."""


def find_batch_size(classifier: Classifier, image: Tensor, gradient: bool) -> int:
    """The measured best number of images [3, height, width] in one pass, with or without input gradient.

    Measured once for each network, image size, device, number of threads and torch version, then kept in the user's
    cache folder, so that later runs use the same size and give the same bytes. Where the machine is too busy to
    measure, `estimate_batch_size` is taken and nothing is kept.
    """
    key = _key(classifier, image, gradient)
    known = _read_cache()
    if key in known:
        return known[key]
    measured = _measure(classifier, image, gradient)
    if measured is None:
        return estimate_batch_size(image)
    with contextlib.suppress(OSError):
        RunFolder(_cache_file().parent).write_json(_cache_file().name, _read_cache() | {key: measured})
    return measured


def estimate_batch_size(image: Tensor) -> int:
    """The power of two nearest to 8 images of 224x224 pixels: right for most networks on most processors."""
    share = 8 * 224**2 / (image.shape[-2] * image.shape[-1])
    return int(min(256, max(1, 2 ** round(math.log2(share)))))


def _measure(classifier: Classifier, image: Tensor, gradient: bool) -> int | None:
    """The size with the most images per second, or None where the timings of that size disagree too much.

    Every size is timed in every round, so that a busy moment hits all; the first round only warms up.
    """
    counted = Passes(classifier.passes.forward, classifier.passes.backward)
    seconds: dict[int, list[float]] = {}
    for turn in range(ROUNDS + 1):
        for size in CANDIDATES.get(image.device.type, CANDIDATES["cpu"]) if not turn else list(seconds):
            spent = _seconds(classifier, image, size, gradient)
            if spent is None:
                seconds.pop(size, None)
                break
            seconds.setdefault(size, []).extend([spent] if turn else [])
            if not turn and spent > LONGEST_PASS:
                break
    classifier.passes = counted
    best = min(seconds)
    for size in sorted(seconds):
        if size / min(seconds[size]) > MINIMUM_GAIN * best / min(seconds[best]):
            best = size
    return best if sorted(seconds[best])[1] < LARGEST_SPREAD * min(seconds[best]) else None


def _seconds(classifier: Classifier, image: Tensor, size: int, gradient: bool) -> float | None:
    """Seconds of one pass; None where memory runs out."""
    images = image.expand(size, -1, -1, -1).clone()
    _synchronise(image)
    start = time.perf_counter()
    try:
        _one_pass(classifier, images, gradient)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if size == 1 or not is_out_of_memory(error):
            raise
        return None
    _synchronise(image)
    return time.perf_counter() - start


def _one_pass(classifier: Classifier, images: Tensor, gradient: bool) -> None:
    with torch.set_grad_enabled(gradient):
        leaves = images.detach().requires_grad_(gradient)
        total = classifier(leaves).sum()
        if gradient:
            torch.autograd.grad(total, leaves)


def _synchronise(image: Tensor) -> None:
    if image.device.type == "cuda":
        torch.cuda.synchronize(image.device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory ran out, on any device."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def _key(classifier: Classifier, image: Tensor, gradient: bool) -> str:
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    device = torch.cuda.get_device_name(image.device) if image.device.type == "cuda" else image.device.type
    autocast = str(torch.get_autocast_dtype(image.device.type)) if torch.is_autocast_enabled() else "float32"
    parts = [classifier.name, parameters, tuple(image.shape), device, torch.get_num_threads(), os.cpu_count()]
    parts += [
        torch.__version__,
        autocast,
        classifier.channels_last,
        "folded" if classifier.folding.enabled else "layer by layer",
        "gradient" if gradient else "forward",
    ]
    return " ".join(str(part) for part in parts)


def _cache_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "seewhy" / "batch_sizes.json"


def _read_cache() -> dict[str, int]:
    try:
        content = json.loads(_cache_file().read_text())
    except (OSError, ValueError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {key: size for key, size in entries if type(size) is int and size > 0}


class BatchedEvaluator:
    """A classifier with a bound on the number of images that are in it at once.

    `batch_size` is a number, or `auto` for the fastest on this machine. A batch that does not fit into memory is
    halved and tried again. Results do not depend on the bound, up to float rounding.
    """

    def __init__(self, classifier: Classifier, image: Tensor, batch_size: int | str = "auto") -> None:
        if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
            raise UserError(f"probe_batch_size={batch_size} must be auto or a whole number from 1")
        self.classifier = classifier
        self.batch_size = batch_size
        self._image = image
        self._limits: dict[bool, int] = {}

    def find_limit(self, gradient: bool) -> int:
        """The number of images in one pass without or with gradients."""
        if gradient not in self._limits:
            size = self.batch_size
            measured = find_batch_size(self.classifier, self._image, gradient) if isinstance(size, str) else size
            self._limits[gradient] = measured
        return self._limits[gradient]

    def split(self, total: int, gradient: bool) -> Iterator[Tensor]:
        """The indices 0 .. total - 1 in order, in pieces that fit into one pass of this evaluator."""
        start = 0
        while start < total:
            stop = min(total, start + self.find_limit(gradient))
            yield torch.arange(start, stop, device=self._image.device)
            start = stop

    def compute_logits(self, images: Images) -> Tensor:
        """Logits [n, classes] without gradients, in as many passes as needed."""

        def one(chunk: Tensor) -> tuple[Tensor]:
            with torch.no_grad():
                return (widen(self.classifier(images[_span(chunk)])),)

        return self.run_passes(one, len(images), gradient=False)[0]

    def compute_scores(self, images: Images, targets: Targets | Classes) -> Tensor:
        """The target's score [n] for each image, without gradients."""
        return Targets.of(targets).score(self.compute_logits(images))

    def compute_gradient(self, images: Images, targets: Targets | Classes) -> Tensor:
        """d score / d image [n, 3, height, width] for each image."""
        return self.compute_score_and_gradient(images, targets)[1]

    def compute_score_and_gradient(self, images: Images, targets: Targets | Classes) -> tuple[Tensor, Tensor]:
        """(the target's score [n], its gradient [n, 3, height, width])."""
        weighted = Targets.of(targets)

        def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
            leaves = images[_span(chunk)].detach().requires_grad_()
            with torch.enable_grad():
                score = weighted[_span(chunk)].score(widen(self.classifier(leaves)))
                (gradient,) = torch.autograd.grad(score.sum(), leaves)
            return score.detach(), gradient

        scores, gradient = self.run_passes(one, len(images), gradient=True)
        return scores, gradient

    def run_passes(
        self, one: Callable[[Tensor], tuple[Tensor, ...]], total: int, gradient: bool, images_each: int = 1
    ) -> tuple[Tensor, ...]:
        """What `one` makes of the indices of each pass, one after the other; each a tensor with one row per index.

        `images_each` is how many images `one` has in the network at once for an index. After an out-of-memory error the
        pass is made again with half the size.
        """
        done: list[tuple[Tensor, ...]] = []
        start = 0
        while start < total or not done:
            limit = max(1, self.find_limit(gradient) // images_each)
            count = min(limit, total - start)
            try:
                done.append(one(torch.arange(start, start + count, device=self._image.device)))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if count <= 1 or not is_out_of_memory(error):
                    raise
                self._limits[gradient] = max(1, count * images_each // 2)
                continue
            start += count
        return tuple(torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*done, strict=True))


def _span(chunk: Tensor) -> slice:
    """Consecutive indices as a slice, which copies nothing."""
    return slice(int(chunk[0]), int(chunk[-1]) + 1) if len(chunk) else slice(0, 0)
