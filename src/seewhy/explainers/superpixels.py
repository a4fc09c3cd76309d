"""SLIC superpixels, and the scores of images of which some superpixels are covered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.tensors import iterate_runs, map_in_threads
from seewhy.core.types import Images, Targets
from seewhy.explainers.rounding import compute_scores_with_rounding
from seewhy.models.batched import BatchedEvaluator

BLOCK = 512
"""Masks drawn at a time: the memory does not depend on the number of masks."""
COMPACTNESS = 20.0
"""Weight of the position beside the colour; below it, and without the blur, the superpixels of noise all merge into one."""
SIGMA = 1.0
"""Standard deviation in pixels of the Gaussian blur before the clustering."""


@dataclass(frozen=True)
class Coalitions:
    """Evaluates images of which only some superpixels are visible.

    Args:
        evaluator: Runs the network in batches of bounded size.
        images: Float [batch, channels, height, width].
        cover: What hidden superpixels show, of the shape of the images.
        labels: The superpixel of each pixel, int64 [batch, height, width].
        targets: The class of each image, int64 [batch].
    """

    evaluator: BatchedEvaluator
    images: Images
    cover: Images
    labels: Tensor
    targets: Targets

    def compute_scores(self, image: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the target's score where superpixel s of image `image[i]` is visible if `visible[i, s]`.

        Args:
            image: Indices of images in ascending order, int64 [n].
            visible: Bool [n, superpixels].

        Returns:
            (scores, what rounding makes of their differences), float64 [n] each, on the CPU.
        """
        image, visible = image.to(self.labels.device), visible.to(self.images)
        scores, rounding = self.images.new_empty(2, len(image)).unbind(0)
        for chunk in self.evaluator.split(len(image), gradient=False):
            rows = image[chunk]
            masks = visible[chunk].gather(1, self.labels.flatten(1)[rows]).view(-1, 1, *self.labels.shape[1:])
            scores[chunk], rounding[chunk] = compute_scores_with_rounding(
                self.evaluator, blend(self.images, self.cover, rows, masks), self.targets[rows]
            )
        return scores.cpu().double(), rounding.cpu().double()


def segment_images(images: Images, n_segments: int) -> tuple[Tensor, list[int]]:
    """Divide each image into about `n_segments` superpixels with the SLIC of scikit-image.

    k-means in CIELAB colour and position; each superpixel is one connected region. There are usually somewhat fewer than
    asked for, and only a small grid of them (36 for 50 at 32 x 32 pixels) where the image is small. The same image gives
    the same labels on every device.
    Achanta et al.: SLIC superpixels compared to state-of-the-art superpixel methods, PAMI 2012.

    Args:
        images: Float [batch, 3, height, width] in [0, 1]: RGB, or of other channels what is shown of them.
        n_segments: From 1 to the number of pixels.

    Returns:
        (labels int64 [batch, height, width], numbered from 0 without gaps; number of superpixels of each image).

    Raises:
        UserError: If there are fewer pixels than superpixels.
    """
    height, width = images.shape[2:]
    if n_segments > height * width:
        raise UserError(
            f"explainer.n_segments={n_segments} is more than the {height * width} pixels of the image; choose fewer"
        )
    pictures = images.detach().permute(0, 2, 3, 1).cpu().double().numpy()
    labels = map_in_threads(lambda picture: _run_slic(picture, n_segments), pictures)
    return torch.from_numpy(np.stack(labels)).to(images.device), [int(each.max()) + 1 for each in labels]


def blend(images: Images, cover: Images, image: Tensor, masks: Tensor) -> Images:
    """Blend images[image] where `masks` [n, 1, height, width] is 1 with cover[image] where it is 0."""
    blended = images.new_empty(len(image), *images.shape[1:])
    for item, rows in iterate_runs(image):
        torch.lerp(cover[item], images[item], masks[rows], out=blended[rows])
    return blended


def _run_slic(picture: NDArray[np.float64], n_segments: int) -> NDArray[np.int64]:
    """Labels [height, width] of a picture [height, width, channels]."""
    from skimage.segmentation import slic

    labels = slic(picture, n_segments, compactness=COMPACTNESS, sigma=SIGMA, start_label=0)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
