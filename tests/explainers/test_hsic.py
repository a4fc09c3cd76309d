"""HSIC against its definition with full matrices, closed forms, xplique, and what it must not depend on."""

import math

import pytest
import torch
from torch import Tensor, nn

from explainer_checks import assert_same, state_of
from layer_twin import enlarged
from seewhy.core.errors import UserError
from seewhy.core.types import Targets
from seewhy.explainers.batch import find_warnings
from seewhy.explainers.hsic import Hsic, choose_width, compute_hsic, draw_masks
from seewhy.models.classifier import Classifier, Passes
from tiny import classifier_of, linear_classifier, looked_over, random_images, small_cnn

TARGETS = torch.tensor([3, 7])


def twin(classifier: Classifier, image: Tensor, target: int, cells: int, masks: Tensor, width: float | None) -> Tensor:
    """Equation 3 of the paper with its kernels, mask after mask, matrix by matrix."""
    side = image.shape[-1]
    scores = []
    for mask in masks.double().view(-1, cells, cells):
        large = mask.repeat_interleave(side // cells, 0).repeat_interleave(side // cells, 1)
        with torch.no_grad():
            scores.append(classifier((image * large)[None])[0, target])
    y = torch.stack(scores)
    width = abs(float(y.sort().values[len(y) // 2 - 1 : len(y) // 2 + 1].mean())) if width is None else width
    centre = torch.eye(len(y)).double() - 1 / len(y)
    values = []
    for x in masks.double().unbind(1):
        kernel = torch.empty(len(y), len(y)).double()
        outputs = torch.empty_like(kernel)
        for i in range(len(y)):
            for j in range(len(y)):
                kernel[i, j] = 1 + (0.5 - (x[i] - x[j]) ** 2)
                outputs[i, j] = math.exp(-(float(y[i] - y[j]) ** 2) / (2 * width**2))
        values.append(((centre @ kernel @ centre) * (centre @ outputs @ centre).T).sum() / len(y))
    return torch.stack(values).view(cells, cells)


def test_slow_twin() -> None:
    classifier, images = small_cnn(), random_images(2, 32)
    maps = Hsic(cells=4, n_masks=20, probe_batch_size=7)(classifier, images, TARGETS)
    for image, target, found in zip(images, TARGETS.tolist(), maps, strict=True):
        masks = draw_masks(20, 16, 0, image)
        torch.testing.assert_close(found, enlarged(twin(classifier, image, target, 4, masks, None), 32))


def test_closed_form_where_one_cell_decides() -> None:
    """Of y = c x_1, L_ij = 1 - e (x_1i - x_1j)^2 with e = 1 - exp(-c^2 / 2 w^2): HSIC of x_k is 4 n e cov(x_1, x_k)^2."""
    visible = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 0], [0, 1]]).double()
    found = compute_hsic(visible, 3.0 * visible[:, 0], torch.tensor(2.0).double())
    covariances = torch.tensor([1 / 4, -1 / 12]).double()
    torch.testing.assert_close(found, 4 * 6 * (1 - math.exp(-9 / 8)) * covariances**2)


def test_the_cell_that_the_score_reads_leads() -> None:
    classifier, _ = linear_classifier(8, 2)
    weights = torch.zeros(2, 3, 8, 8)
    weights[0, :, 4:6, 2:4] = 1.0
    classifier.network[1].weight.data = weights.flatten(1).double()  # type: ignore[index,union-attr]
    images = torch.ones(1, 3, 8, 8).double()
    (found,) = Hsic(cells=4, n_masks=64, probe_batch_size=16)(classifier, images, torch.tensor([0]))
    assert found.argmax() in (4 * 8 + 2, 4 * 8 + 3, 5 * 8 + 2, 5 * 8 + 3)
    assert float(found.amax()) > 10 * float(found[0, 7])


def test_masks_are_balanced_and_belong_to_seed_and_image() -> None:
    first, second = random_images(2, 8)
    masks = draw_masks(512, 64, 0, first)
    assert masks.sum(0).tolist() == [256] * 64
    assert torch.equal(masks, draw_masks(512, 64, 0, first))
    assert not torch.equal(masks, draw_masks(512, 64, 1, first))
    assert not torch.equal(masks, draw_masks(512, 64, 0, second))
    assert torch.equal(masks[:100], draw_masks(100, 64, 0, first))


def test_widths() -> None:
    scores = torch.tensor([-1.0, 1.0, -3.0, 3.0]).double()
    assert float(choose_width(scores, "median")) == 3.0, "the median is 0: of the distances 2, 2, 4, 4, 2, 6"
    assert float(choose_width(scores + 5, "median")) == 5.0
    assert float(choose_width(scores + 5, "distances")) == 3.0
    assert float(choose_width(torch.zeros(4).double(), "median")) == 1.0


def test_scores_around_zero_have_a_warning_and_distances_a_map_that_no_constant_changes() -> None:
    classifier, images = small_cnn(), random_images(2, 32)
    explainer = Hsic(cells=4, n_masks=32, bandwidth="distances", probe_batch_size=16)
    before = explainer(classifier, images, TARGETS)
    classifier.network.fc3.bias.data += 5.0  # type: ignore[union-attr,operator]
    torch.testing.assert_close(explainer(classifier, images, TARGETS), before, rtol=1e-6, atol=1e-12)
    assert not explainer.list_warnings({"bandwidth_relative": 0.01})
    assert "explainer.bandwidth=distances" in Hsic().list_warnings({"bandwidth_relative": 0.01})[0]
    assert not Hsic().list_warnings({"bandwidth_relative": 0.5})


def test_a_score_that_never_changes_counts_as_zero() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    network[1].weight.data.fill_(1e-12)  # type: ignore[union-attr,operator]
    explainer = Hsic(cells=4, n_masks=32, probe_batch_size=16)
    result = explainer.attribute(classifier_of(network, 8, 3).float(), random_images(1, 8).float(), torch.tensor([0]))
    facts = {key: float(values[0]) for key, values in result.facts.items()}
    assert not bool(result.maps.any()) and "zero" in find_warnings(explainer, result.maps[0], facts)[0]


def test_batches_are_filled_and_bounded_and_nothing_is_left_behind() -> None:
    classifier, images = looked_over(small_cnn()), random_images(2, 32)
    before, sizes = state_of(classifier), []
    handle = classifier.network.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    weights = torch.zeros(2, 10).double()
    weights[:, 3], weights[:, 7] = 1.0, -1.0
    whole = Hsic(cells=4, n_masks=15, probe_batch_size=7)(classifier, images, Targets(weights))
    handle.remove()
    assert sizes == [7, 7, 7, 7, 2]
    assert classifier.passes == Passes(30, 0)
    assert_same(before, state_of(classifier))
    alone = Hsic(cells=4, n_masks=15, probe_batch_size=64)(classifier, images[1:], Targets(weights[1:]))
    torch.testing.assert_close(alone, whole[1:])


def test_a_grid_that_does_not_fit() -> None:
    with pytest.raises(UserError, match=r"explainer.cells=9 is more than the 8 pixels"):
        Hsic(cells=9)(linear_classifier(8)[0], random_images(1, 8), torch.tensor([0]))


@pytest.mark.oracle
def test_equal_to_xplique() -> None:
    tf = pytest.importorskip("tensorflow")
    peer = pytest.importorskip("xplique.attributions.global_sensitivity_analysis.hsic_estimators")
    visible, scores = draw_masks(40, 16, 0, random_images(1, 8)[0]).double(), torch.linspace(1, 3, 40).double() ** 2
    estimated = peer.BinaryEstimator(output_kernel="rbf")(
        tf.reshape(tf.constant(visible.numpy(), tf.float32), (-1, 4, 4, 1)), tf.constant(scores.numpy()), 40
    )
    found = compute_hsic(visible, scores, choose_width(scores, "median"))
    expected = torch.from_numpy(estimated.numpy()).double().flatten()
    assert float((found - expected).abs().max() / expected.max()) < 1e-5, "theirs is in single precision"
