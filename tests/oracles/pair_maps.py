"""What PAIR's saliency library makes of the same images; its methods take one NumPy picture at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from oracles.captum_maps import noise_of
from oracles.networks import Case
from seewhy.explainers.baselines import build_baselines
from seewhy.explainers.integrated_gradients import Blur, IntegratedGradients

Maps = Callable[[Case], Tensor]
Picture = np.ndarray


def model(case: Case, target: int) -> Callable[..., dict[str, Any]]:
    """The function that PAIR calls: pictures [n, height, width, 3] -> the target's logit and its gradient."""

    def call(pictures: Picture, call_model_args: None = None, expected_keys: Any = None) -> dict[str, Any]:
        leaves = torch.from_numpy(np.asarray(pictures)).permute(0, 3, 1, 2).to(case.images).requires_grad_()
        scores = case.plain(leaves)[:, target]
        (gradient,) = torch.autograd.grad(scores.sum(), leaves)
        return {
            "OUTPUT_LAYER_VALUES": scores.detach().double().numpy(),
            "INPUT_OUTPUT_GRADIENTS": gradient.permute(0, 2, 3, 1).double().numpy(),
        }

    return call


def each(case: Case, mask: Callable[[Picture, Callable[..., Any], Tensor], Picture]) -> Tensor:
    """`mask(picture, model, image)` for every image."""
    made = []
    for image, target in zip(case.images, case.targets, strict=True):
        picture = image.permute(1, 2, 0).double().numpy()
        made.append(torch.from_numpy(np.ascontiguousarray(mask(picture, model(case, int(target)), image))))
    return torch.stack(made)


def saliency(case: Case) -> Tensor:
    from saliency.core.gradients import GradientSaliency

    return each(case, lambda picture, call, image: np.abs(GradientSaliency().GetMask(picture, call)).max(-1))


def smooth_grad(n_samples: int, noise: float) -> Maps:
    def mask(picture: Picture, call: Callable[..., Any], image: Tensor) -> Picture:
        from saliency.core.gradients import GradientSaliency

        drawn = iter(noise_of(image, "noise", n_samples).permute(0, 2, 3, 1).double().numpy())
        spread = noise / (picture.max() - picture.min())
        with patch.object(np.random, "normal", lambda mean, deviation, shape: next(drawn) * deviation):
            found = GradientSaliency().GetSmoothedMask(
                picture, call, stdev_spread=spread, nsamples=n_samples, magnitude=False
            )
        return np.abs(found).max(-1)

    return lambda case: each(case, mask)


def noise_baseline(image: Tensor) -> Picture:
    """Our baseline `noise` as a picture."""
    return build_baselines("noise", image[None])[0].permute(1, 2, 0).double().numpy()


def integrated_gradients(n_steps: int) -> Maps:
    def mask(picture: Picture, call: Callable[..., Any], image: Tensor) -> Picture:
        from saliency.core.integrated_gradients import IntegratedGradients

        baseline = noise_baseline(image)
        return IntegratedGradients().GetMask(picture, call, x_baseline=baseline, x_steps=n_steps).sum(-1)

    return lambda case: each(case, mask)


def guided_ig(n_steps: int, fraction: float, max_distance: float) -> Maps:
    quantile = np.quantile

    def mask(picture: Picture, call: Callable[..., Any], image: Tensor) -> Picture:
        from saliency.core import guided_ig as peer

        # NumPy 2.4 has dropped the old name of the argument
        with patch.object(
            peer.np, "quantile", lambda values, share, interpolation: quantile(values, share, method=interpolation)
        ):
            found = peer.GuidedIG().GetMask(
                picture,
                call,
                x_baseline=noise_baseline(image),
                x_steps=n_steps,
                fraction=fraction,
                max_dist=max_distance,
            )
        return found.sum(-1)

    return lambda case: each(case, mask)


def blur_ig(n_steps: int, max_sigma: float) -> Maps:
    """Their sum on our nodes, with our blur: theirs takes black for what lies outside and cuts its kernel off.

    Theirs takes the gradient at the sharper end of each step, ours the mean of both ends: the mean of their sums along
    the path and, with the other sign, against it.
    """

    def mask(picture: Picture, call: Callable[..., Any], image: Tensor) -> Picture:
        from saliency.core import blur_ig as peer

        blur = Blur(image[None].double())

        def summed(position: Callable[[float], float]) -> Picture:
            def blurred(sharp: Picture, share: float) -> Picture:
                sigma = torch.tensor([max_sigma * position(share) ** 2], dtype=torch.float64)
                return blur(torch.tensor([0]), sigma)[0].permute(1, 2, 0).numpy()

            with patch.object(peer, "gaussian_blur", blurred):
                return peer.BlurIG().GetMask(picture, call, max_sigma=1, steps=n_steps - 1, grad_step=1 / (n_steps - 1))

        return (summed(lambda share: share) - summed(lambda share: 1 - share)).sum(-1) / 2

    return lambda case: each(case, mask)


def occlusion(margin: int) -> Maps:
    """A window of the image's side less `margin`, at every pixel; theirs adds up what ours averages."""

    def mask(picture: Picture, call: Callable[..., Any], image: Tensor) -> Picture:
        from saliency.core.occlusion import Occlusion

        side = len(picture)
        covering = np.convolve(np.ones(side - margin), np.ones(margin + 1))
        return Occlusion().GetMask(picture, call, size=side - margin)[..., 0] / np.outer(covering, covering)

    return lambda case: each(case, mask)


def xrai(n_steps: int, smallest: Callable[[int], int]) -> Maps:
    """Their segments and greedy choice, from our integrated gradients; shares of the image instead of densities."""

    def maps(case: Case) -> Tensor:
        from saliency.core import xrai as peer

        integrals = [
            IntegratedGradients(baseline=name, n_steps=n_steps)(case.classifier, case.images, case.targets)
            for name in ("black", "white")
        ]
        base = iter((sum(integrals) / 2).numpy())

        def mask(picture: Picture, call: Callable[..., Any], image: Tensor) -> Picture:
            parameters = peer.XRAIParameters(return_xrai_segments=True)
            parameters.experimental_params = {"min_pixel_diff": smallest(picture.shape[0] * picture.shape[1])}
            attribution = np.repeat(next(base)[..., None], 3, 2)
            # as chosen: theirs sorts the regions once more, by their density
            with patch.object(peer, "sorted", lambda trace, key: trace, create=True):
                result = peer.XRAI().GetMaskWithDetails(
                    picture, call, base_attribution=attribution, extra_parameters=parameters
                )
            order = result.segments.astype(int)
            before = np.concatenate([[0], np.cumsum(np.bincount(order.ravel(), minlength=order.max() + 1))])
            return 1 - before[order] / order.size

        return each(case, mask)

    return maps
