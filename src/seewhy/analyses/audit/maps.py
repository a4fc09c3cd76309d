"""What an audit knows of every image: its map and features in small, and its prediction."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seewhy.analyses.audit.pictures import Pictures, Rows, Values, shrink
from seewhy.core.errors import Incompatible, UserError, name_images
from seewhy.core.files import RunFolder
from seewhy.core.random import seed_generator
from seewhy.core.types import Batch, Images, Targets
from seewhy.explainers.base import Explainer
from seewhy.metrics.imputation import draw_noise, pull_and_push
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.cell_grid import CellGrid, GridAxis
from seewhy.models.classifier import Classifier
from seewhy.models.layers import find_cam_layer, require_grid

FOLDER = "audit"
"""Of what is done, below the run folder."""
PIXELS = "pixels.npy"
"""All images one behind the other, in the folder of what is done; removed at the end of the run."""
LARGEST = 2**31
"""Bytes of the largest file of what is done that is read."""
APART = ("around", "fall_without_object", "fall_without_rest", "changes_without_object", "changes_without_rest")
"""Share of the image outside of the mask; loss of the predicted class's probability where the object is imputed from the
rest of the image, or the rest from the object; and whether another class is predicted then (1) or not (0)."""


@dataclass(frozen=True)
class Facts:
    """What is known of some images, a row each.

    Attributes:
        maps: Positive part of the map for the predicted class, averaged over cells and with sum 1 [n, rows, columns].
        appearance: Features of the last layer with a grid, each cell weighted by its share of the map [n, channels]; of a
            network without such a layer the logarithms of the probabilities.
        probabilities: Of each class [n, classes].
        outside: Share of the map outside of the object's mask [n]; NaN without a mask.
        labels: Index of the true class [n]; -1 where it is unknown.
        apart: What the object's mask says beside `outside` [n, 5], in the order of `APART`; NaN without a mask.
    """

    maps: Values
    appearance: Values
    probabilities: Values
    outside: Values
    labels: Rows
    apart: Values

    @property
    def predicted(self) -> Rows:
        """Index of the likeliest class [n]."""
        return self.probabilities.argmax(1)


def average_cells(maps: Tensor, grid: CellGrid) -> Tensor:
    """Sum maps over the cells of a layer, where these lie in the image.

    Args:
        maps: Float [n, height, width].
        grid: Of the layer.

    Returns:
        Float [n, rows, columns].
    """
    return _overlap(grid.rows).to(maps) @ maps @ _overlap(grid.columns).to(maps).T


def _overlap(axis: GridAxis) -> Tensor:
    """Share of each pixel that lies in each cell [cells, pixels]."""
    pixels = torch.arange(axis.size, dtype=torch.float64)
    first = (axis.start + axis.stride * torch.arange(axis.cells, dtype=torch.float64))[:, None]
    return (torch.minimum(pixels + 1, first + axis.stride) - torch.maximum(pixels, first)).clamp(0, 1)


class Reader:
    """Explains images batch by batch; what the run folder holds of the same images is not computed again.

    Args:
        classifier: The network.
        explainer: The method.
        folder: The run folder.
        plan: Digest of what decides the results.
        batch_size: Images in the network at once, or `auto`.
        seed: Of the noise of what is imputed.
    """

    def __init__(
        self,
        classifier: Classifier,
        explainer: Explainer,
        folder: RunFolder,
        plan: str,
        batch_size: int | str,
        seed: int = 0,
    ) -> None:
        self.classifier, self.explainer, self.folder = classifier, explainer, folder
        self.plan, self.batch_size, self.seed = plan, batch_size, seed
        self.before = 0
        self._all = hashlib.blake2b(digest_size=16)

    @property
    def digest(self) -> str:
        """Digest of the plan and of all images that were read, with their labels and masks."""
        return self._all.hexdigest()

    def read(self, batches: Iterable[Batch], choose: Callable[[Rows], Rows]) -> tuple[Pictures, Facts]:
        """Read and predict all images, then explain those that are chosen.

        Args:
            batches: Of the data.
            choose: Takes the predicted class of each image [n] before anything is explained, and returns the rows in order
                of the images that the audit keeps.

        Returns:
            (the images that were kept, what is known of each).

        Raises:
            UserError: There is no image.
        """
        pictures = Pictures(self.folder.path / FOLDER / PIXELS)
        waiting: list[tuple[int, str, Batch, Facts | None]] = []
        predicted: list[Rows] = []
        for number, batch in enumerate(batches):
            if not len(batch.images):
                continue
            pictures.add(batch)
            digest = self._digest(batch)
            self._all.update(digest.encode())
            part = self._restore(number, digest)
            if part is None and not waiting:
                self._explain(batch.first(1))  # a method that refuses the network does so before all images are read
            predicted.append(self._predict(batch) if part is None else part.predicted)
            waiting.append((number, digest, _pack(batch), part))
        if not waiting:
            raise UserError("no image could be read: an audit needs images like those that the network is for")
        chosen = choose(np.concatenate(predicted))
        parts, start = [], 0
        for (number, digest, packed, part), classes in zip(waiting, predicted, strict=True):
            rows = chosen[(chosen >= start) & (chosen < start + len(classes))]
            places, start = rows - start, start + len(classes)
            if not len(rows):
                continue
            if len(rows) < len(classes):
                digest = f"{digest} {places.tolist()}"
                part = self._restore(number, digest)
            if part is None:
                part = self._explain(_unpack(packed, places, pictures.gather(rows)))
                self._keep(number, digest, part)
            else:
                self.before += len(rows)
            parts.append(part)
        pictures.keep(chosen)
        joined = {key: np.concatenate([getattr(part, key) for part in parts]) for key in Facts.__annotations__}
        return pictures, Facts(**joined)

    def _predict(self, batch: Batch) -> Rows:
        """The predicted class of each image [n]."""
        images = batch.images.to(self.classifier.mean)
        with name_images(batch.names), self.classifier.frozen():
            logits = BatchedEvaluator(self.classifier, images[0], self.batch_size).compute_logits(images)
        return np.asarray(logits.argmax(1).cpu().numpy(), dtype=np.int64)

    def _digest(self, batch: Batch) -> str:
        content = hashlib.blake2b(f"{self.plan} {batch.names} {batch.masks is None}".encode(), digest_size=16)
        for values in (batch.images, batch.labels, *([] if batch.masks is None else [batch.masks])):
            content.update(values.detach().cpu().contiguous().numpy().tobytes())
        return content.hexdigest()

    def _restore(self, number: int, digest: str) -> Facts | None:
        """What is known of a batch; None where it is to be computed."""
        try:
            with self.folder.open(f"{FOLDER}/batch_{number:05d}.npz") as file:
                stored = np.load(io.BytesIO(file.read(LARGEST)), allow_pickle=False)
                if str(stored["digest"]) != digest:
                    return None
                return Facts(**{key: stored[key] for key in Facts.__annotations__})
        except (OSError, ValueError, KeyError, EOFError, SyntaxError):
            return None

    def _keep(self, number: int, digest: str, facts: Facts) -> None:
        content = io.BytesIO()
        np.savez(content, digest=np.array(digest), **vars(facts))
        self.folder.write_bytes(f"{FOLDER}/batch_{number:05d}.npz", content.getvalue())

    def _explain(self, batch: Batch) -> Facts:
        network, images = self.classifier, batch.images.to(self.classifier.mean)
        with name_images(batch.names):
            logits, features, grid = self._look(images)
            maps = self.explainer(network, images, Targets.of(logits.argmax(1))).double().cpu().clamp_min(0)
        maps = torch.where(maps.isfinite(), maps, 0.0)
        maps /= maps.flatten(1).sum(1).clamp_min(torch.finfo(torch.float64).tiny)[:, None, None]
        outside = torch.full((len(images),), torch.nan, dtype=torch.float64)
        if batch.masks is not None:
            masks = batch.masks.cpu()
            shares = (maps * ~masks).flatten(1).sum(1)
            outside = torch.where(masks.flatten(1).any(1) & (maps.flatten(1).sum(1) > 0), shares, torch.nan)
        labels = batch.labels.cpu() if batch.labels.ndim == 1 else torch.full((len(images),), -1)
        small = shrink(maps[:, None])[:, 0]
        small = small / small.flatten(1).sum(1).clamp_min(torch.finfo(torch.float64).tiny)[:, None, None]
        probabilities = network.facts.compute_probabilities(logits.double()).cpu()
        appearance = probabilities.clamp_min(1e-12).log()
        if features is not None and grid is not None:
            cells = average_cells(maps, grid)
            weights = cells / cells.flatten(1).sum(1).clamp_min(torch.finfo(torch.float64).tiny)[:, None, None]
            appearance = (features.double() * weights[:, None]).flatten(2).sum(2)
        apart = self._take_apart(batch, probabilities)
        values = (small, appearance, probabilities, outside, labels.long(), apart)
        return Facts(*(each.numpy() for each in values))

    def _take_apart(self, batch: Batch, probabilities: Tensor) -> Tensor:
        """What happens to the prediction without the object and without the rest [n, 5], in the order of `APART`."""
        apart = torch.full((len(batch.images), len(APART)), torch.nan, dtype=torch.float64)
        if batch.masks is None:
            return apart
        masks, images = batch.masks.cpu(), batch.images.cpu()
        rows = (masks.flatten(1).any(1) & ~masks.flatten(1).all(1)).nonzero().flatten()
        if not len(rows):
            return apart
        masks, images, before = masks[rows], images[rows], probabilities[rows]
        evaluator = BatchedEvaluator(self.classifier, images[0].to(self.classifier.mean), self.batch_size)
        after = [compute_images(evaluator, [impute(images, hidden, self.seed)]) for hidden in (masks, ~masks)]
        best = before.argmax(1)
        falls = [(before - each).gather(1, best[:, None])[:, 0] for each in after]
        changes = [(each.argmax(1) != best).double() for each in after]
        apart[rows] = torch.stack([(~masks).flatten(1).double().mean(1), *falls, *changes], 1)
        return apart

    def _look(self, images: Images) -> tuple[Tensor, Tensor | None, CellGrid | None]:
        """(logits, features of the last layer with a grid [n, channels, rows, columns] on the processor, the grid)."""
        network, kept = self.classifier, []
        evaluator, size = BatchedEvaluator(network, images[0], self.batch_size), (images.shape[2], images.shape[3])
        try:
            layer = network.cam_layer or find_cam_layer(network, size)
            grid = require_grid(network, layer, size)
        except Incompatible:
            with network.frozen():
                return evaluator.compute_logits(images), None, None

        def keep(module: Any, arguments: Any, output: Tensor) -> None:
            kept.append(output.detach())

        def run(chunk: Tensor) -> tuple[Tensor, Tensor]:
            kept.clear()
            with torch.no_grad():
                logits = network(images[chunk])
            return logits, grid.arrange(kept[-1]).cpu()

        handle = network.find_layer(layer).register_forward_hook(keep)
        try:
            with network.evaluating():
                logits, features = evaluator.run_passes(run, len(images), gradient=False)
        finally:
            handle.remove()
        return logits, features, grid


def _pack(batch: Batch) -> Batch:
    """A batch without its images, and with eight pixels of its masks a byte."""
    masks = None if batch.masks is None else torch.from_numpy(np.packbits(batch.masks.cpu().numpy(), axis=2))
    return batch._replace(images=batch.images[:0], masks=masks)


def _unpack(packed: Batch, places: Rows, images: Images) -> Batch:
    """Some images of a batch with all that belongs to them."""
    rows = torch.from_numpy(places)
    masks = packed.masks
    if masks is not None:
        masks = torch.from_numpy(np.unpackbits(masks[rows].numpy(), axis=2, count=images.shape[3])).bool()
    names, paths, label_names = (
        [values[place] for place in places.tolist()] if values else values
        for values in (packed.names, packed.paths, packed.label_names)
    )
    return packed._replace(
        images=images, labels=packed.labels[rows], names=names, paths=paths, label_names=label_names, masks=masks
    )


def impute(images: Images, hidden: Tensor, seed: int) -> Images:
    """Fill hidden pixels from what lies around them.

    Args:
        images: float32 [n, channels, height, width] in [0, 1].
        hidden: bool [n, height, width]; at least one pixel of each image must be visible.
        seed: Of the noise.

    Returns:
        float32 [n, channels, height, width].
    """
    noises = torch.stack([draw_noise(each.shape, seed_generator(seed, each, "audit")) for each in images])
    return pull_and_push(images, hidden, noises)


def compute_images(evaluator: BatchedEvaluator, images: Iterator[Images] | Iterable[Images]) -> Tensor:
    """Compute the probabilities of images that are made a few at a time.

    Args:
        evaluator: Of the network.
        images: Parts [n, channels, height, width].

    Returns:
        float64 [all, classes] on the processor.
    """
    network = evaluator.classifier
    with network.frozen():
        parts = [evaluator.compute_logits(part.to(network.mean)).double().cpu() for part in images]
    return network.facts.compute_probabilities(torch.cat(parts))
