"""Class activation maps: the activations of a layer, weighted by channel or position and enlarged to the image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from seewhy.core.errors import Incompatible, UserError
from seewhy.core.settings import Count, Text
from seewhy.core.tensors import widen
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.layer_signals import record_activation, record_activation_and_gradient
from seewhy.explainers.rounding import bound_score_differences
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.layers import find_cam_layer, remember, require_grid
from seewhy.models.tracing import trace_pass

if TYPE_CHECKING:
    from seewhy.models.cell_grid import CellGrid
    from seewhy.models.classifier import Classifier


class CamLayer:
    """The layer that a map is drawn from, with its output as [batch, channels, rows, columns].

    Args:
        evaluator: Runs the network in batches of bounded size.
        images: Float [batch, channels, height, width].
        name: Of the layer; None: that of `choose_layer`.

    Raises:
        Incompatible: When `grid` is read, if the layer has no grid of at least 2x2 cells.
    """

    def __init__(self, evaluator: BatchedEvaluator, images: Images, name: str | None) -> None:
        self.classifier = evaluator.classifier
        self.size = (images.shape[2], images.shape[3])
        self.name = choose_layer(self.classifier, self.size, name)
        self.module: nn.Module = self.classifier.find_layer(self.name)

    @cached_property
    def grid(self) -> CellGrid:
        """Where its cells look."""
        return require_grid(self.classifier, self.name, self.size)

    def read_features(self, images: Images) -> tuple[Tensor, Tensor]:
        """Read (activations, outputs of the network [batch, classes]), without gradients."""
        features, logits = record_activation(self.classifier, self.module, images)
        return self.grid.arrange(features), logits

    def read_features_and_gradient(self, images: Images, targets: Targets) -> tuple[Tensor, Tensor]:
        """Read (activations, d score / d activation).

        Incompatible where the class token alone counts behind the layer, so that the patches have no gradient.
        """
        features, gradient = record_activation_and_gradient(self.classifier, self.module, images, targets)
        grids = self.grid.arrange(features), self.grid.arrange(gradient)
        if bool(gradient.any()):
            self.check_counts(grids[1].any())
        return grids

    def check_counts(self, counts: Tensor) -> None:
        """Raise Incompatible where the patches of a transformer do not count, but its class token alone."""
        if self.grid.order is not None and not bool(counts):
            raise Incompatible(
                f"behind layer {self.name!r} only the class token counts, so that the patches have no gradient; set "
                f"explainer.layer={find_cam_layer(self.classifier, self.size)} or model.cam_layer to it"
            )


def choose_layer(classifier: Classifier, size: tuple[int, int], name: str | None) -> str:
    """Choose the layer of a class activation map.

    Args:
        classifier: The classifier.
        size: (height, width) of the images in pixels.
        name: What was asked for.

    Returns:
        `name`, else the classifier's `cam_layer`, else the last layer with a grid that every path from the image crosses.

    Raises:
        UserError: If the network has no layer of that name.
        Incompatible: If none is named and the network has no such layer.
    """
    chosen = name or classifier.cam_layer or find_cam_layer(classifier, size)
    classifier.find_layer(chosen)
    return chosen


@dataclass(frozen=True, kw_only=True)
class Cam(Explainer):
    """ReLU of a coarse map over the cells of a layer, enlarged bilinearly; never negative, not normalised.

    Where each cell looks is measured on the network. Pixels beyond the outermost cells have the value of the nearest one,
    those that no cell depends on are 0.

    Args:
        layer: Dotted name of a module that gives feature maps, tokens or windows (class and register tokens are dropped);
            None: the classifier's `cam_layer`, and where that is None too the last layer with a grid that every path from
            the image crosses.
    """

    layer: Text | None = None

    looks_inside: ClassVar[str] = "layers"
    signed: ClassVar[bool] = False
    rectified: ClassVar[bool] = True

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        layer = CamLayer(evaluator, images, self.layer)
        coarse = self._compute_coarse(evaluator, layer, images, targets)
        return AttributionResult(layer.grid.enlarge(coarse.relu()))

    def _resolve(self, classifier: Classifier, size: tuple[int, int]) -> Cam:
        """Name the layer that is used at this size."""
        return replace(self, layer=choose_layer(classifier, size, self.layer))

    @abstractmethod
    def _compute_coarse(self, evaluator: BatchedEvaluator, layer: CamLayer, images: Images, targets: Targets) -> Tensor:
        """The map [batch, rows, columns] before the ReLU."""


@dataclass(frozen=True, kw_only=True)
class GradientCam(Cam):
    """A class activation map from the activations of a layer and their gradient."""

    passes: ClassVar[tuple[int, int] | None] = (1, 1)
    is_local: ClassVar[bool] = True

    def _compute_coarse(self, evaluator: BatchedEvaluator, layer: CamLayer, images: Images, targets: Targets) -> Tensor:
        def compute(rows: Tensor) -> tuple[Tensor]:
            return (self._combine(*layer.read_features_and_gradient(images[rows], targets[rows])),)

        return evaluator.run_passes(compute, len(images), gradient=True)[0]

    @abstractmethod
    def _combine(self, features: Tensor, gradient: Tensor) -> Tensor:
        """Activations and gradient [batch, channels, rows, columns] -> map [batch, rows, columns] before the ReLU."""


@dataclass(frozen=True, kw_only=True)
class GradCam(GradientCam):
    """ReLU(sum over channels k of a_k A_k), a_k = mean over positions of d score / d A_k, enlarged bilinearly.

    A is the output of `layer`. Never negative; not normalised.
    Selvaraju et al.: Grad-CAM, ICCV 2017.
    """

    def _combine(self, features: Tensor, gradient: Tensor) -> Tensor:
        return weigh_channels(features, gradient.mean((2, 3)))


@dataclass(frozen=True, kw_only=True)
class GradCamPlusPlus(GradientCam):
    """ReLU(sum_k w_k A_k), w_k = sum_ij alpha_kij ReLU(g_kij), enlarged bilinearly; g = d score / d A_k at (i, j).

    alpha = g^2 / (2 g^2 + S_k g^3) with S_k = sum_ab A_kab. Where g > 0, the only positions that count, alpha * g is
    g / (2 + S_k g): computed so, no small constant is needed. The derivation assumes ReLU'd activations; a negative
    S_k counts as 0, which keeps alpha within (0, 1/2]. Never negative; not normalised.
    Chattopadhay et al.: Grad-CAM++, WACV 2018.
    """

    def _combine(self, features: Tensor, gradient: Tensor) -> Tensor:
        positive = gradient.relu()
        totals = features.sum((2, 3), keepdim=True).relu()
        return weigh_channels(features, (positive / (2 + totals * positive)).sum((2, 3)))


@dataclass(frozen=True, kw_only=True)
class LayerCam(GradientCam):
    """ReLU(sum_k ReLU(g_k) * A_k), g = d score / d A, enlarged bilinearly. Never negative; not normalised.

    Jiang et al.: LayerCAM, IEEE Transactions on Image Processing 2021.
    """

    def _combine(self, features: Tensor, gradient: Tensor) -> Tensor:
        return (gradient.relu() * features).sum(1)


@dataclass(frozen=True, kw_only=True)
class HiresCam(GradientCam):
    """ReLU(sum_k g_k * A_k), g = d score / d A, enlarged bilinearly: Grad-CAM without its average of the gradient.

    Where the network behind the layer is linear in it, the sum over the cells is the score without its bias: a cell has
    what it adds. Never negative; not normalised.
    Draelos, Carin: Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks, 2020.
    """

    def _combine(self, features: Tensor, gradient: Tensor) -> Tensor:
        return (gradient * features).sum(1)


@dataclass(frozen=True, kw_only=True)
class EigenCam(Cam):
    """ReLU(A v), v = first principal component of the activations A [positions, channels], enlarged bilinearly.

    Does not depend on the target. The sign of v is the one for which A v and the activations' mean over the channels have
    an inner product >= 0: with ReLU'd activations and `centred=false`, A v then has no negative value. Never negative; not
    normalised.
    Muhammad, Yeasin: Eigen-CAM, IJCNN 2020.

    Args:
        centred: Whether each channel's mean over the positions is taken off first, which suits layers with negative
            activations too; False: the singular vector of A as it is, as in the paper.
    """

    centred: bool = True

    rectified: ClassVar[bool] = False
    passes: ClassVar[tuple[int, int] | None] = (1, 0)

    def _compute_coarse(self, evaluator: BatchedEvaluator, layer: CamLayer, images: Images, targets: Targets) -> Tensor:
        def compute(rows: Tensor) -> tuple[Tensor]:
            features, _ = layer.read_features(images[rows])
            flat = features.flatten(2).transpose(1, 2)
            return (project_on_first_component(flat, self.centred).unflatten(1, features.shape[2:]),)

        return evaluator.run_passes(compute, len(images), gradient=False)[0]


@dataclass(frozen=True, kw_only=True)
class ScoreCam(Cam):
    """ReLU(sum_k w_k A_k), w = softmax over the channels of f(image * H_k), enlarged bilinearly.

    H_k is A_k enlarged bilinearly to the image and stretched to [0, 1]; f is the score, whose value for the black
    image, subtracted in the paper, cancels in the softmax. Channels that are the same everywhere say nothing about
    positions and weigh 0. Never negative; not normalised. Fact `score_spread`: how far the scores f(image * H_k) and
    f(image) are apart; where that is rounding, the weights say nothing of the network, and the map counts as zero.
    Wang et al.: Score-CAM, CVPR Workshops 2020; few channels: FasterScore-CAM (Li, 2020).

    Args:
        channels: How many channels to take, those of the largest variance over the positions; the others weigh 0. None:
            all.
    """

    channels: Count | None = None

    def list_warnings(self, facts: Mapping[str, float]) -> list[str]:
        """List scores that do not depend on the channels.

        Args:
            facts: Those of one map.

        Returns:
            At most one sentence.
        """
        if facts["score_spread"]:
            return []
        return ["no channel changes the score by more than its rounding, so that the map would not depend on the score"]

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        layer = CamLayer(evaluator, images, self.layer)
        coarse, spread = self._weigh(evaluator, layer, images, targets)
        maps = layer.grid.enlarge(coarse.relu()).masked_fill((spread == 0)[:, None, None], 0.0)
        return AttributionResult(maps, {"score_spread": spread})

    def _compute_coarse(self, evaluator: BatchedEvaluator, layer: CamLayer, images: Images, targets: Targets) -> Tensor:
        return self._weigh(evaluator, layer, images, targets)[0]

    def _weigh(
        self, evaluator: BatchedEvaluator, layer: CamLayer, images: Images, targets: Targets
    ) -> tuple[Tensor, Tensor]:
        """(map [batch, rows, columns] before the ReLU, spread of the scores [batch], 0 where it is rounding).

        The masked images of all channels and images fill the batches.
        """
        features, logits = evaluator.run_passes(
            lambda rows: layer.read_features(images[rows]), len(images), gradient=False
        )
        pairs = select_varied_channels(features, self.channels)
        scores = features.new_full(features.shape[:2], -torch.inf)
        for rows in evaluator.split(len(pairs), gradient=False):
            image, channel = pairs[rows].unbind(1)
            # pixels that no cell depends on count as its smallest value, whatever that is
            masks = stretch(layer.grid.enlarge(stretch(features[image, channel])))
            scores[image, channel] = evaluator.compute_scores(images[image] * masks[:, None], targets[image])
        own = targets.score(logits)[:, None].to(scores)
        spread = torch.cat([scores, own], 1).amax(1) - torch.cat(
            [torch.where(scores.isfinite(), scores, own), own], 1
        ).amin(1)
        rounding = bound_score_differences(layer.classifier, logits, targets, images)
        coarse = weigh_channels(features, scores.softmax(1).nan_to_num(0.0))
        return coarse, torch.where(spread > rounding, spread, 0.0)

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """One forward and one for each channel that is not constant; None where their number depends on the layer."""
        return None if self.channels is None else (self.channels + 1, 0)


@dataclass(frozen=True, kw_only=True)
class AblationCam(Cam):
    """ReLU(sum_k (f - f_k) A_k), enlarged bilinearly; f_k is the score with channel k of the layer at 0 in all cells.

    The paper divides by f, a factor of the whole map that would turn it over where the score is negative: left out. What
    lies below the layer runs once for each image, unless something passes the layer by. Fact `floor`: what the rounding of
    a difference of two scores makes of a value. Never negative; not normalised.
    Desai, Ramaswamy: Ablation-CAM, WACV 2020.
    """

    needs_float32: ClassVar[str] = "what one of many channels adds to the score is less than the score is rounded by"

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        layer = CamLayer(evaluator, images, self.layer)
        coarse, floor = self._weigh(evaluator, layer, images, targets)
        return AttributionResult(layer.grid.enlarge(coarse.relu()), floor=floor)

    def _compute_coarse(self, evaluator: BatchedEvaluator, layer: CamLayer, images: Images, targets: Targets) -> Tensor:
        return self._weigh(evaluator, layer, images, targets)[0]

    def _weigh(
        self, evaluator: BatchedEvaluator, layer: CamLayer, images: Images, targets: Targets
    ) -> tuple[Tensor, Tensor]:
        """(map [batch, rows, columns] before the ReLU, what rounding makes of its values [batch])."""
        layout = layer.grid.layout

        def read(rows: Tensor) -> tuple[Tensor, Tensor]:
            output, logits = record_activation(layer.classifier, layer.module, images[rows])
            return layout.divide(output), logits

        outputs, logits = evaluator.run_passes(read, len(images), gradient=False)
        features = layer.grid.arrange(layout.join(outputs))
        rounding = bound_score_differences(layer.classifier, logits, targets, images)
        upper = _UpperNetwork(layer, images, outputs, logits)
        pairs = (features != 0).flatten(2).any(2).nonzero()
        drops = features.new_zeros(features.shape[:2])
        for rows in evaluator.split(len(pairs), gradient=False, per_image=upper.share):
            image, channel = pairs[rows].unbind(1)
            ablated = upper(image, layer.grid.drop_channels(outputs, image, channel))
            drops[image, channel] = targets[image].score(logits[image]) - targets[image].score(ablated)
        layer.check_counts((drops.abs() > rounding[:, None]).any() | ~(features != 0).any())
        return weigh_channels(features, drops), rounding * features.abs().sum(1).amax((1, 2))


class _UpperNetwork:
    """The network above a layer: for rows of images and changed outputs of the layer, the logits [n, classes].

    Where everything from the image passes through the layer, one image runs through what lies below it for all rows, which
    are as many as what lies above needs no more memory for than a pass of full images;
    else, and where the upper network takes the number of images from the lower one, each row runs as a whole.
    """

    def __init__(self, layer: CamLayer, images: Images, outputs: Tensor, logits: Tensor) -> None:
        self.layer, self.images = layer, images
        self.runs, self.is_cut, self.share = remember(layer.classifier, ("cut", layer.name, layer.size), self._find_cut)
        if self.is_cut:
            twice = torch.zeros(2, dtype=torch.int64, device=images.device)
            try:
                near = 1e-3 * float(logits.abs().max())
                self.is_cut = torch.allclose(self(twice, outputs[twice]), logits[twice], rtol=1e-3, atol=near)
            except (UserError, RuntimeError):
                self.is_cut = False
        if not self.is_cut:
            self.share = 1

    def _find_cut(self) -> tuple[int, bool, int]:
        """(runs of the layer in a pass, whether all paths cross its last one, rows above it in the memory of an image)."""
        traced = trace_pass(self.layer.classifier, self.layer.size, self.layer.name)
        last = traced.outputs[-1].node
        return len(traced.outputs), last in traced.cuts, max(traced.sizes) // max(traced.sizes[last:])

    def __call__(self, image: Tensor, outputs: Tensor) -> Tensor:
        """Compute logits of images with these indices [n], whose outputs of the layer, by images, are `outputs`."""
        classifier, runs = self.layer.classifier, 0
        replacement = self.layer.grid.layout.join(outputs)

        def replace_last(module: nn.Module, arguments: object, own: Tensor) -> Tensor:
            nonlocal runs
            runs += 1
            return replacement.to(own) if runs % self.runs == 0 else own  # a pass may be made twice

        handle = self.layer.module.register_forward_hook(replace_last)
        try:
            with torch.no_grad():
                run = (
                    classifier.run_upper(self.images[:1], len(image)) if self.is_cut else classifier(self.images[image])
                )
                return widen(run)
        finally:
            handle.remove()


def weigh_channels(features: Tensor, weights: Tensor) -> Tensor:
    """Sum over channels of weights [batch, channels] times features: [batch, rows, columns]."""
    return torch.einsum("bkij,bk->bij", features, weights)


def project_on_first_component(activations: Tensor, centred: bool) -> Tensor:
    """Project activations [batch, positions, channels] on their first right singular vector: [batch, positions].

    From the eigenvectors of the smaller of A A' and A' A, in double precision.
    """
    values = activations.double()
    means = values.mean(2)
    if centred:
        values = values - values.mean(1, keepdim=True)
    if values.shape[1] <= values.shape[2]:
        eigenvalues, vectors = torch.linalg.eigh(values @ values.mT)
        projected = vectors[..., -1] * eigenvalues[:, -1:].clamp_min(0).sqrt()
    else:
        vectors = torch.linalg.eigh(values.mT @ values).eigenvectors
        projected = (values @ vectors[..., -1:])[..., 0]
    alike = (projected * means).sum(1, keepdim=True)
    return torch.where(alike < 0, -projected, projected).to(activations)


def select_varied_channels(features: Tensor, most: int | None) -> Tensor:
    """Select the `most` channels of each image with the largest variance, none of them constant: (image, channel) [n, 2]."""
    flat = features.flatten(2)
    varied = flat.amax(2) > flat.amin(2)
    if most is not None and most < varied.shape[1]:
        strongest = flat.var(2).topk(most, dim=1).indices
        varied &= torch.zeros_like(varied).scatter_(1, strongest, True)
    return varied.nonzero()


def stretch(maps: Tensor) -> Tensor:
    """Move and scale each map [n, height, width] so that its values run from 0 to 1; constant maps become 0."""
    lowest, highest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    spread = highest - lowest
    return (maps - lowest) / torch.where(spread > 0, spread, 1.0)
