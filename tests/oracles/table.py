"""The table of the comparison: (method, peer, networks, tolerance, exceptions with their reasons).

The tolerance bounds the largest difference in a map, as a share of the largest absolute value of the peer's map. Both
sides compute in double precision, where `double_by_default` keeps peers from rounding. Maps of class activation are
compared after the same bilinear enlargement, because peers differ in how they enlarge.

No gradient is taken at a flat image: where all pixels are equal, so are all values of a pooling window, up to rounding,
and rounding (the processor, the other images of the batch) decides which of them is the maximum. A path or a reference that
holds its baseline itself therefore begins at `noise` instead of black.
"""

from __future__ import annotations

from oracles import cam_maps, captum_maps, pair_maps, twin_maps, zennit_maps
from oracles.networks import CNNS
from oracles.row import Row, early, first, largest, pair_weights, total, up_to_a_factor
from seewhy.explainers.attention import AttentionGradient, AttentionRollout
from seewhy.explainers.cam import AblationCam, EigenCam, GradCam, GradCamPlusPlus, HiresCam, LayerCam, ScoreCam
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.full_grad import FullGrad
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.explainers.gradient_shap import GradientShap
from seewhy.explainers.guided_backprop import Deconvolution, GuidedBackprop, GuidedGradCam
from seewhy.explainers.integrated_gradients import BlurIg, GuidedIg, IntegratedGradients
from seewhy.explainers.lrp import Lrp
from seewhy.explainers.noise_tunnel import NoiseTunnel, SmoothGrad
from seewhy.explainers.occlusion import Occlusion
from seewhy.explainers.surrogates import KernelShap, Lime
from seewhy.explainers.xrai import Xrai

EXACT = 1e-9
"""Double precision throughout: some 1e-14, and more where a method divides by differences."""
SINGLE = 1e-6
"""The peer rounds results to single precision, 6e-8 each, a few of which add up; never the images that it evaluates, where
6e-8 may open or close a gate."""
GUARDED = 1e-6
"""Ours keeps denominators from 0 with 1e-9 (LRP) or leaves shares below 1e-8 out (blur IG)."""
STARTED = 1e-7
"""Our first gradient is taken 1.5e-8 of the way (the root of the precision) from the baseline, theirs at it, where poolings
and rectifiers may tie: networks of pieces that are linear do not notice, smooth ones by a share of that order."""
B = {"probe_batch_size": 8}
TUNNEL = {"n_samples": 3, "noise": 0.2, **B}
STEPS = 4
IG = IntegratedGradients(n_steps=STEPS)
SHAP = GradientShap(n_samples=6, noise=0.1, **B)
NO_RECTIFIERS = {"vit_tiny": "refused: GELU is no rectifier"}
NO_RULE = {"vit_tiny": "refused: no rule for layer normalisation and attention"}
TOKENS_AS_CHANNELS = {"vit_tiny": "captum has no way to turn tokens into a grid: its map is one row of 192 channels"}
NO_ATTENTION = dict.fromkeys(CNNS, "refused: a network without attention")
FIVE_COPIES = (
    "zennit makes five copies of 103 million weights; rule=composite compares the same rule on the convolutions"
)


def squared(explainer: NoiseTunnel, kind: str) -> Row:
    theirs = captum_maps.noise_tunnel("IntegratedGradients", kind, 3, 0.2, n_steps=STEPS, baselines=0.0)
    return Row(explainer, "captum", lambda case: total(theirs(case)), EXACT, "our noise")


GRADIENTS = [
    Row(Saliency(**B), "captum", captum_maps.gradients("Saliency", largest), EXACT),
    Row(Saliency(**B), "saliency", pair_maps.saliency, EXACT),
    Row(InputXGradient(**B), "captum", captum_maps.gradients("InputXGradient", total), EXACT),
    Row(
        IntegratedGradients(n_steps=6, **B),
        "captum",
        captum_maps.gradients("IntegratedGradients", total, n_steps=6, baselines=0.0),
        EXACT,
        "Gauss-Legendre; the other rules: test_integrated_gradients",
    ),
    Row(
        IntegratedGradients(n_steps=6, **B),
        "saliency",
        pair_maps.integrated_gradients(6),
        SINGLE,
        "theirs weighs n nodes from end to end with 1 / n; ours put together from riemann_left and the last node",
        ours=pair_weights(6),
    ),
    Row(
        SmoothGrad(n_samples=3, noise=0.15, **B),
        "captum",
        lambda case: largest(captum_maps.noise_tunnel("Saliency", "smoothgrad", 3, 0.15, abs=False)(case)),
        EXACT,
        "our noise",
    ),
    Row(
        SmoothGrad(n_samples=3, noise=0.15, **B),
        "saliency",
        pair_maps.smooth_grad(3, 0.15),
        SINGLE,
        "our noise",
    ),
    Row(
        NoiseTunnel(explainer=InputXGradient(), **TUNNEL),
        "captum",
        lambda case: total(captum_maps.noise_tunnel("InputXGradient", "smoothgrad", 3, 0.2)(case)),
        EXACT,
        "our noise",
    ),
    squared(NoiseTunnel(explainer=IG, combine="mean", **TUNNEL), "smoothgrad"),
    squared(NoiseTunnel(explainer=IG, combine="mean_of_squares", **TUNNEL), "smoothgrad_sq"),
    squared(NoiseTunnel(explainer=IG, combine="variance", **TUNNEL), "vargrad"),
    Row(SHAP, "captum", captum_maps.gradient_shap(SHAP), EXACT, "our noise and our places on the path"),
]

CHANGED_BACKWARD = [
    Row(
        DeepLift(baseline="noise", **B),
        "captum",
        captum_maps.deep_lift,
        EXACT,
        "captum mended: a rule for ReLU6; a copy before each pool, because a ReLU reads its gradient before the pool "
        "behind it has changed it; unpooling that adds up where windows overlap; single images, because its pool rule "
        "hands the first image's gradient (grad_input[0]) to the whole batch",
        {"vit_tiny": "captum has no rule for attention and normalisation; test_deep_lift_transformers"},
    ),
    Row(
        GuidedBackprop(**B),
        "captum",
        captum_maps.rectified("GuidedBackprop"),
        EXACT,
        "ReLU6 rewritten",
        NO_RECTIFIERS,
    ),
    Row(
        GuidedBackprop(**B),
        "zennit",
        zennit_maps.rectified("GuidedBackprop"),
        EXACT,
        "ReLU6 rewritten",
        NO_RECTIFIERS,
    ),
    Row(GuidedBackprop(**B), "pytorch_grad_cam", cam_maps.guided_backprop, EXACT, "ReLU6 rewritten", NO_RECTIFIERS),
    Row(Deconvolution(**B), "captum", captum_maps.rectified("Deconvolution"), EXACT, "ReLU6 rewritten", NO_RECTIFIERS),
    Row(Deconvolution(**B), "zennit", zennit_maps.rectified("DeconvNet"), EXACT, "ReLU6 rewritten", NO_RECTIFIERS),
    *(
        Row(
            Lrp(rule=rule, **B),
            "zennit",
            zennit_maps.relevance(rule),
            GUARDED,
            "batch norms folded and sums as modules for zennit; no bias in its z+ and z^B rules",
            {**NO_RULE, "vgg16": FIVE_COPIES} if rule == "gamma" else NO_RULE,
        )
        for rule in ("composite", "epsilon", "gamma", "z_plus")
    ),
    Row(
        Lrp(rule="epsilon", epsilon=1e-6, **B),
        "captum",
        captum_maps.lrp_epsilon(1e-6),
        EXACT,
        "its own epsilon of 1e-9 in pools made 1e-30",
        {**NO_RULE, "efficientnet_lite0": "captum raises on Conv2dSame, BatchNormAct2d, Identity and Flatten"},
    ),
]

CAMS = [
    Row(GradCam(**B), "captum", captum_maps.grad_cam, EXACT, "", TOKENS_AS_CHANNELS),
    Row(GradCam(**B), "pytorch_grad_cam", cam_maps.at_image_size(cam_maps.grad_cam("GradCAM")), EXACT),
    Row(GradCam(**B), "torchcam", cam_maps.torchcam("GradCAM"), EXACT),
    Row(
        GradCamPlusPlus(**B),
        "pytorch_grad_cam",
        cam_maps.at_image_size(cam_maps.grad_cam("GradCAMPlusPlus")),
        SINGLE,
        "logits times 1e6 on both sides, so that its constant 1e-6 does not count",
        {
            "vit_tiny": "theirs divides by 2 + S g, near 0 where the sum S of a normalised channel is negative; ours S >= 0"
        },
        case=lambda case: case.steep(1e6),
    ),
    Row(LayerCam(**B), "pytorch_grad_cam", cam_maps.at_image_size(cam_maps.grad_cam("LayerCAM")), EXACT),
    Row(LayerCam(**B), "torchcam", cam_maps.torchcam("LayerCAM"), EXACT),
    Row(HiresCam(**B), "pytorch_grad_cam", cam_maps.at_image_size(cam_maps.grad_cam("HiResCAM")), EXACT),
    Row(
        AblationCam(**B),
        "pytorch_grad_cam",
        cam_maps.ablation_cam,
        EXACT,
        "theirs without its division by the score and its -1e7 in place of 0; layers with few channels",
        ours=lambda case: AblationCam(layer=case.layer, **B)(case.classifier, case.images, case.targets),
        case=early,
    ),
    Row(
        FullGrad(rescale="channel", **B),
        "pytorch_grad_cam",
        cam_maps.full_grad,
        EXACT,
        "theirs before the whole is stretched, without its 1e-7, each layer where it looks",
        {
            "efficientnet_lite0": "theirs leaves out BatchNormAct2d, whose type is not nn.BatchNorm2d, and ReLU6",
            "vit_tiny": "theirs knows convolutions and batch normalisations alone",
        },
    ),
    Row(
        EigenCam(**B),
        "pytorch_grad_cam",
        cam_maps.signed_like_the_mean(cam_maps.grad_cam("EigenCAM")),
        SINGLE,
        "the sign, which theirs leaves to the decomposition, as ours",
    ),
    Row(
        GuidedGradCam(**B),
        "captum",
        captum_maps.guided_grad_cam,
        EXACT,
        "bilinear enlargement, ReLU6 rewritten",
        NO_RECTIFIERS,
    ),
    *(
        Row(
            ScoreCam(**B),
            peer,
            up_to_a_factor(theirs),
            EXACT,
            "up to a factor: constant channels have a share in their softmax, none in ours; corners not aligned and "
            "masks stretched after their enlargement; layers with few channels",
            ours=up_to_a_factor(
                lambda case: ScoreCam(layer=case.layer, **B)(case.classifier, case.images, case.targets)
            ),
            case=early,
        )
        for peer, theirs in (
            ("pytorch_grad_cam", cam_maps.pytorch_score_cam),
            ("torchcam", cam_maps.torchcam_score),
        )
    ),
]

PERTURBATIONS = [
    Row(Occlusion(window=16, stride=8, **B), "captum", captum_maps.occlusion(16, 8), EXACT),
    Row(
        Occlusion(stride=1, **B),
        "saliency",
        pair_maps.occlusion(2),
        EXACT,
        "theirs adds up what ours averages",
        ours=lambda case: Occlusion(window=case.images.shape[-1] - 2, stride=1, **B)(
            case.classifier, case.images, case.targets
        ),
    ),
    Row(
        Lime(n_segments=8, n_samples=24, **B),
        "captum",
        captum_maps.lime(8, 24, 0.25),
        SINGLE,
        "our superpixels, samples and weights; captum's own weights are distances of pixels, its own model a lasso",
    ),
    Row(
        KernelShap(n_segments=3, **B),
        "captum",
        captum_maps.shapley_values(3),
        SINGLE,
        "exact Shapley values of few superpixels; captum's KernelShap draws at random and has no seed",
        case=first,
    ),
]

PATHS = [
    Row(
        GuidedIg(n_steps=8, rule="riemann_left", baseline="noise", **B),
        "saliency",
        pair_maps.guided_ig(8, 0.25, 0.02),
        STARTED,
        "their default fraction",
        case=first,
    ),
    Row(
        BlurIg(n_steps=9, max_sigma=4.0, **B),
        "saliency",
        pair_maps.blur_ig(9, 4.0),
        GUARDED,
        "our blur (theirs pads with black and cuts its kernel off) and our nodes; the mean of their sums from both ends",
        case=first,
    ),
    Row(
        Xrai(n_steps=3, dilation=5, **B),
        "saliency",
        pair_maps.xrai(3, lambda pixels: max(1, round(pixels / 1000))),
        EXACT,
        "our integrated gradients, summed over the channels; the smallest gain in proportion to the image; regions in the "
        "order of the choice, as in the paper: theirs sorts them once more by density",
    ),
]

ATTENTION = [
    Row(AttentionRollout(**B), "slow twin", twin_maps.attention_rollout, EXACT, "", NO_ATTENTION),
    Row(AttentionGradient(**B), "slow twin", twin_maps.attention_gradient, EXACT, "", NO_ATTENTION),
]

TABLE = [*GRADIENTS, *CHANGED_BACKWARD, *CAMS, *PERTURBATIONS, *PATHS, *ATTENTION]

NOT_COMPARED = {
    "grad_cam_plus_plus, torchcam": "its division by 2 g^2 + sum(A g^3) is lost (it divides a copy made by indexing with "
    "a mask), so that its weights are sums of ReLU(g)^3",
    "kernel_shap, captum KernelShap": "draws coalitions from the global generator; its exact ShapleyValues are compared",
    "grad_cam, saliency": "its Grad-CAM has no way to a layer of its own: it is given activations and gradients",
}

WITHOUT_PEER = {
    "captum": "the peer itself; closed forms, exact values and bounds in test_captum_adapter",
    "shapley_value_sampling": "captum itself; every subset in test_captum_adapter",
    "feature_ablation": "captum itself; linear network in test_captum_adapter",
    "deep_lift_shap": "captum itself; the mean over baselines in test_captum_adapter",
    "internal_influence": "captum itself; a linear layer in test_captum_adapter",
    "rise": "the peers have none for torch; loop over masks and closed forms in test_rise",
    "random": "a control; distribution in test_random",
    "edges": "a control; closed forms in test_edges",
    "centre": "a control; closed form in test_centre",
    "expert": "closed forms and the special cases saliency and integrated gradients in test_expert",
}
