"""Libra-Grad: a gradient method on a network whose backward paths are pruned and scaled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from seewhy.core.settings import Count, OneOf, Text
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.libra import balance_gradients
from seewhy.explainers.base import AttributionResult, ChannelExplainer, Explainer
from seewhy.explainers.baselines import Baseline
from seewhy.explainers.cam import CamLayer, GradCam
from seewhy.explainers.gradient import InputXGradient
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.models.batched import BatchedEvaluator

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

METHODS = {"input_x_gradient": (), "integrated_gradients": ("baseline", "n_steps"), "grad_cam": ("layer",)}
"""Each method with the settings that it uses."""


@dataclass(frozen=True, kw_only=True)
class LibraGrad(Explainer):
    """A gradient method with another gradient, with which inputs and biases times their gradients add up to the score.

    The gradient of transformers does not add up: at attention, normalisations and smooth activations a function is not
    its gradient times its input. Paths are therefore pruned, so that attention weights, the scales of normalisations, the
    gates of GELU and SiLU and denominators are constants, and scaled: each of n factors of a product takes 1 / n. Networks
    of affine functions, ReLU and maxima keep their gradient. With integrated gradients the maps are not complete with
    respect to a baseline: the constants are those of each step. Incompatible at operations that are not 0 at 0 (a sigmoid
    that weighs nothing).
    Mehri, Baghshah, Pilehvar: Libra-Grad: balancing gradient flow for universally better vision transformer attributions,
    arXiv 2411.16760.

    Args:
        over: input_x_gradient, integrated_gradients or grad_cam: the method that takes the gradient.
        baseline: Where the path of integrated_gradients begins: black, white, grey, mean, blurred, noise or uniform.
        n_steps: Nodes of that path, from 1.
        layer: Of grad_cam; None: as grad_cam chooses it.
    """

    over: Annotated[str, OneOf(METHODS)] = "input_x_gradient"
    baseline: Baseline = "black"
    n_steps: Count = 50
    layer: Text | None = None

    looks_inside: ClassVar[str] = "operations"

    @property
    def parameters(self) -> str:
        """The method and the settings that it uses."""
        settings = {key: getattr(self, key) for key in ("over", *METHODS[self.over])}
        return ", ".join(f"{key}={value}" for key, value in settings.items() if value is not None)

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """As the method that takes the gradient."""
        return self.over != "grad_cam"

    @property
    def is_local(self) -> bool:  # type: ignore[override]
        """As the method that takes the gradient: whether that is one at the image itself."""
        return self._build_method().is_local

    @property
    def rectified(self) -> bool:  # type: ignore[override]
        """As the method that takes the gradient."""
        return self._build_method().rectified

    def _build_method(self) -> Explainer:
        settings = {key: getattr(self, key) for key in METHODS[self.over]} | {"seed": self.seed}
        built: Explainer = {
            "input_x_gradient": InputXGradient,
            "integrated_gradients": IntegratedGradients,
            "grad_cam": GradCam,
        }[self.over](**settings)
        return built

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        method = self._build_method()
        evaluator.find_limit(gradient=True)  # what is measured once for a network is measured on the network as it is
        if isinstance(method, GradCam):
            _ = CamLayer(evaluator, images, self.layer).grid
        with balance_gradients(evaluator.classifier.network):
            if isinstance(method, ChannelExplainer):
                return AttributionResult(method.reduce(method.attribute_channels(evaluator, images, targets)))
            return method._attribute(evaluator, images, targets)

    def _resolve(self, classifier: Classifier, size: tuple[int, int]) -> Explainer:
        """Name the layer where the method has one."""
        if self.over != "grad_cam":
            return self
        resolved = self._build_method().resolve(classifier, size)
        assert isinstance(resolved, GradCam)
        return replace(self, layer=resolved.layer)

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """Those of the method, without a completeness gap."""
        passes = self._build_method().passes_per_image(**size)
        return None if passes is None else (passes[1], passes[1])
