"""What pytorch-grad-cam and torchcam make of the same layer: their map at the layer's size, enlarged as ours is."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from oracles.networks import Case, grid
from seewhy.models.layers import require_grid

Maps = Callable[[Case], Tensor]


def enlarged(small: Tensor, case: Case) -> Tensor:
    """Where our layer looks: where a peer puts its map in the image is its own choice."""
    return place(small.relu(), case)


def place(small: Tensor, case: Case) -> Tensor:
    """Maps at the layer's size, [..., rows, columns], where that layer looks in the image."""
    size = (case.images.shape[2], case.images.shape[3])
    grid = require_grid(case.classifier, case.layer, size)
    return grid.enlarge(small.flatten(0, -3)).unflatten(0, small.shape[:-2])


def from_zero(small: Tensor) -> Tensor:
    """Activations whose smallest value is 0, as that of pixels that no cell depends on: masks are stretched afterwards."""
    return small - small.amin((-2, -1), keepdim=True)


def reshape(case: Case) -> Any:
    """Both peers want to be told how tokens become a grid."""
    return grid if hasattr(case.classifier.network, "patch_embed") else None


class Placed(nn.Module):
    """In place of UpsamplingBilinear2d, which stretches a map over the whole image, corner to corner."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def forward(self, maps: Tensor) -> Tensor:
        return place(from_zero(maps), self.case)


def grad_cam(name: str, options: Callable[[Case], dict[str, Any]] = lambda case: {}) -> Maps:
    """A class of pytorch_grad_cam by name."""

    def maps(case: Case) -> Tensor:
        import pytorch_grad_cam as library
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        small: list[np.ndarray] = []
        module = case.plain.network.get_submodule(case.layer)
        with (
            contextlib.redirect_stderr(io.StringIO()),
            patch.object(torch.nn, "UpsamplingBilinear2d", lambda size: Placed(case)),
            getattr(library, name)(case.plain, [module], reshape_transform=reshape(case), **options(case)) as cam,
        ):
            original = cam.get_cam_image

            def kept(*arguments: Any) -> np.ndarray:
                small.append(original(*arguments))
                return small[-1]

            cam.get_cam_image = kept
            cam(case.images.clone().requires_grad_(), [ClassifierOutputTarget(int(target)) for target in case.targets])
        return torch.from_numpy(np.asarray(small[0], np.float64))

    return maps


def pytorch_score_cam(case: Case) -> Tensor:
    """Its masks do not change with the size of the activations, beside which its constant 1e-8 then does not count."""
    from pytorch_grad_cam import ScoreCAM

    original = ScoreCAM.get_cam_weights

    def enlarging(self: Any, *arguments: Any) -> np.ndarray:
        return original(self, *arguments[:3], arguments[3] * 2.0**60, *arguments[4:])

    with patch.object(ScoreCAM, "get_cam_weights", enlarging):
        return at_image_size(grad_cam("ScoreCAM"))(case)


def ablation_cam(case: Case) -> Tensor:
    """Channels at 0 (theirs: -1e7 where activations can be negative), in the patches alone, not divided by the score."""
    from pytorch_grad_cam.ablation_layer import AblationLayer

    class Zeroing(AblationLayer):
        def set_next_batch(self, input_batch_index: int, activations: Tensor, num_channels_to_ablate: int) -> None:
            self.activations = torch.stack([activations[input_batch_index]] * num_channels_to_ablate)

        def __call__(self, features: Tensor) -> Tensor:
            for row, channel in enumerate(self.indices[: len(self.activations)]):
                if reshape(case):
                    self.activations[row, 1:, int(channel)] = 0
                else:
                    self.activations[row, int(channel)] = 0
            return self.activations

    with patch.object(np, "float32", np.float64):
        small = grad_cam("AblationCAM", lambda case: {"ablation_layer": Zeroing()})(case)
    with torch.no_grad():
        scores = case.plain(case.images).gather(1, case.targets[:, None])
    return enlarged(small * scores[:, :, None], case)


def full_grad(case: Case) -> Tensor:
    """Its sum over the layers, each enlarged to where it looks, before the sum is stretched to [0, 1]."""
    import pytorch_grad_cam.fullgrad_cam as peer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = case.plain.network
    size = (case.images.shape[2], case.images.shape[3])
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    names = [name for name, module in network.named_modules() if type(module) in kinds and module.bias is not None]
    layers = iter(["", *names])

    def scale(values: np.ndarray, target_size: object) -> np.ndarray:
        maps = torch.from_numpy(values)
        low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        maps = (maps - low) / torch.where(high > low, high - low, 1.0)
        name = next(layers)
        if name:
            maps = require_grid(case.classifier, name, size).enlarge(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        return maps.numpy()

    with (
        contextlib.redirect_stderr(io.StringIO()),
        patch.object(peer, "scale_accross_batch_and_channels", scale),
        patch.object(peer.FullGrad, "aggregate_multi_layers", lambda self, maps: maps[:, 0]),
        peer.FullGrad(network, []) as cam,
    ):
        found = cam(
            case.plain.normalised(case.images), [ClassifierOutputTarget(int(target)) for target in case.targets]
        )
    return torch.from_numpy(np.asarray(found))


def at_image_size(maps: Maps) -> Maps:
    return lambda case: enlarged(maps(case), case)


def signed_like_the_mean(maps: Maps) -> Maps:
    """A singular vector has no sign: ours is the one along the mean activation."""

    def turned(case: Case) -> Tensor:
        kept: list[Tensor] = []
        handle = case.plain.network.get_submodule(case.layer).register_forward_hook(
            lambda *parts: kept.append(parts[2])
        )
        with torch.no_grad():
            case.plain(case.images)
        handle.remove()
        features = reshape(case)(kept[0]) if reshape(case) else kept[0]
        small = maps(case)
        alike = (small * features.mean(1)).sum((1, 2), keepdim=True)
        return enlarged(torch.where(alike < 0, -small, small), case)

    return turned


def torchcam(name: str) -> Maps:
    """A class of torchcam by name."""

    def maps(case: Case) -> Tensor:
        from torchcam import methods

        options: dict[str, Any] = {"reshape_transform": reshape(case)} if reshape(case) else {}
        images = case.images.clone().requires_grad_()
        with getattr(methods, name)(case.plain, f"network.{case.layer}", **options) as extractor:
            scores = case.plain(images)
            (small,) = extractor(case.targets.tolist(), scores, normalized=False)
        return enlarged(small.detach(), case)

    return maps


def torchcam_score(case: Case) -> Tensor:
    """Its masks are stretched to [0, 1] before they are enlarged; here after, as in the paper, and where the layer looks."""
    from torchcam.methods import ScoreCAM

    def stretched(self: Any, activation: Tensor) -> Tensor:
        masks = place(from_zero(activation), case)
        low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
        return (masks - low) / (high - low + 1e-30)

    def unchanged(cams: Tensor, *options: Any, **further: Any) -> Tensor:
        return cams

    with patch.object(ScoreCAM, "_upsample", stretched), patch.object(ScoreCAM, "_normalize", staticmethod(unchanged)):
        return torchcam("ScoreCAM")(case)


def guided_backprop(case: Case) -> Tensor:
    """pytorch_grad_cam's guided backprop, one image at a time; it leaves one ReLU for all behind."""
    from pytorch_grad_cam import GuidedBackpropReLUModel

    made = []
    network = copy.deepcopy(case.rectified, {id(value): value for value in case.rectified.parameters()})
    for image, target in zip(case.images, case.targets, strict=True):
        found = GuidedBackpropReLUModel(network, device="cpu")(image[None].clone(), int(target))
        made.append(torch.from_numpy(found.sum(-1)))
    return torch.stack(made)
