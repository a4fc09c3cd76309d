"""The one place where perturbed images go through the network: bounded batches, gradients, counting."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from seewhy.batch_size import fastest_batch_size, out_of_memory
from seewhy.classifier import Classifier
from seewhy.errors import UserError
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
        """The indices 0 .. total - 1 in order, in pieces that fit into one pass."""
        start = 0
        while start < total:
            stop = min(total, start + self.limit(gradient))
            yield torch.arange(start, stop, device=self._image.device)
            start = stop

    def logits(self, images: Images) -> Tensor:
        """Logits [n, classes] without gradients, in as many passes as needed."""

        def one(chunk: slice) -> Tensor:
            with torch.no_grad():
                return self.classifier(images[chunk]).float()

        return self._in_passes(one, len(images), gradient=False)

    def scores(self, images: Images, targets: Targets) -> Tensor:
        """The target's logit [n] for each image, without gradients."""
        return self.logits(images).gather(1, targets[:, None])[:, 0]

    def gradient(self, images: Images, targets: Targets) -> Tensor:
        """d logit_target / d image [n, 3, height, width] for each image."""
        return self.score_and_gradient(images, targets)[1]

    def score_and_gradient(self, images: Images, targets: Targets) -> tuple[Tensor, Tensor]:
        """(the target's logit [n], its gradient [n, 3, height, width])."""
        scores = images.new_empty(len(images))

        def one(chunk: slice) -> Tensor:
            leaves = images[chunk].detach().requires_grad_()
            with torch.enable_grad():
                score = self.classifier(leaves).float().gather(1, targets[chunk][:, None])[:, 0]
                (gradient,) = torch.autograd.grad(score.sum(), leaves)
            scores[chunk] = score.detach()
            return gradient

        return scores, self._in_passes(one, len(images), gradient=True)

    def _in_passes(self, one: Callable[[slice], Tensor], total: int, gradient: bool) -> Tensor:
        """The results of all chunks, one after the other; after an out-of-memory error with half the batch size."""
        done: list[Tensor] = []
        start = 0
        while start < total or not done:
            limit = self.limit(gradient)
            try:
                done.append(one(slice(start, min(total, start + limit))))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if limit == 1 or not out_of_memory(error):
                    raise
                self._limits[gradient] = max(1, min(limit, total - start) // 2)
                continue
            start += limit
        return torch.cat(done) if len(done) > 1 else done[0]
