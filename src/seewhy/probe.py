"""The one place where perturbed images go through the network: bounded batches, gradients, counting."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from seewhy.batch_size import fastest_batch_size, out_of_memory
from seewhy.classifier import Classifier
from seewhy.errors import UserError
from seewhy.precision import widen
from seewhy.types import Images, Targets


class Probe:
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

    def limit(self, gradient: bool) -> int:
        """The number of images in one pass without or with gradients."""
        if gradient not in self._limits:
            size = self.batch_size
            measured = fastest_batch_size(self.classifier, self._image, gradient) if isinstance(size, str) else size
            self._limits[gradient] = measured
        return self._limits[gradient]

    def chunks(self, total: int, gradient: bool) -> Iterator[Tensor]:
        """The indices 0 .. total - 1 in order, in pieces that fit into one pass of this probe."""
        start = 0
        while start < total:
            stop = min(total, start + self.limit(gradient))
            yield torch.arange(start, stop, device=self._image.device)
            start = stop

    def logits(self, images: Images) -> Tensor:
        """Logits [n, classes] without gradients, in as many passes as needed."""

        def one(chunk: Tensor) -> tuple[Tensor]:
            with torch.no_grad():
                return (widen(self.classifier(images[_span(chunk)])),)

        return self.in_passes(one, len(images), gradient=False)[0]

    def scores(self, images: Images, targets: Targets) -> Tensor:
        """The target's logit [n] for each image, without gradients."""
        return self.logits(images).gather(1, targets[:, None])[:, 0]

    def gradient(self, images: Images, targets: Targets) -> Tensor:
        """d logit_target / d image [n, 3, height, width] for each image."""
        return self.score_and_gradient(images, targets)[1]

    def score_and_gradient(self, images: Images, targets: Targets) -> tuple[Tensor, Tensor]:
        """(the target's logit [n], its gradient [n, 3, height, width])."""

        def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
            leaves = images[_span(chunk)].detach().requires_grad_()
            with torch.enable_grad():
                score = widen(self.classifier(leaves)).gather(1, targets[_span(chunk)][:, None])[:, 0]
                (gradient,) = torch.autograd.grad(score.sum(), leaves)
            return score.detach(), gradient

        scores, gradient = self.in_passes(one, len(images), gradient=True)
        return scores, gradient

    def in_passes(
        self, one: Callable[[Tensor], tuple[Tensor, ...]], total: int, gradient: bool, images_each: int = 1
    ) -> tuple[Tensor, ...]:
        """What `one` makes of the indices of each pass, one after the other; each a tensor with one row per index.

        `images_each` is how many images `one` has in the network at once for an index. After an out-of-memory error the
        pass is made again with half the size.
        """
        done: list[tuple[Tensor, ...]] = []
        start = 0
        while start < total or not done:
            limit = max(1, self.limit(gradient) // images_each)
            count = min(limit, total - start)
            try:
                done.append(one(torch.arange(start, start + count, device=self._image.device)))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if count <= 1 or not out_of_memory(error):
                    raise
                self._limits[gradient] = max(1, count * images_each // 2)
                continue
            start += count
        return tuple(torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*done, strict=True))


def _span(chunk: Tensor) -> slice:
    """Consecutive indices as a slice, which copies nothing."""
    return slice(int(chunk[0]), int(chunk[-1]) + 1) if len(chunk) else slice(0, 0)
