"""Facts of every method that decide colours and labels, by value: the sign, what it reads of a network, its parameters."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from explainer_checks import YAMLS
from seewhy.cli.instantiate import build_object
from seewhy.explainers.base import Explainer
from seewhy.explainers.expert import Expert
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.explainers.gradient_shap import GradientShap
from seewhy.explainers.guided_backprop import Deconvolution, GuidedBackprop, GuidedGradCam
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.libra_grad import LibraGrad
from seewhy.explainers.lrp import Lrp
from seewhy.explainers.noise_tunnel import NoiseTunnel, SmoothGrad
from seewhy.explainers.xrai import Xrai

GRADIENTS = "integrated_gradients(baseline=black, n_steps=50, rule=gauss_legendre)"
EXPERT = "reduction=mean, distribution=image, sign=positive, attribution=input_x_gradient"
FACTS = {
    "ablation_cam": (False, "layers", ""),
    "attention_gradient": (False, "operations", ""),
    "attention_rollout": (False, "operations", "discard_ratio=0.0"),
    "blur_ig": (True, "", "n_steps=100"),
    "captum": (True, "", "method=IntegratedGradients, baseline=black"),
    "centre": (False, "", ""),
    "deconvolution": (True, "operations", "reduction=sum"),
    "deep_lift": (True, "operations", "baseline=black"),
    "deep_lift_shap": (True, "operations", "method=DeepLiftShap, baseline=black+white+grey+blurred"),
    "edges": (False, "", ""),
    "eigen_cam": (False, "layers", "centred=True"),
    "expected_gradients": (True, "", "baseline=sample images, n_samples=200, noise=0.0"),
    "expert": (True, "layers", EXPERT),
    "feature_ablation": (True, "", "method=FeatureAblation, baseline=black, n_segments=50"),
    "full_grad": (False, "operations", "rescale=layer"),
    "grad_cam": (False, "layers", ""),
    "grad_cam_plus_plus": (False, "layers", ""),
    "gradient_shap": (True, "", "baseline=black, n_samples=50, noise=0.0001"),
    "guided_backprop": (True, "operations", "reduction=sum"),
    "guided_grad_cam": (True, "operations", "reduction=sum"),
    "guided_ig": (True, "", "baseline=black, n_steps=200, fraction=0.25, max_distance=0.02, rule=trapezoid"),
    "hires_cam": (False, "layers", ""),
    "hsic": (False, "", "cells=8, n_masks=500, bandwidth=median, baseline=black"),
    "ig_smooth_grad": (True, "", f"explainer={GRADIENTS}, n_samples=10, noise=0.2, combine=mean"),
    "ig_smooth_grad_sq": (False, "", f"explainer={GRADIENTS}, n_samples=10, noise=0.2, combine=mean_of_squares"),
    "ig_var_grad": (False, "", f"explainer={GRADIENTS}, n_samples=10, noise=0.2, combine=variance"),
    "input_x_gradient": (True, "", ""),
    "integrated_gradients": (True, "", "baseline=black, n_steps=50, rule=gauss_legendre"),
    "internal_influence": (True, "layers", "method=InternalInfluence, n_steps=50, baseline=black"),
    "kernel_shap": (True, "", "n_segments=50, n_samples=1000, baseline=black"),
    "layer_cam": (False, "layers", ""),
    "le_grad": (False, "operations", "pooling=mean"),
    "libra_grad": (True, "operations", "over=input_x_gradient"),
    "lime": (True, "", "n_segments=50, n_samples=1000, kernel_width=0.25, alpha=1.0, baseline=black"),
    "lrp": (True, "operations", "rule=composite, epsilon=1e-06, gamma=0.25"),
    "noise_tunnel": (True, "", "explainer=input_x_gradient, n_samples=10, noise=0.2, combine=mean"),
    "occlusion": (True, "", "baseline=black"),
    "random": (True, "", ""),
    "rise": (False, "", "n_masks=4000, cells=7, probability=0.5, space=probability"),
    "saliency": (False, "", "reduction=max"),
    "score_cam": (False, "layers", ""),
    "shapley_value_sampling": (True, "", "method=ShapleyValueSampling, n_samples=25, baseline=black, n_segments=50"),
    "smooth_grad": (False, "", "n_samples=50, noise=0.15, reduction=max"),
    "xrai": (False, "", "n_steps=50, scales=(50, 100, 150, 250, 500, 1200)"),
}
"""Of each yaml: whether negative values mean evidence against the target, `looks_inside`, `parameters`."""

RECTIFIED = {
    "ablation_cam",
    "attention_gradient",
    "grad_cam",
    "grad_cam_plus_plus",
    "hires_cam",
    "layer_cam",
    "le_grad",
    "rise",
    "score_cam",
    "xrai",
}
"""Those whose maps are not signed and yet evidence for the target, not magnitudes."""


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_sign_and_parameters_of_every_yaml(path: Path) -> None:
    assert path.stem in FACTS, "what is true of the new method belongs into the table above"
    root = OmegaConf.create({"seed": 0, "probe_batch_size": 5, "explainer": OmegaConf.load(path)})
    explainer: Explainer = build_object(root.explainer, "explainer")
    assert (explainer.name, explainer.signed, explainer.looks_inside, explainer.parameters) == (
        path.stem,
        *FACTS[path.stem],
    )
    assert explainer.rectified is (path.stem in RECTIFIED)


@pytest.mark.parametrize(
    ("explainer", "signed", "parameters"),
    [
        (Saliency(reduction="sum"), True, "reduction=sum"),
        (SmoothGrad(reduction="sum"), True, "n_samples=50, noise=0.15, reduction=sum"),
        (
            NoiseTunnel(explainer=Saliency(), noise=0.1),
            False,
            "explainer=saliency(reduction=max), n_samples=10, noise=0.1",
        ),
        (
            NoiseTunnel(explainer=InputXGradient(), combine="variance"),
            False,
            "explainer=input_x_gradient, n_samples=10",
        ),
        (GuidedBackprop(reduction="max"), False, "reduction=max"),
        (Deconvolution(reduction="max"), False, "reduction=max"),
        (GuidedGradCam(layer="relu2", reduction="max"), False, "layer=relu2, reduction=max"),
        (Lrp(rule="z_plus"), True, "rule=z_plus"),
        (Lrp(rule="epsilon", epsilon=0.5), True, "rule=epsilon, epsilon=0.5"),
        (Lrp(rule="gamma"), True, "rule=gamma, gamma=0.25"),
        (Lrp(rule="attn_lrp"), True, "rule=attn_lrp, epsilon=1e-06, gamma=0.25, dense_gamma=0.05"),
        (LibraGrad(over="grad_cam"), False, "over=grad_cam"),
        (LibraGrad(over="integrated_gradients"), True, "over=integrated_gradients, baseline=black, n_steps=50"),
        (GradientShap(baseline=("black", "white")), True, "baseline=black+white, n_samples=50, noise=0.0001"),
        (GradientShap(baseline_files="faces/*.png"), True, "baseline=files faces/*.png, n_samples=50, noise=0.0001"),
        (GradientShap(baseline_files=("a.png", "b.png")), True, "baseline=files 2, n_samples=50, noise=0.0001"),
        (
            IntegratedGradients(n_steps="auto", tolerance=0.02, seed=3),
            True,
            "baseline=black, n_steps=auto, tolerance=0.02, map_tolerance=0.05, max_steps=1000",
        ),
        (Xrai(n_steps="auto", scales=(50,)), False, "n_steps=auto, scales=(50,), tolerance=0.01, map_tolerance=0.05"),
        (
            Expert(distribution="path", n_steps=8),
            True,
            "reduction=mean, distribution=path, sign=positive, attribution=input_x_gradient, baseline=black, n_steps=8, "
            "rule=gauss_legendre",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_sign_and_parameters_of_other_settings(explainer: Explainer, signed: bool, parameters: str) -> None:
    assert explainer.signed is signed
    assert explainer.rectified is (isinstance(explainer, Xrai | LibraGrad) and not signed)
    assert (
        explainer.parameters.startswith(parameters)
        if isinstance(explainer, NoiseTunnel)
        else (explainer.parameters == parameters)
    )
