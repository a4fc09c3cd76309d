"""Any algorithm of captum by name, bounded, seeded, and with its promise measured."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from seewhy.core.disclosure import mask_secrets
from seewhy.core.errors import Incompatible, UserError
from seewhy.core.facts import select_display
from seewhy.core.random import seed_generator
from seewhy.core.settings import Count, Positive, Text, refuse_unread
from seewhy.core.tensors import is_out_of_memory
from seewhy.core.types import Images, Targets
from seewhy.core.words import write_snake_case
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.baselines import Baseline, build_baselines
from seewhy.explainers.cam import choose_layer
from seewhy.explainers.captum_methods import (
    RegionScore,
    Score,
    check_method,
    check_options,
    is_of_layer,
    is_of_network,
    leaving_nothing,
    list_options,
    load_methods,
    seeded,
    takes,
)
from seewhy.explainers.completeness import ScoreChange, describe_completeness_gap, measure_gap, share_rounding
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.guided_backprop import Deconvolution, GuidedBackprop
from seewhy.explainers.occlusion import Occlusion
from seewhy.explainers.rounding import compute_scores_with_rounding, estimate_relative_rounding
from seewhy.explainers.superpixels import segment_images
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.cell_grid import BatchLayout
from seewhy.models.classifier import Classifier
from seewhy.models.layers import remember, require_grid
from seewhy.models.tracing import draw_noise

NAMED = frozenset(("ShapleyValueSampling", "FeatureAblation", "DeepLiftShap", "InternalInfluence"))
"""Methods with a yaml, and hence a name, of their own."""
SHAPLEY = frozenset(("ShapleyValueSampling", "ShapleyValues", "KernelShap"))
"""Methods whose values of superpixels add up to the change of the score: each is spread over its pixels."""
BY_REGION = frozenset(("ShapleyValueSampling", "ShapleyValues", "FeatureAblation"))
"""Methods that only cover superpixels, so that they may compute with a switch for each instead of with images."""
COMPLETE = SHAPLEY | frozenset(
    "IntegratedGradients DeepLift DeepLiftShap GradientShap LayerConductance LayerIntegratedGradients LayerDeepLift "
    "LayerDeepLiftShap LayerGradientShap LRP LayerLRP".split()
)
"""Methods that promise values which add up: of the two LRP to the score, of all others to its change."""
RULES = frozenset(
    "ReLU ELU LeakyReLU Sigmoid Tanh Softplus MaxPool1d MaxPool2d MaxPool3d Softmax Identity Dropout Linear".split()
)
"""Modules that captum's DeepLift has a rule for, or that need none."""
RECTIFIED = {"GuidedBackprop": GuidedBackprop, "Deconvolution": Deconvolution}
"""Methods of captum that change `nn.ReLU` modules alone, beside ours, which see every rectifier."""
OURS = {
    "IntegratedGradients": "integrated_gradients with more steps",
    "GradientShap": "gradient_shap with more samples",
    "LRP": "lrp, which has more rules",
    "KernelShap": "kernel_shap",
}
"""What to take instead, by method."""


@dataclass(frozen=True, kw_only=True)
class Captum(Explainer):
    """An attribution method of captum, summed over the channels; one image at a time, in passes of bounded size.

    Its random numbers belong to (seed, image). Values of superpixels are those of each pixel in it, and of Shapley values
    its even share. Values of a layer are drawn where its cells look. DeepLift has the image and a baseline in the network
    at once, whatever the bound. Facts: `completeness_gap` and `completeness_gap_relative` where the method promises that
    its values add up, `difference_from_own` of guided backpropagation and deconvolution from ours. Incompatible where
    captum fails.
    Kokhlikyan et al.: Captum, a unified and generic model interpretability library for PyTorch, 2020.

    Args:
        method: A class of `captum.attr` that explains the score of an image.
        options: Further arguments of the class or of its `attribute`, by name; null: captum's default.
        layer: Of methods with a layer; None: as in class activation maps.
        baseline: What the image is compared with, or a list for methods that take several.
        n_segments: About how many superpixels stand for the features of perturbation methods, from 1.
        tolerance: Relative completeness gap, above 0, from which a map has a warning.
    """

    method: Text = "IntegratedGradients"
    options: Mapping[str, bool | int | float | str | Sequence[int] | None] = field(default_factory=dict)
    layer: Text | None = None
    baseline: Baseline | Annotated[Sequence[Baseline], MinLen(1)] = "black"
    n_segments: Count = 50
    tolerance: Positive = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_method(self.method)
        check_options(self.method, self.options)
        read = {
            "layer": self._has_layer,
            "baseline": takes(self.method, "baselines"),
            "n_segments": takes(self.method, "feature_mask"),
            "tolerance": self._is_complete or self.method in RECTIFIED,
        }
        refuse_unread(self, "explainer", [name for name, is_read in read.items() if not is_read], f"by {self.method}")
        if not isinstance(self.baseline, str):
            object.__setattr__(self, "baseline", tuple(self.baseline))
            if len(self.baseline) > 1 and not self.method.endswith(("DeepLiftShap", "GradientShap")):
                raise UserError(
                    f"explainer.baseline={','.join(self.baseline)} are several, and captum's {self.method} takes one"
                )

    @property
    def name(self) -> str:
        """The name of its yaml where it has one of its own, else `captum`."""
        return write_snake_case(self.method) if self.method in NAMED else "captum"

    @property
    def parameters(self) -> str:
        """The method with what it uses."""
        options = {("options.method" if key == "method" else key): value for key, value in self._chosen.items()}
        settings = {"method": self.method, **options}
        if takes(self.method, "baselines"):
            settings["baseline"] = "+".join(self._baselines)
        if takes(self.method, "feature_mask"):
            settings["n_segments"] = self.n_segments
        if self._has_layer and self.layer is not None:
            settings["layer"] = self.layer
        return mask_secrets(", ".join(f"{key}={value}" for key, value in settings.items()))

    @property
    def looks_inside(self) -> str:  # type: ignore[override]
        """Operations of methods that change the way back, layers of those with a layer."""
        if takes(self.method, "model", "__init__"):
            return "operations"
        return "layers" if self._has_layer else ""

    @property
    def is_local(self) -> bool:  # type: ignore[override]
        """Whether captum differentiates at the image itself: with no baseline, and nothing covered."""
        return not takes(self.method, "baselines") and not takes(self.method, "perturbations_per_eval")

    @property
    def _baselines(self) -> tuple[Baseline, ...]:
        return (self.baseline,) if isinstance(self.baseline, str) else tuple(self.baseline)

    @property
    def _has_layer(self) -> bool:
        return takes(self.method, "layer", "__init__")

    @property
    def _chosen(self) -> dict[str, Any]:
        """The options that are set; lists as tuples."""
        return {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in self.options.items()
            if value is not None
        }

    @property
    def _is_complete(self) -> bool:
        return self.method in COMPLETE and self._chosen.get("multiply_by_inputs", True)

    def _resolve(self, classifier: Classifier, size: tuple[int, int]) -> Captum:
        """Name the layer, and note what captum has no rule for."""
        chosen = self
        if self._has_layer:
            chosen = replace(self, layer=choose_layer(classifier, size, self.layer))
        if "DeepLift" in self.method:
            chosen = replace(chosen)
            object.__setattr__(chosen, "_advice", self._advise(classifier, size))
        return chosen

    def _advise(self, classifier: Classifier, size: tuple[int, int]) -> str:
        """What captum's DeepLift has no rule for, and whether ours is exact."""
        missing = sorted({type(each).__name__ for each in classifier.network.modules() if _is_activation(each)} - RULES)
        known = f"it has no rule for {', '.join(missing)} on this network" if missing else ""
        exact = remember(classifier, ("deep_lift", size), lambda: _is_exact(classifier, size))
        instead = "explainer=deep_lift is exact here" if exact else "take explainer=integrated_gradients"
        return "; ".join(filter(None, (known, instead)))

    def list_warnings(self, facts: Mapping[str, float]) -> list[str]:
        """List a completeness gap over the tolerance, and a way back that missed rectifiers.

        Args:
            facts: Those of one map.

        Returns:
            At most one sentence.
        """
        gap = describe_completeness_gap(facts.get("completeness_gap_relative", 0.0), self.tolerance)
        if gap is not None:
            advice = getattr(self, "_advice", "") or f"take explainer={OURS.get(self.method, 'integrated_gradients')}"
            return [f"captum's {self.method}: {gap}; {advice}"]
        difference = facts.get("difference_from_own", 0.0)
        if math.isnan(difference):
            return [
                f"captum's {self.method} changes nn.ReLU modules alone, and explainer={RECTIFIED[self.method]().name} "
                "refuses this network: take explainer=integrated_gradients"
            ]
        if difference > self.tolerance:
            return [
                f"captum's {self.method} changes nn.ReLU modules alone: the map differs by {100 * difference:.0f} % of its "
                f"largest value from explainer={RECTIFIED[self.method]().name}, which sees every rectifier"
            ]
        return []

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        classifier, size = evaluator.classifier, (images.shape[2], images.shape[3])
        name = choose_layer(classifier, size, self.layer) if self._has_layer else None
        labels = None
        if takes(self.method, "feature_mask"):
            pictures = select_display(images, classifier.facts.display)
            labels = segment_images(pictures, self.n_segments)[0]
        maps, sums, sizes = [], [], []
        for row in range(len(images)):
            rows = torch.tensor([row], device=images.device)
            mask = None if labels is None else labels[rows]
            values = self._run(evaluator, images[rows], targets[rows], name, mask)
            sums.append(values.double().sum())
            sizes.append(values.abs().sum())
            maps.append(self._draw(classifier, values, images[rows], name)[0])
        drawn, facts, floor = torch.stack(maps), dict[str, Tensor](), None
        if self._is_complete:
            change = self._compute_change(evaluator, images, targets)
            facts = measure_gap(torch.stack(sums).to(images).double(), change, images.dtype)
            floor = share_rounding(drawn, change.rounding)
        elif takes(self.method, "perturbations_per_eval"):  # differences of scores
            floor = compute_scores_with_rounding(evaluator, images, targets)[1]
        elif name is not None and is_of_layer(self.method):
            cells = math.prod(require_grid(classifier, name, size).cells)
            total = torch.stack(sizes)
            floor = total / cells * estimate_relative_rounding(classifier, images)
            if bool(((drawn.flatten(1).abs().amax(1) <= floor) & (total > 0)).any()):
                raise Incompatible(
                    f"the channels of layer {name!r} add up to nothing but rounding under captum's {self.method}, as "
                    "in front of a normalisation, which takes off what all have in common: set explainer.layer= to one "
                    "behind it, or take explainer=integrated_gradients"
                )
        if self.method in RECTIFIED:
            facts["difference_from_own"] = self._compare_with_own(evaluator, images, targets, drawn)
        return AttributionResult(drawn, facts, floor)

    def _run(
        self, evaluator: BatchedEvaluator, image: Images, target: Targets, layer: str | None, mask: Tensor | None
    ) -> Tensor:
        """What captum gives for one image: [1, channels, height, width], or the shape of the layer's output."""
        classifier = evaluator.classifier
        perturbs = takes(self.method, "perturbations_per_eval")
        limit = evaluator.find_limit(gradient=not perturbs)
        reads = bool(self.looks_inside)
        score = Score(classifier, target, None if reads else limit)
        places = list_options(self.method)
        options: dict[str, dict[str, Any]] = {"__init__": {}, "attribute": {}}
        for option, value in self._chosen.items():
            options[places[option]][option] = value
        if layer is not None:
            options["__init__"]["layer"] = classifier.find_layer(layer)
        call = options["attribute"]
        call.update(
            {key: limit for key in ("internal_batch_size", "perturbations_per_eval") if takes(self.method, key)}
        )
        if mask is not None:
            call["feature_mask"] = mask[:, None]
        if self.method == "Occlusion":
            window, stride = Occlusion().choose_geometry(*image.shape[2:])
            call.setdefault("sliding_window_shapes", (image.shape[1], window, window))
            call.setdefault("strides", (image.shape[1], stride, stride))
        number = int(torch.randint(2**31, (), generator=seed_generator(self.seed, image[0], f"captum {self.method}")))
        try:
            with (
                seeded(number),
                torch.enable_grad(),
                leaving_nothing(score),
                classifier.folding.off() if reads else contextlib.nullcontext(),
            ):
                values = self._call(score, image, options["__init__"], call, limit)
        except UserError:
            raise
        except Exception as error:
            if is_out_of_memory(error) or is_of_network(error):
                raise
            first = next(iter(str(error).splitlines()), "")
            raise Incompatible(
                f"captum's {self.method} fails on this network ({type(error).__name__}: {first[:200]}); use "
                f"explainer={OURS.get(self.method, 'integrated_gradients').split()[0].strip(',')}"
            ) from error
        if not isinstance(values, Tensor):
            raise Incompatible(f"captum's {self.method} gives no tensor here; use explainer=integrated_gradients")
        if mask is not None and self.method in SHAPLEY:
            values = values / torch.bincount(mask.flatten())[mask] / image.shape[1]
        elif mask is not None or self.method == "Occlusion":
            values = values / image.shape[1]  # all channels of a pixel have the value of what covers them together
        return values.detach()

    def _call(self, score: Score, image: Images, init: dict[str, Any], call: dict[str, Any], limit: int) -> Tensor:
        """Call captum once, or once for each few baselines or samples where it would take all at once."""
        given = image.clone().requires_grad_()
        if not takes(self.method, "baselines"):
            return load_methods()[self.method](score, **init).attribute(given, **call)
        baselines = self._build_baselines(image)
        if self.method in BY_REGION:
            labels = call.pop("feature_mask")[:, 0]
            switches = image.new_ones(1, int(labels.max()) + 1)
            regions = load_methods()[self.method](RegionScore(score, image, baselines, labels), **init)
            values = regions.attribute(switches, baselines=torch.zeros_like(switches), **call)
            return values[0][labels][:, None].expand_as(image)
        if self.method in ("DeepLiftShap", "LayerDeepLiftShap"):
            # the mean of DeepLift over the baselines: image and baseline pass together, one baseline after the other
            single = load_methods()[self.method.removesuffix("Shap")](score, **init)
            parts = [single.attribute(given, baselines=each[None], **call) for each in baselines]
            return torch.stack(parts).mean(0)
        method = load_methods()[self.method](score, **init)
        samples = int(call.get("n_samples", 5))
        if self.method == "LayerGradientShap" and samples > limit:
            parts = [method.attribute(given, baselines=baselines, **{**call, "n_samples": 1}) for _ in range(samples)]
            return torch.stack(parts).mean(0)
        return method.attribute(given, baselines=baselines, **call)

    def _build_baselines(self, image: Images) -> Images:
        """[baselines, channels, height, width] of one image."""
        return torch.cat([build_baselines(name, image, self.seed) for name in self._baselines])

    def _draw(self, classifier: Classifier, values: Tensor, image: Images, layer: str | None) -> Tensor:
        """[1, height, width] of what captum gave."""
        size = (image.shape[2], image.shape[3])
        grid = None if layer is None else require_grid(classifier, layer, size)
        is_plain = grid is not None and (grid.layout, grid.cell_axes, grid.order) == (BatchLayout(), (3, 4), None)
        if self.method == "GuidedGradCam":  # captum weighs the second axis and stretches the others over the image
            if grid is not None and is_plain and grid.rows.fits and grid.columns.fits:
                return values.sum(1)
            raise Incompatible(
                f"captum's GuidedGradCam stretches the map of layer {layer!r} over the image, and its cells do not lie so; "
                "use explainer=guided_grad_cam, which draws it where they look"
            )
        elif self.method == "LayerGradCam":
            if grid is not None and is_plain:
                return grid.enlarge(values.sum(1))
        elif grid is None or not is_of_layer(self.method):
            if values.shape == image.shape:
                return values.sum(1)
        else:
            with contextlib.suppress(RuntimeError, IndexError):
                return grid.enlarge(grid.arrange(values).sum(1))
        raise Incompatible(
            f"captum's {self.method} gives values of shape {list(values.shape)}, which are no map of this image; use "
            "explainer=grad_cam, which reads the tokens of any layer"
        )

    def _compute_change(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> ScoreChange:
        """What the values promise to add up to: f(image) - mean f(baseline), or f(image) of LRP."""
        scores, rounding = compute_scores_with_rounding(evaluator, images, targets)
        change = scores.double()
        if "LRP" not in self.method:
            for name in self._baselines:
                baselines = torch.cat([build_baselines(name, image[None], self.seed) for image in images])
                change = change - evaluator.compute_scores(baselines, targets).double() / len(self._baselines)
        return ScoreChange(change, rounding.double())

    def _compare_with_own(self, evaluator: BatchedEvaluator, images: Images, targets: Targets, maps: Tensor) -> Tensor:
        """The largest difference from our method, as a share of its largest value, [batch]; NaN where ours refuses."""
        try:
            own = RECTIFIED[self.method]()._attribute(evaluator, images, targets).maps
        except Incompatible:
            return maps.new_full((len(maps),), math.nan)
        largest = own.abs().amax((1, 2))
        return (own - maps).abs().amax((1, 2)) / torch.where(largest > 0, largest, 1.0)


def _is_activation(module: nn.Module) -> bool:
    """Whether a module is an activation of torch or timm, by where its class is written."""
    home = type(module).__module__
    return "activation" in home and not isinstance(module, nn.MultiheadAttention)


def _is_exact(classifier: Classifier, size: tuple[int, int]) -> bool:
    """Whether our DeepLift takes this network; its pass is not counted."""
    counted = replace(classifier.passes)
    try:
        image = draw_noise(classifier, size, 1)
        result = DeepLift().attribute(classifier, image, torch.zeros(1, dtype=torch.int64, device=image.device))
    except Incompatible:
        return False
    finally:
        classifier.passes = counted
    return float(result.facts["completeness_gap_relative"][0]) < 0.01
