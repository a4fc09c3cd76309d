"""Quantus: metrics of the same maps on the same batch of images."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarking.peers.peer import Call, Peer
from benchmarking.subject import Subject, metric_named
from seewhy.core.random import seed_generator
from seewhy.explainers.gradient import InputXGradient
from seewhy.metrics import imputation
from seewhy.metrics.base import MetricContext
from seewhy.metrics.faithfulness.infidelity import count_removed_pixels
from seewhy.metrics.faithfulness.road import NOISY_LINEAR, impute_hidden
from seewhy.metrics.imputation import impute_image
from seewhy.metrics.perturbation_curves import Curve, Impute, compute_curves
from seewhy.metrics.randomisation.model_randomization import draw_other_classes

EXPLAINER = InputXGradient()
SHARES = (10, 30, 50, 70, 90)
RAW = {"abs": False, "normalise": False, "disable_warnings": True}
OWN_NUMBERS = "random numbers of its own"


def make_context(subject: Subject) -> MetricContext:
    """The maps of the subject, ready to be measured."""
    given = subject.classifier, subject.images, subject.targets, subject.maps
    return MetricContext(*given, explainer=EXPLAINER, masks=subject.masks)


def ours(name: str, *overrides: str) -> Call:
    """Our metric of that name."""
    metric = metric_named(name, *overrides)

    def scores(subject: Subject) -> Tensor:
        metric.reset()
        context = make_context(subject)
        given = context.classifier, context.images, context.targets, context.attributions
        metric.update(*given, context=context)
        return metric.compute()[metric.name]

    return scores


def theirs(make: Callable[[Any, Subject], Any], softmax: bool = False, explain: bool = False) -> Call:
    """A metric of Quantus on the subject; `make(quantus, subject)` builds it."""

    def scores(subject: Subject) -> Tensor:
        import quantus

        options: dict[str, Any] = {"explain_func": _explain(subject)} if explain else {}
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            found = make(quantus, subject)(
                model=subject.plain,
                x_batch=subject.images.cpu().numpy(),
                y_batch=subject.targets.cpu().numpy(),
                a_batch=subject.maps[:, None].cpu().numpy().copy(),
                s_batch=subject.masks[:, None].cpu().numpy(),
                device=str(subject.device),
                softmax=softmax,
                **options,
            )
        found = list(found.values()) if isinstance(found, dict) else found
        return torch.as_tensor(np.asarray(found, dtype=np.float64))

    return scores


def _explain(subject: Subject) -> Callable[..., Any]:
    def explain(model: Any, inputs: Any, targets: Any, **ignored: Any) -> Any:
        images = torch.as_tensor(inputs).float().to(subject.device)
        chosen = torch.as_tensor(targets).reshape(-1).long().to(subject.device)
        if model is subject.plain:
            return EXPLAINER(subject.classifier, images, chosen)[:, None].cpu().numpy()
        leaves = images.requires_grad_()  # a copy with other weights
        (gradient,) = torch.autograd.grad(model(leaves).gather(1, chosen[:, None]).sum(), leaves)
        return (leaves * gradient).sum(1, keepdim=True).detach().cpu().numpy()

    return explain


def probabilities(subject: Subject, curve: Curve, counts: list[int], impute: Impute | None = None) -> Tensor:
    """Those of the targets along a curve, where so many pixels are gone."""
    with torch.no_grad(), subject.classifier.frozen():
        curves = compute_curves(make_context(subject), curve, [counts] * len(subject.images), impute)
        return torch.stack(curves)[..., 1]


def flipping(n_steps: int, images: int) -> Peer:
    """Pixel flipping: the curve of our deletion without its first point."""

    def make(quantus: Any, subject: Subject) -> Any:
        per_step = 3 * subject.images[0, 0].numel() // n_steps
        metric = quantus.PixelFlipping(features_in_step=per_step, perturb_baseline=0.0, **RAW)
        metric.custom_preprocess = lambda *arguments, **options: None  # three channels do not divide every image
        return metric

    def curve(subject: Subject) -> Tensor:
        pixels = subject.images[0, 0].numel()
        counts = [min(pixels, step * (pixels // n_steps)) for step in range(1, n_steps + 1)]
        return probabilities(subject, Curve("deletion", "largest", "black"), counts)

    return Peer(
        "deletion", "quantus", f"PixelFlipping, {n_steps} steps", curve, theirs(make, softmax=True), 1e-3, images=images
    )


def faithfulness(n_samples: int) -> Peer:
    """Faithfulness correlation; for the check theirs is given our sets of pixels."""
    share = 0.1

    def make(quantus: Any, subject: Subject) -> Any:
        size = 3 * count_removed_pixels(share, subject.images[0, 0].numel())
        options = {"nr_runs": n_samples, "subset_size": size, "perturb_baseline": 0.0, "return_aggregate": False}
        return quantus.FaithfulnessCorrelation(**options, **RAW)

    def with_our_sets(subject: Subject) -> Tensor:
        pixels = subject.images[0, 0].numel()
        size = count_removed_pixels(share, pixels)
        streams = [seed_generator(0, image, f"subset {size}") for image in subject.images]
        drawn = [[torch.randperm(pixels, generator=stream)[:size] for _ in range(n_samples)] for stream in streams]
        queue = iter(
            [
                torch.cat([each[turn] + pixels * c for c in range(3)]).numpy()
                for turn in range(n_samples)
                for each in drawn
            ]
        )
        with patch.object(np.random, "choice", lambda *arguments, **options: next(queue)):
            return call(subject)

    mine, call = (
        ours("faithfulness_correlation", f"metric.faithfulness_correlation.n_samples={n_samples}"),
        theirs(make),
    )
    setting = f"FaithfulnessCorrelation, {n_samples} sets"
    return Peer("faithfulness_correlation", "quantus", setting, mine, call, 1e-3, check=(mine, with_our_sets))


def road() -> Peer:
    """The removal of the most relevant pixels, as much as both do; the check is an imputed image."""

    def curve(subject: Subject) -> Tensor:
        pixels = subject.images[0, 0].numel()
        counts = [int(share / 100 * pixels) for share in SHARES]
        morf = Curve("deletion", "largest", NOISY_LINEAR)
        return probabilities(subject, morf, counts, impute_hidden)

    def hidden(subject: Subject) -> Tensor:
        values = subject.maps[0].cpu()
        return values >= values.median()

    def imputed(subject: Subject) -> Tensor:
        with patch.object(imputation, "NOISE", 0.0):
            image = subject.images[0].cpu()
            return impute_image(image, hidden(subject), torch.Generator())[None]

    def imputed_by_quantus(subject: Subject) -> Tensor:
        from quantus.functions.perturb_func import noisy_linear_imputation

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            indices = hidden(subject).flatten().nonzero()[:, 0].numpy()
            return torch.from_numpy(noisy_linear_imputation(subject.images[0].cpu().numpy(), indices, noise=0.0))[None]

    def make(quantus: Any, subject: Subject) -> Any:
        from quantus.functions.perturb_func import noisy_linear_imputation

        pixels = subject.images[0, 0].numel()

        def folded(arr: Any, indices: Any, **options: Any) -> Any:
            return noisy_linear_imputation(arr, np.unique(indices % pixels))

        metric = quantus.ROAD(percentages=list(SHARES), perturb_func=folded, **RAW)
        metric.a_size = 3 * pixels
        return metric

    call = theirs(make)
    setting = f"ROAD, {len(SHARES)} shares, most relevant first"
    note = "its places in three channels folded into one (it raises otherwise); checked: an imputed image"
    check = imputed, imputed_by_quantus
    return Peer("road", "quantus", setting, curve, call, 1e-4, check=check, note=note, images=4)


def random_logit() -> Peer:
    """Random logit; for the check theirs is given our other classes."""

    def make(quantus: Any, subject: Subject) -> Any:
        from quantus.functions.similarity_func import correlation_spearman

        classes = len(subject.classifier.facts.classes)
        return quantus.RandomLogit(num_classes=classes, similarity_func=correlation_spearman, **RAW)

    def with_our_classes(subject: Subject) -> Tensor:
        other = draw_other_classes(make_context(subject))
        place = (other - (other > subject.targets).long()).cpu().numpy()
        with patch.object(np.random, "randint", lambda *arguments, **options: place):
            return call(subject)

    mine, call = ours("random_logit"), theirs(make, explain=True)
    return Peer("random_logit", "quantus", "RandomLogit, Spearman", mine, call, 1e-3, check=(mine, with_our_classes))


def max_sensitivity(n_samples: int) -> Peer:
    """Max-sensitivity with as many noisy images."""

    def make(quantus: Any, subject: Subject) -> Any:
        return quantus.MaxSensitivity(nr_samples=n_samples, lower_bound=0.02, **RAW)

    mine = ours("max_sensitivity", f"metric.max_sensitivity.n_samples={n_samples}")
    setting = f"MaxSensitivity, {n_samples} samples"
    return Peer("max_sensitivity", "quantus", setting, mine, theirs(make, explain=True), note=OWN_NUMBERS)


def infidelity(blocks: int) -> Peer:
    """Infidelity with as many passes."""

    def make(quantus: Any, subject: Subject) -> Any:
        side = subject.images.shape[-1] // blocks
        return quantus.Infidelity(perturb_patch_sizes=[side], n_perturb_samples=1, perturb_baseline=0.0, **RAW)

    mine = ours("infidelity", f"metric.infidelity.n_samples={blocks**2}")
    note = "as many passes; theirs goes over a grid of squares, ours draws squares"
    return Peer("infidelity", "quantus", f"Infidelity, {blocks}x{blocks} squares", mine, theirs(make), note=note)


def randomization() -> Peer:
    """The cascade over all layers."""

    def make(quantus: Any, subject: Subject) -> Any:
        return quantus.MPRT(return_average_correlation=True, **RAW)

    mine = ours("model_randomization_cascading", "metric.model_randomization_cascading.n_layers=null")
    note = f"{OWN_NUMBERS}; theirs takes a normalisation for a layer of its own, and signed correlations"
    name, call = "model_randomization_cascading", theirs(make, explain=True)
    return Peer(name, "quantus", "MPRT, all layers", mine, call, note=note, images=4)


def without_passes() -> list[Peer]:
    """Scores of the map alone."""
    names = {"sparseness": "Sparseness", "complexity": "Complexity", "pointing_game": "PointingGame"}
    names |= {"relevance_mass": "RelevanceMassAccuracy", "relevance_rank": "RelevanceRankAccuracy"}
    found = []
    for name, theirs_name in names.items():

        def make(quantus: Any, subject: Subject, theirs_name: str = theirs_name) -> Any:
            absolute = theirs_name in ("Sparseness", "Complexity")
            return getattr(quantus, theirs_name)(**(RAW | {"abs": absolute}))

        # theirs adds up negative values too and adds 1e-7 to each: other values where a map has both signs
        tolerance = None if name == "relevance_mass" else 1e-2 if name == "sparseness" else 1e-3
        note = "theirs lets negative values count" if name == "relevance_mass" else ""
        found.append(Peer(name, "quantus", theirs_name, ours(name), theirs(make), tolerance, note=note, images=32))
    return found


def peers(quick: bool) -> list[Peer]:
    """All of them, with fewer steps and samples where it must be quick."""
    few = [flipping(8, 8) if quick else flipping(49, 32), faithfulness(8 if quick else 100), road(), random_logit()]
    few += [max_sensitivity(2 if quick else 10), infidelity(4 if quick else 8), *without_passes()]
    return few if quick else [*few, randomization()]
