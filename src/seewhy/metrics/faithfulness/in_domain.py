"""Removal inside the training domain: maps of a network, measured on a copy that was fine-tuned on masked images."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Gt, Le
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.settings import Count, PathText, Share
from seewhy.explainers.baselines import Baseline
from seewhy.metrics.base import GAIN, PROBABILITY, ImageMetric, MetricContext, Range, Shares
from seewhy.metrics.faithfulness.pixel_flipping import compute_pixel_counts
from seewhy.metrics.perturbation_curves import Curve, adopt_points, compute_target_curves, rank_pixels
from seewhy.models.classifier import Classifier
from seewhy.models.weights import fit_weights, hash_weights, read_weights

SIDES = ("plus", "minus")
"""Pixels of the explanation are removed, or others."""


class FFidelity(ImageMetric):
    """Mean over sizes of the drop when pixels of the explanation are removed, less the drop when others are.

    Both drops are those of the target's probability under a second network, which was fine-tuned on images with random
    pixels hidden (`experiment=in_domain`), so that removal is nothing new to it; the map is that of the network itself. Of
    an explanation, the s P pixels with the largest attributions, alpha s P random ones are removed, at most beta P, the
    share that the fine-tuning hid: then no remover and no size of explanation leaves the domain, and large explanations
    gain nothing by their size. Of the others as many of (1 - s) P. Columns `plus` and `minus` are the two drops,
    `deletion` is the area under the deletion curve of the fine-tuned network and `deletion_plain` that of the network
    itself. Range -1 to 1, higher is better, 0 for an order that means nothing. NaN where the map is not finite.

    Zheng et al.: F-Fidelity, a robust framework for faithfulness evaluation of explainable AI, ICLR 2025.

    Args:
        weights: Of the fine-tuned network, of the same architecture and classes; None: the network as it is, for which
            masked images are as strange as for other metrics.
        sizes: Shares s of the pixels that are called the explanation.
        alpha: Share of them that is removed.
        beta: Largest share of all pixels that is removed; no more than the fine-tuning hid.
        n_samples: Random removals for each image, size and side.
        baseline: What removed pixels are replaced by, that of the fine-tuning.
        n_steps: Of the deletion curves.

    Raises:
        UserError: If a setting is out of range, there is no such file, or the weights are those of another network.
    """

    construct = "faithfulness"
    variant_of = "deletion"
    higher_is_better = True
    columns = ("plus", "minus", "deletion", "deletion_plain")
    ranges: Mapping[str, Range] = {
        "score": GAIN,
        "plus": GAIN,
        "minus": GAIN,
        "deletion": PROBABILITY,
        "deletion_plain": PROBABILITY,
    }

    def __init__(
        self,
        weights: PathText | None = None,
        sizes: Shares = (0.1, 0.3, 0.5, 0.7, 0.9),
        alpha: Share = 0.5,
        beta: Annotated[float, Gt(0), Le(1)] = 0.1,
        n_samples: Count = 5,
        baseline: Baseline = "black",
        n_steps: Count = 50,
    ) -> None:
        super().__init__()
        if weights is not None and not Path(weights).is_file():
            raise UserError(
                f"metric.f_fidelity.weights={weights}: there is no such file; give the weights.safetensors of "
                "train.py experiment=in_domain, or null for the network as it is"
            )
        self.weights, self.sizes, self.alpha, self.beta = weights, tuple(sizes), alpha, beta
        self.n_samples, self.baseline, self.n_steps = n_samples, baseline, n_steps
        self._tuned: list[tuple[str, Classifier]] = []  # a list, as a module would become part of the state

    @property
    def name(self) -> str:
        """`f_fidelity`."""
        return "f_fidelity"

    @property
    def variant(self) -> str:
        """Network, sizes, shares and baseline."""
        sizes = ", ".join(f"{size:g}" for size in self.sizes)
        network = "the network as it is" if self.weights is None else f"the network fine-tuned to {self.weights}"
        settings = f"alpha {self.alpha:g}, beta {self.beta:g}, {self.n_samples} samples, {self.baseline} baseline"
        return (
            f"drop without pixels of the explanation less drop without others, under {network}; probability, "
            f"sizes {sizes}, {settings}"
        )

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compute drops and areas, with `2 n_samples` forward passes for each image and size beside the curves."""
        plain = self._compute_area(context)
        if self.weights is None:
            return self._name_values(self._measure_drops(context), plain, plain)
        tuned = self._find_tuned(context.classifier, Path(self.weights))
        options: dict[str, Any] = {"seed": context.seed, "probe_batch_size": context.evaluator.batch_size}
        before = copy.copy(tuned.passes)
        with context.classifier.sharing_precision(), tuned.frozen():
            beside = MetricContext(tuned, context.images, context.targets, context.attributions, **options)
            drops = self._measure_drops(beside)
            area = self._compute_area(beside)
        spent = tuned.passes.since(before)
        context.classifier.passes.forward += spent.forward
        adopt_points(context, beside, "in_domain_{}")
        return self._name_values(drops, area, plain)

    def _name_values(self, drops: Tensor, area: Tensor, plain: Tensor) -> dict[str, Tensor]:
        plus, minus = drops.mean(1).unbind(1)
        return {"score": plus - minus, "plus": plus, "minus": minus, "deletion": area, "deletion_plain": plain}

    def _compute_area(self, context: MetricContext) -> Tensor:
        pixels = context.images[0, 0].numel()
        counts = compute_pixel_counts(pixels, self.n_steps)
        shares = torch.tensor(counts, dtype=torch.float64) / pixels
        curve = Curve("deletion", "largest", self.baseline)
        curves = compute_target_curves(context, curve, [counts] * len(context.images), "probability")
        return context.images.new_tensor([float(torch.trapezoid(values, shares)) for values in curves])

    def _measure_drops(self, context: MetricContext) -> Tensor:
        """The mean drop of each image, size and side, float64 [batch, sizes, 2]."""
        ranking, cover = rank_pixels(context), context.build_baseline(self.baseline)
        clean = context.compute_scores("probability").double()
        shape = (len(context.images), len(self.sizes), len(SIDES), self.n_samples)
        drops = clean.new_empty(shape).flatten()
        for rows in context.evaluator.split(len(drops), gradient=False):
            places = torch.stack(torch.unravel_index(rows, shape), 1).tolist()
            image = rows // (len(drops) // len(context.images))
            hidden = torch.stack(
                [self._draw_hidden(context, ranking.order[place[0]].cpu(), *place) for place in places]
            )
            hidden = hidden.view(-1, 1, *context.images.shape[2:]).to(image.device)
            logits = context.evaluator.compute_logits(torch.where(hidden, cover[image], context.images[image]))
            drops[rows] = clean[image] - context.select_scores(logits, "probability", image).double()
        finite = torch.tensor(ranking.finite, device=drops.device)
        return drops.view(shape).mean(-1).where(finite[:, None, None], torch.nan)

    def _draw_hidden(
        self, context: MetricContext, order: Tensor, image: int, size: int, side: int, sample: int
    ) -> Tensor:
        """The pixels of one removal, bool [pixels]; random numbers belong to (seed, image)."""
        pixels = len(order)
        explained = round(self.sizes[size] * pixels)
        candidates = order[:explained] if side == 0 else order[explained:]
        count = min(round(self.alpha * len(candidates)), round(self.beta * pixels))
        purpose = f"f-fidelity {self.sizes[size]:g} {SIDES[side]} {sample}"
        drawn = torch.randperm(len(candidates), generator=seed_generator(context.seed, context.images[image], purpose))
        hidden = torch.zeros(pixels, dtype=torch.bool)
        hidden[candidates[drawn[:count]]] = True
        return hidden

    def _find_tuned(self, classifier: Classifier, path: Path) -> Classifier:
        """The fine-tuned network, which is read once."""
        if not self._tuned or self._tuned[0][0] != classifier.weights_sha256:
            state, facts = read_weights(path)
            if facts is not None and facts.classes != classifier.facts.classes:
                raise UserError(
                    f"metric.f_fidelity.weights={path} has other classes than {classifier.name}: fine-tune the network that "
                    "is explained"
                )
            network = copy.deepcopy(classifier.network)
            fit_weights(network, state, str(path))
            tuned = Classifier(
                network,
                classifier.facts,
                name=f"{classifier.name}, fine-tuned",
                origin=str(path),
                weights_sha256=hash_weights(network),
                cam_layer=classifier.cam_layer,
                influence_layer=classifier.influence_layer,
                channels_last=classifier.channels_last,
            )
            self._tuned[:] = [(classifier.weights_sha256, tuned.to(classifier.mean.device).eval())]
        return self._tuned[0][1]
