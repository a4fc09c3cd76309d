"""Representer points: the identity, a dense twin, retraining without a point, planted wrong labels."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from seewhy.analyses.representers.points import (
    Nearest,
    RepresenterPoints,
    RunningTop,
    compare_probabilities,
    compute_representer_points,
    find_strongest,
    measure_class_consistency,
    measure_label_importance,
)
from seewhy.analyses.representers.refit import LastLayer, append_constant, refit_last_layer
from seewhy.core.errors import Incompatible, UserError
from seewhy.core.types import Batch
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images, small_cnn


class FewImages:
    """A training set of random 32-pixel pictures, labelled as the classifier sees them."""

    def __init__(self, classifier: Classifier, count: int = 60) -> None:
        self.images = random_images(count, 32, seed=1)
        with torch.no_grad():
            self.labels = classifier(self.images).argmax(1)

    def training_count(self) -> int:
        return len(self.images)

    def training_batch(self, positions: list[int]) -> Batch:
        names = [f"train_{position}" for position in positions]
        return Batch(self.images[positions], self.labels[positions], names, names, names, [])


def blobs(count: int = 300, features: int = 6, classes: int = 3, spread: float = 0.6) -> tuple[Tensor, Tensor]:
    """(features [count, features], labels) of one cloud for each class."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(classes, features, generator=generator)
    labels = torch.arange(count) % classes
    return centres[labels] + spread * torch.randn(count, features, generator=generator), labels


def points_of(classifier: Classifier, **options: Any) -> tuple[RepresenterPoints, Tensor]:
    images = random_images(7, 32, seed=2)
    targets = torch.tensor([0, 1, 2, 3, 4, 5, 9])
    given = {"l2": 1e-4, "probe_batch_size": 16, "least_pearson": 0.9, **options}
    return compute_representer_points(classifier, FewImages(classifier), images, targets, targets, **given), images


def test_the_values_add_up_to_the_logit_of_the_refitted_layer_and_that_to_the_network() -> None:
    classifier = small_cnn()
    points, images = points_of(classifier, least_pearson=0.99)
    assert points.fit.gradient_norm <= points.fit.gradient_limit
    assert points.identity_error < 1e-6
    with torch.no_grad():
        features = classifier.network.relu4(classifier.network.fc2(_hidden(classifier, images)))
        probabilities = classifier(images).softmax(1)
    logits = append_constant(features) @ points.fit.weights.T
    expected = logits.gather(1, torch.tensor([[0], [1], [2], [3], [4], [5], [9]]))[:, 0]
    torch.testing.assert_close(points.strongest.total, expected, rtol=0, atol=1e-4)
    assert float((logits.softmax(1) - probabilities).abs().max()) < 0.01


def _hidden(classifier: Classifier, images: Tensor) -> Tensor:
    net = classifier.network
    normalised = (images - classifier.mean) / classifier.std
    features = net.pool2(net.relu2(net.conv2(net.pool1(net.relu1(net.conv1(normalised))))))
    return net.relu3(net.fc1(net.flatten(features)))


def test_streaming_gives_what_the_dense_array_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seewhy.analyses.representers.points.BLOCK", 7)
    monkeypatch.setattr("seewhy.analyses.representers.points.TEST_BLOCK", 3)
    generator = torch.Generator().manual_seed(0)
    features, tests = torch.randn(40, 5, generator=generator), torch.randn(8, 5, generator=generator)
    alpha, targets = torch.randn(40, 4, generator=generator).double(), torch.arange(8) % 4
    found = find_strongest(features, alpha, tests, targets, 6)
    dense = torch.empty(8, 40, 4, dtype=torch.float64)
    for t in range(8):
        for i in range(40):
            for j in range(4):
                product = sum(float(features[i, k]) * float(tests[t, k]) for k in range(5)) + 1
                dense[t, i, j] = alpha[i, j] * product
    for t in range(8):
        values = dense[t, :, targets[t]]
        order = values.argsort(descending=True)
        assert found.excitatory.columns[t].tolist() == order[:6].tolist()
        assert found.inhibitory.columns[t].tolist() == order.flip(0)[:6].tolist()
        torch.testing.assert_close(found.excitatory.values[t], values[order[:6]])
        torch.testing.assert_close(found.inhibitory.values[t], -values[order.flip(0)[:6]])
        torch.testing.assert_close(found.total[t], values.sum())


def test_the_fit_is_where_a_general_optimiser_ends() -> None:
    features, labels = blobs(60)
    targets = functional.one_hot(labels, 3).double()
    fit = refit_last_layer(features, targets, 0.01)
    weights = torch.zeros(3, 7, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], lr=0.5, max_iter=2000, tolerance_grad=1e-12, tolerance_change=0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = append_constant(features) @ weights.T
        loss = -(targets * logits.log_softmax(1)).sum(1).mean() + 0.01 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    torch.testing.assert_close(fit.weights, weights.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(fit.coefficients.T @ append_constant(features), fit.weights, rtol=0, atol=1e-9)
    softmax = (append_constant(features) @ fit.weights.T).softmax(1)
    torch.testing.assert_close(fit.coefficients, (targets - softmax) / (2 * 0.01 * 60), rtol=0, atol=1e-12)


def test_coefficients_of_labels_are_positive_for_the_own_class_alone() -> None:
    features, labels = blobs()
    fit = refit_last_layer(features, functional.one_hot(labels, 3), 0.01)
    own = functional.one_hot(labels, 3).bool()
    assert bool((fit.coefficients[own] > 0).all())
    assert bool((fit.coefficients[~own] < 0).all())


def test_leaving_a_point_out_ranks_the_same_points_first() -> None:
    features, labels = blobs(36, features=3, spread=2.0)
    targets = functional.one_hot(labels, 3).double()
    fit = refit_last_layer(features, targets, 3.0)
    test, target = features[:1] + 0.3, torch.tensor([int(labels[0])])
    top = find_strongest(features, fit.coefficients, test, target, 3)
    logit = float((append_constant(test) @ fit.weights.T)[0, target])
    drops = []
    for left_out in range(36):
        kept = torch.arange(36) != left_out
        # the same objective without the term of one point: its mean is over 35, so l2 grows by 36 / 35
        without = refit_last_layer(features[kept], targets[kept], 3.0 * 36 / 35)
        drops.append(logit - float((append_constant(test) @ without.weights.T)[0, target]))
    order = torch.tensor(drops).argsort(descending=True)
    assert set(top.excitatory.columns[0].tolist()) == set(order[:3].tolist())
    assert set(top.inhibitory.columns[0].tolist()) == set(order[-3:].tolist())


def test_flipped_labels_come_first() -> None:
    features, labels = blobs(400)
    flipped = torch.randperm(400, generator=torch.Generator().manual_seed(1))[:20]
    noisy = labels.clone()
    noisy[flipped] = (labels[flipped] + 1) % 3
    _, importance = measure_label_importance(features, noisy, 3, 0.003)
    first = importance.argsort(descending=True)[:20]
    recall = len(set(first.tolist()) & set(flipped.tolist())) / 20
    assert recall >= 0.95
    soft = refit_last_layer(features, functional.one_hot(labels, 3) * 0.9 + 0.1 / 3, 0.003)
    blind = soft.coefficients.gather(1, noisy[:, None])[:, 0].abs().argsort(descending=True)[:20]
    assert len(set(blind.tolist()) & set(flipped.tolist())) / 20 < 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [({"l2": 0.0}, "l2=0.0 must be above 0"), ({"features": torch.full((4, 2), torch.nan)}, "NaN")],
)
def test_a_fit_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    given = {"features": torch.rand(4, 2), "targets": torch.eye(2)[[0, 1, 0, 1]], "l2": 0.1, **change}
    with pytest.raises(UserError, match=words):
        refit_last_layer(**given)


def test_a_fit_to_the_labels_explains_only_where_it_is_close_to_the_network() -> None:
    classifier = small_cnn()
    with pytest.raises(UserError, match="would explain another network"):
        points_of(classifier, fit_to="labels", least_pearson=0.99)
    points, _ = points_of(classifier, fit_to="labels", least_pearson=-1.0)
    assert points.fit is points.label_fit
    assert points.identity_error < 1e-6
    with pytest.raises(UserError, match="fit_to='label' is none of network, labels"):
        points_of(classifier, fit_to="label")


def test_a_poor_reconstruction_is_refused() -> None:
    with pytest.raises(UserError, match=r"training images .* below 0.99.*smaller callbacks.representers.l2"):
        points_of(small_cnn(), l2=10.0, least_pearson=0.99)


def test_reconstruction_by_hand() -> None:
    given = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    assert compare_probabilities(given, given) == pytest.approx((1.0, 0.0))
    assert compare_probabilities(1 - given, given) == pytest.approx((-1.0, 1.5))
    constant = compare_probabilities(torch.full((2, 2), 0.5), given)
    assert constant.pearson != constant.pearson
    with pytest.raises(UserError, match="nan"):
        constant.check(0.99, "test")


def test_the_best_of_a_row_whatever_the_blocks() -> None:
    values = torch.tensor([[4.0, 1.0, 3.0, 2.0, 5.0], [0.0, -1.0, -2.0, -3.0, -4.0]])
    for width in (1, 2, 5):
        top = RunningTop(2, 3)
        for start in range(0, 5, width):
            top.add(values[:, start : start + width], start)
        assert top.columns.tolist() == [[4, 0, 2], [0, 1, 2]]
        assert top.values.tolist() == [[5.0, 4.0, 3.0], [0.0, -1.0, -2.0]]


def test_class_consistency_by_hand() -> None:
    training = torch.tensor([[1.0, 0.0], [10.0, 1.0], [0.0, 1.0], [1.0, 10.0]])
    near = Nearest(torch.tensor([[1.0, 0.01], [0.1, 5.0], [1.0, 1.0]]), 2)
    near.add(training[:3], 0)
    near.add(training[3:], 3)
    assert near.top.columns[:2].tolist() == [[0, 1], [2, 3]]
    shares = measure_class_consistency(near.top, torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, -1]))
    assert shares[:2].tolist() == [0.5, 1.0]
    assert bool(shares[2].isnan())


def test_the_last_layer_is_the_one_that_makes_the_logits() -> None:
    classifier = small_cnn()
    images = random_images(3, 32)
    before = classifier.passes.forward
    layer = LastLayer(classifier, images[:1])
    assert layer.layer is classifier.network.fc3
    assert classifier.passes.forward == before
    features, logits = layer.features(BatchedEvaluator(classifier, images[0], 2), images)
    assert features.shape == (3, 84)
    assert bool((features >= 0).all()), "after the ReLU"
    rebuilt = features.double() @ layer.layer.weight.T + layer.layer.bias
    torch.testing.assert_close(rebuilt.float(), logits.float(), rtol=1e-5, atol=1e-5)
    assert not any(module._forward_hooks for module in classifier.modules())


def test_a_network_without_a_last_dense_layer_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(Incompatible, match="ends in Conv2d, AdaptiveAvgPool2d, Flatten"):
        LastLayer(classifier_of(network, 8, 4), random_images(1, 8))
