"""Batched evaluation of a classifier: bounded passes without and with gradients, at the fastest batch size."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.tensors import is_out_of_memory, widen
from seewhy.core.types import Classes, Images, Targets

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

CANDIDATES = {
    "cpu": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "cuda": (16, 32, 64, 128, 256, 512),
    "mps": (8, 16, 32, 64, 128),
}
"""Batch sizes to be timed, by the kind of device."""
ROUNDS = 3
"""How often each size is timed, after one round to warm up."""
LONG_PASS, LONGEST_PASS = 0.5, 1.0
"""Seconds of a pass after which no larger size is tried, so that measuring stays short: the first unless it gained."""
CLEAR_GAIN = 1.1
"""A pass that was so much faster an image than one of half the size promises that a larger one is faster still."""
LARGEST_SPREAD = 1.5
"""The best two timings of the chosen size may differ by this factor."""
MINIMUM_GAIN = 1.03
"""A larger batch is taken only when it is at least this much faster: it also needs more memory."""


def find_batch_size(classifier: Classifier, image: Tensor, gradient: bool) -> int:
    """Find the number of images in one pass at which the classifier is fastest on this machine.

    A classifier keeps to the size that it began with, so that all passes of a run agree; the run records it, and a
    resumed run begins with it. The size is measured once for each network, image size, device, number of threads and
    torch version, then kept in the user's cache folder, so that later runs use the same size and give the same bytes.
    Where the machine is too busy to measure, `estimate_batch_size` is taken and kept.

    Args:
        classifier: The classifier, in evaluation mode.
        image: One image [channels, height, width] on the device of the classifier.
        gradient: Whether a pass includes the gradient by the images.

    Returns:
        The number of images.
    """
    kind = name_pass(image, gradient)
    if kind not in classifier.batch_sizes:
        key = name_measurement(classifier, image, gradient)
        size = read_batch_sizes().get(key)
        if size is None:
            size = _measure(classifier, image, gradient) or estimate_batch_size(image)
            with contextlib.suppress(OSError):
                save_batch_sizes({key: size})
        classifier.batch_sizes[kind] = size
    return classifier.batch_sizes[kind]


def name_pass(image: Tensor, gradient: bool) -> str:
    """Name a kind of pass in the record of a run.

    Args:
        image: One image [channels, height, width].
        gradient: Whether a pass includes the gradient by the images.

    Returns:
        Such as `gradient 3x224x224`.
    """
    return f"{'gradient' if gradient else 'forward'} {'x'.join(map(str, image.shape))}"


def estimate_batch_size(image: Tensor) -> int:
    """Estimate a batch size without measuring: right for most networks on most processors.

    Args:
        image: One image [channels, height, width].

    Returns:
        The power of two nearest to as many pixels as 8 images of 224x224 have, from 1 to 256.
    """
    share = 8 * 224**2 / (image.shape[-2] * image.shape[-1])
    return int(min(256, max(1, 2 ** round(math.log2(share)))))


def read_batch_sizes() -> dict[str, int]:
    """Read the batch sizes that were measured on this machine, by what they were measured for."""
    try:
        content = json.loads(_find_cache_file().read_text())
    except (OSError, ValueError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {key: size for key, size in entries if type(size) is int and size > 0}


def save_batch_sizes(sizes: Mapping[str, int]) -> None:
    """Add batch sizes to those that were measured on this machine.

    Args:
        sizes: Batch sizes by what they were measured for.

    Raises:
        OSError: The user's cache folder cannot be written to.
    """
    path = _find_cache_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(json.dumps({**read_batch_sizes(), **sizes}, indent=2) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _find_cache_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "seewhy" / "batch_sizes.json"


def _measure(classifier: Classifier, image: Tensor, gradient: bool) -> int | None:
    """The size with the most images per second, or None where the timings of that size disagree too much.

    Every size is timed in every round, so that a busy moment hits all; the first round only warms up.
    """
    counted = dataclasses.replace(classifier.passes)
    seconds: dict[int, list[float]] = {}
    before = math.inf
    for turn in range(ROUNDS + 1):
        for size in CANDIDATES.get(image.device.type, CANDIDATES["cpu"]) if not turn else list(seconds):
            if not turn and classifier.folding.compiled is not None:
                _time_pass(classifier, image, size, gradient)  # compiles
            spent = _time_pass(classifier, image, size, gradient)
            if spent is None:
                seconds.pop(size, None)
                break
            seconds.setdefault(size, []).extend([spent] if turn else [])
            if not turn and _ends_search(spent / size, before, spent):
                break
            before = spent / size
    classifier.passes = counted
    best = min(seconds)
    for size in sorted(seconds):
        if size / min(seconds[size]) > MINIMUM_GAIN * best / min(seconds[best]):
            best = size
    return best if sorted(seconds[best])[1] < LARGEST_SPREAD * min(seconds[best]) else None


def _ends_search(each: float, before: float, seconds: float) -> bool:
    """Whether no larger size is worth its time: after a long pass that gained little an image, and after a very long one."""
    return seconds > LONGEST_PASS or (seconds > LONG_PASS and CLEAR_GAIN * each > before)


def _time_pass(classifier: Classifier, image: Tensor, size: int, gradient: bool) -> float | None:
    """Seconds of one pass; None where memory runs out."""
    images = image.expand(size, -1, -1, -1).clone()
    _synchronise(image)
    start = time.perf_counter()
    try:
        _run_pass(classifier, images, gradient)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if size == 1 or not is_out_of_memory(error):
            raise
        return None
    _synchronise(image)
    return time.perf_counter() - start


def _run_pass(classifier: Classifier, images: Tensor, gradient: bool) -> None:
    with torch.set_grad_enabled(gradient):
        leaves = images.detach().requires_grad_(gradient)
        total = classifier(leaves).sum()
        if gradient:
            torch.autograd.grad(total, leaves)


def _synchronise(image: Tensor) -> None:
    if image.device.type == "cuda":
        torch.cuda.synchronize(image.device)


def name_measurement(classifier: Classifier, image: Tensor, gradient: bool) -> str:
    """Name what a batch size was measured for: network, image size, device, threads, versions, kind of pass.

    Args:
        classifier: The classifier.
        image: One image [channels, height, width].
        gradient: Whether a pass includes the gradient by the images.

    Returns:
        The key in `read_batch_sizes`.
    """
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    device = torch.cuda.get_device_name(image.device) if image.device.type == "cuda" else image.device.type
    autocast = str(classifier.narrow or "float32")
    words = [classifier.name, parameters, tuple(image.shape), device, torch.get_num_threads(), os.cpu_count()]
    words += [
        torch.__version__,
        autocast,
        classifier.channels_last,
        _name_arithmetic(classifier),
        "gradient" if gradient else "forward",
    ]
    return " ".join(str(word) for word in words)


def _name_arithmetic(classifier: Classifier) -> str:
    if classifier.folding.compiled is not None:
        return "compiled"
    return "folded" if classifier.folding.enabled else "layer by layer"


class BatchedEvaluator:
    """A classifier with a bound on the number of images that are in it at once.

    A batch that does not fit into memory is halved and tried again. Results do not depend on the bound, up to float
    rounding.

    Args:
        classifier: The classifier.
        image: One image [channels, height, width] like those to be evaluated: its size and device count.
        batch_size: The most images in one pass, or `auto` for the fastest number on this machine.

    Raises:
        UserError: The batch size is neither.
    """

    def __init__(self, classifier: Classifier, image: Tensor, batch_size: int | str = "auto") -> None:
        if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
            raise UserError(f"probe_batch_size={batch_size} must be auto or a whole number from 1")
        self.classifier = classifier
        self.batch_size = batch_size
        self._image = image
        self._limits: dict[bool, int] = {}

    def find_limit(self, gradient: bool) -> int:
        """Find the most images in one pass.

        Args:
            gradient: Whether a pass includes the gradient by the images.

        Returns:
            The number of images; smaller than at first after a pass that did not fit into memory.
        """
        if gradient not in self._limits:
            size = self.batch_size
            limit = find_batch_size(self.classifier, self._image, gradient) if isinstance(size, str) else size
            self._limits[gradient] = limit
        return self._limits[gradient]

    def split(self, total: int, gradient: bool, per_image: int = 1) -> Iterator[Tensor]:
        """Split rows into chunks that each fit into one pass.

        Args:
            total: The number of rows: of images, or of versions of images that are built chunk by chunk.
            gradient: Whether a pass includes the gradient by the images.
            per_image: Rows that need no more memory than one image.

        Yields:
            int64 [n], the indices 0 .. total - 1 in order.
        """
        start = 0
        while start < total:
            stop = min(total, start + self.find_limit(gradient) * per_image)
            yield torch.arange(start, stop, device=self._image.device)
            start = stop

    def compute_logits(self, images: Images) -> Tensor:
        """Compute the logits of images, in as many passes as needed.

        Args:
            images: [n, channels, height, width] in [0, 1].

        Returns:
            [n, classes] without gradients, float32 at least.
        """

        def run(chunk: Tensor) -> tuple[Tensor]:
            with torch.no_grad():
                return (widen(self.classifier(images[_as_slice(chunk)])),)

        return self.run_passes(run, len(images), gradient=False)[0]

    def compute_scores(self, images: Images, targets: Targets | Classes) -> Tensor:
        """Compute the score of each image's target.

        Args:
            images: [n, channels, height, width] in [0, 1].
            targets: The target of each image.

        Returns:
            weights . logits [n], without gradients.
        """
        return Targets.of(targets).score(self.compute_logits(images))

    def compute_gradient(self, images: Images, targets: Targets | Classes) -> Tensor:
        """Compute the gradient of each image's score by the image.

        Args:
            images: [n, channels, height, width] in [0, 1].
            targets: The target of each image.

        Returns:
            d score / d image [n, channels, height, width].
        """
        return self.compute_score_and_gradient(images, targets)[1]

    def compute_score_and_gradient(self, images: Images, targets: Targets | Classes) -> tuple[Tensor, Tensor]:
        """Compute the score of each image's target and its gradient by the image, in one pass each way.

        Args:
            images: [n, channels, height, width] in [0, 1].
            targets: The target of each image.

        Returns:
            weights . logits [n], and its gradient [n, channels, height, width].
        """
        weighted = Targets.of(targets)

        def run(chunk: Tensor) -> tuple[Tensor, Tensor]:
            rows = _as_slice(chunk)
            leaves = images[rows].detach().requires_grad_()
            with torch.enable_grad():
                score = weighted[rows].score(widen(self.classifier(leaves)))
                (gradient,) = torch.autograd.grad(score.sum(), leaves)
            return score.detach(), gradient

        scores, gradient = self.run_passes(run, len(images), gradient=True)
        return scores, gradient

    def run_passes(
        self, run: Callable[[Tensor], tuple[Tensor, ...]], total: int, gradient: bool, images_each: int = 1
    ) -> tuple[Tensor, ...]:
        """Run a function on rows, pass by pass; a pass that does not fit into memory is run again at half the size.

        Args:
            run: Computes tensors with one row for each index of a chunk int64 [n]; raises where memory runs out.
            total: The number of rows.
            gradient: Whether a pass includes the gradient by the images.
            images_each: How many images `run` has in the network at once for one row.

        Returns:
            The tensors of all passes, joined [total, ...].
        """
        results: list[tuple[Tensor, ...]] = []
        start = 0
        while start < total or not results:
            limit = max(1, self.find_limit(gradient) // images_each)
            count = min(limit, total - start)
            try:
                results.append(run(torch.arange(start, start + count, device=self._image.device)))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if count <= 1 or not is_out_of_memory(error):
                    raise
                self._limits[gradient] = max(1, count * images_each // 2)
                if self.batch_size == "auto":
                    self.classifier.batch_sizes[name_pass(self._image, gradient)] = self._limits[gradient]
                continue
            start += count
        return tuple(torch.cat(chunks) if len(chunks) > 1 else chunks[0] for chunks in zip(*results, strict=True))


def _as_slice(chunk: Tensor) -> slice:
    """Consecutive indices as a slice, which copies nothing."""
    return slice(int(chunk[0]), int(chunk[-1]) + 1) if len(chunk) else slice(0, 0)
