"""What rounding decides: differences of scores below it are no map, differences above it stay."""

import pytest
import torch
from torch import Tensor, nn

from seewhy.core.types import Targets
from seewhy.explainers.base import Explainer
from seewhy.explainers.batch import find_warnings
from seewhy.explainers.cam import ScoreCam
from seewhy.explainers.captum_adapter import Captum
from seewhy.explainers.completeness import ScoreChange, measure_completeness
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.full_grad import FullGrad
from seewhy.explainers.gradient_shap import GradientShap
from seewhy.explainers.hsic import Hsic
from seewhy.explainers.integrated_gradients import GuidedIg, IntegratedGradients
from seewhy.explainers.noise_tunnel import NoiseTunnel
from seewhy.explainers.occlusion import Occlusion
from seewhy.explainers.rise import Rise
from seewhy.explainers.rounding import bound_score_differences
from seewhy.explainers.surrogates import KernelShap, Lime
from seewhy.explainers.xrai import Xrai
from seewhy.metrics.similarity import compare_maps
from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images

METHODS: list[Explainer] = [
    Occlusion(probe_batch_size=8),
    Rise(n_masks=60, space="logit", probe_batch_size=8),
    Lime(n_segments=9, n_samples=60, probe_batch_size=8),
    KernelShap(n_segments=9, probe_batch_size=64),
    KernelShap(n_segments=16, n_samples=60, probe_batch_size=8),
    IntegratedGradients(n_steps=4, tolerance=10, probe_batch_size=8),
    GuidedIg(n_steps=4, tolerance=10, probe_batch_size=8),
    DeepLift(tolerance=10, probe_batch_size=8),
    Xrai(n_steps=4, probe_batch_size=8),
    Hsic(cells=4, n_masks=40, bandwidth="distances", probe_batch_size=8),
    FullGrad(probe_batch_size=8),
    GradientShap(n_samples=8, noise=0, tolerance=10, probe_batch_size=8),
    *(
        Captum(method=method, tolerance=10, probe_batch_size=8)
        for method in ("IntegratedGradients", "DeepLift", "DeepLiftShap")
    ),
    Captum(method="FeatureAblation", n_segments=9, probe_batch_size=8),
    Captum(method="Occlusion", probe_batch_size=8),
    Captum(method="ShapleyValueSampling", options={"n_samples": 4}, n_segments=9, tolerance=10, probe_batch_size=8),
]


def name_method(explainer: Explainer) -> str:
    return explainer.parameters.split(",")[0] if explainer.name == "captum" else explainer.name


class Faint(nn.Module):
    """1 + share * (outputs of a small network)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(4 * 20 * 20, 3)
        self.share = share

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.inner(images)) * self.share + 1


def single(share: float) -> Classifier:
    return classifier_of(Faint(share), 24, 3).float()


@pytest.mark.slow
@pytest.mark.parametrize("explainer", METHODS, ids=name_method)
def test_differences_below_rounding_are_no_map_and_said_to_be_none(explainer: Explainer) -> None:
    images, targets = random_images(2, 24).float(), torch.tensor([1, 2])
    result = explainer.attribute(single(1e-7), images, targets)
    assert not bool(result.maps.any())
    facts = {key: float(values[0]) for key, values in result.facts.items()}
    if facts["largest"]:
        assert any("below the floor of rounding" in each for each in find_warnings(explainer, result.maps[0], facts))
    precise = explainer.attribute(single(1e-7).double(), images, targets)
    assert bool(precise.maps.flatten(1).any(1).all()), "double precision tells them from rounding"


@pytest.mark.slow
@pytest.mark.parametrize("explainer", METHODS, ids=name_method)
def test_differences_above_rounding_stay(explainer: Explainer) -> None:
    images, targets = random_images(2, 24).float(), torch.tensor([1, 2])
    result = explainer.attribute(single(1e-2), images, targets)
    assert bool((result.facts["largest"] > result.facts["floor"]).all())
    assert bool(result.maps.flatten(1).any(1).all())


def test_a_map_of_noisy_copies_leaves_out_those_below_rounding() -> None:
    tunnel = NoiseTunnel(explainer=Occlusion(incremental=False), n_samples=2, probe_batch_size=8)
    maps = tunnel(single(1e-7), random_images(1, 24).float(), torch.tensor([1]))
    assert not bool(maps.any())


def test_the_bound_holds_for_passes_in_single_precision() -> None:
    classifier, images = single(1.0), random_images(64, 24).float()
    with torch.no_grad():
        narrow = classifier(images)
        exact = classifier.double()(images.double())
    bound = bound_score_differences(classifier.float(), narrow, Targets(torch.zeros(64, dtype=torch.int64)), images)
    errors = (narrow.double() - exact)[:, 0]
    assert float((errors[:, None] - errors).abs().max()) < float(bound.min())
    assert float(bound.max()) < 1e4 * float(errors.abs().max())


def test_weights_on_several_outputs_are_bounded_by_their_terms() -> None:
    logits, images = torch.tensor([[100.0, 100.0]]), torch.zeros(1, 3, 4, 4)
    classifier = classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), 4, 2).float()
    bound = [
        float(bound_score_differences(classifier, logits, Targets(torch.tensor(values)), images))
        for values in ([0], [[1.0, -1.0]])
    ]
    assert bound[1] == pytest.approx(2 * bound[0])
    assert bound[0] == pytest.approx(100 * torch.finfo(torch.float32).eps * (48 + 5.585) ** 0.5, rel=1e-3)


def test_a_relative_gap_is_never_a_share_of_rounding() -> None:
    change = ScoreChange(torch.tensor([1e-9, 2.0]), torch.tensor([1e-3, 1e-3]))
    facts = measure_completeness(torch.full((2, 1, 1), 1e-4), change)
    assert facts["completeness_gap_relative"].tolist() == pytest.approx([0.1, 0.99995], rel=1e-4)


def test_a_network_whose_score_no_channel_changes_has_no_map_of_scores() -> None:
    images, targets = random_images(2, 24).float(), torch.tensor([1, 2])
    explainer = ScoreCam(probe_batch_size=8)
    result = explainer.attribute(single(1e-9), images, targets)
    assert not bool(result.maps.any()) and result.facts["score_spread"].tolist() == [0, 0]
    said = find_warnings(explainer, result.maps[0], {"score_spread": 0.0})
    assert any("no channel changes the score by more than its rounding" in each for each in said)
    clear = explainer.attribute(single(1.0), images, targets)
    assert bool((clear.facts["score_spread"] > 0).all()) and bool(clear.maps.flatten(1).any(1).all())
    assert not explainer.list_warnings({"score_spread": float(clear.facts["score_spread"][0])})


AVERAGING: list[Explainer] = [
    Rise(n_masks=200, space="logit", probe_batch_size=64),
    Rise(n_masks=200, probe_batch_size=64),
    Lime(n_segments=9, n_samples=200, probe_batch_size=64),
    KernelShap(n_segments=9, probe_batch_size=64),
    KernelShap(n_segments=16, n_samples=200, probe_batch_size=64),
    Hsic(cells=4, n_masks=200, bandwidth="distances", probe_batch_size=64),
    Hsic(cells=4, n_masks=200, probe_batch_size=64),
]
"""Methods whose values are means of many scores."""


class Jitter(nn.Module):
    """Outputs 2 and 0, the first off by what rounding may make of it: as far as two roundings are apart from each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 24 * 24, 2)

    def forward(self, images: Tensor) -> Tensor:
        apart = 2 * torch.finfo(torch.bfloat16).eps
        noise = torch.sin(1e4 * images.double().sum((1, 2, 3))) * apart / 2
        return torch.stack([2 + noise, torch.zeros_like(noise)], 1).float() + 0 * self.layer(images.flatten(1)).float()


@pytest.mark.parametrize("explainer", AVERAGING, ids=lambda each: f"{each.name}({each.parameters})")
def test_in_bfloat16_a_mean_of_scores_is_off_by_less_than_a_score_and_noise_is_no_map(explainer: Explainer) -> None:
    images, targets = random_images(2, 24).float(), torch.tensor([0, 0])
    classifier = classifier_of(Jitter(), 24, 2).float()
    with torch.autocast("cpu", torch.bfloat16):
        result = explainer.attribute(classifier, images, targets)
    assert bool((result.facts["largest"] > 0).all()) and not bool(result.maps.any())
    assert bool((result.facts["floor"] < 100 * result.facts["largest"]).all()), "the bound is not far above the noise"


@pytest.mark.parametrize("explainer", AVERAGING, ids=lambda each: f"{each.name}({each.parameters})")
def test_in_bfloat16_a_mean_of_scores_that_differ_is_the_map_of_float32(explainer: Explainer) -> None:
    images, targets = random_images(2, 24).float(), torch.tensor([1, 2])
    classifier = single(40.0)
    full = explainer.attribute(classifier, images, targets).maps
    with torch.autocast("cpu", torch.bfloat16):
        maps = explainer.attribute(classifier, images, targets).maps
    assert float(compare_maps(full, maps).min()) > 0.95
