"""The adaptive path integral: nodes, limits, memory and convergence."""

import pytest
import torch
from torch import Tensor, nn

from seewhy.explainers.baselines import build_baselines
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.path_integrals import CANCELLING, FEWEST, SEGMENTS, AdaptivePath, find_first_point
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier, Passes
from tiny import classifier_of, linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


class Recorder(BatchedEvaluator):
    """A evaluator that keeps the mean grey of every image whose gradient is asked for: on a grey image, its position."""

    def __init__(self, classifier: Classifier, image: Tensor, batch_size: int) -> None:
        super().__init__(classifier, image, batch_size)
        self.positions: list[float] = []
        self.largest = 0

    def compute_score_and_gradient(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        self.positions += images.double().mean((1, 2, 3)).tolist()
        self.largest = max(self.largest, len(images))
        return super().compute_score_and_gradient(images, targets)


class Bend(nn.Module):
    """Three logits: a bend of the mean grey at 0.3, its square, and a bend ten times as steep."""

    def forward(self, images: Tensor) -> Tensor:
        grey = images.mean((1, 2, 3))
        return torch.stack([torch.sigmoid(60 * (grey - 0.3)), grey**2, torch.sigmoid(600 * (grey - 0.3))], 1)


def white_path(classifier: Classifier, probe_batch_size: int = 8, target: int = 0) -> tuple[AdaptivePath, Recorder]:
    white = torch.ones(1, 3, 4, 4)
    evaluator = Recorder(classifier, white[0], probe_batch_size)
    return AdaptivePath(evaluator, white, 0 * white, torch.tensor([target])), evaluator


def integrate(
    classifier: Classifier, tolerance: float, max_steps: int = 1000, name: str = "black", count: int = 3
) -> tuple[Tensor, Tensor, AdaptivePath]:
    images = IMAGES[:count]
    path = AdaptivePath(
        BatchedEvaluator(classifier, images[0], 16), images, build_baselines(name, images), TARGETS[:count]
    )
    with torch.no_grad(), classifier.frozen():
        return *run(path, tolerance, max_steps), path


def run(path: AdaptivePath, tolerance: float, max_steps: int) -> tuple[Tensor, Tensor]:
    """Stop as the completeness gap says, whatever the map, after the one doubling that measures the map's error."""
    integral = path.integrate(tolerance, 1e9, max_steps)
    return integral.values, integral.nodes


def test_a_straight_score_needs_the_first_look_only() -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    path = AdaptivePath(BatchedEvaluator(classifier, images[0], 4), images, 0 * images, targets)
    values, nodes = run(path, 0.01, 1000)
    assert nodes.tolist() == [FEWEST] * 2
    torch.testing.assert_close(values, weights[targets] * images)
    square, _ = white_path(classifier_of(Bend(), 4, 3, normalised=False), target=1)
    values, nodes = run(square, 1e-4, 1000)
    assert nodes.tolist() == [FEWEST], "the trapezoid rule is exact where the gradient is linear"
    first = find_first_point(
        torch.ones(())
    )  # where the gradient, 2 t, of the start is taken, with half a weight of 1 / 8
    assert float(values.sum()) == pytest.approx(1 + 2 * first / 16, rel=1e-6)


def test_nodes_gather_at_the_bend_and_none_is_evaluated_twice() -> None:
    classifier = classifier_of(Bend(), 4, 3, normalised=False)
    path, evaluator = white_path(classifier, target=2)
    values, nodes = run(path, 0.01, 1000)
    assert len(set(evaluator.positions)) == len(evaluator.positions) == int(nodes) < 120
    near = [position for position in evaluator.positions if abs(position - 0.3) < 0.02]
    assert len(near) > 0.6 * len(evaluator.positions)
    assert float(values.sum()) == pytest.approx(1, abs=0.01)
    evenly = IntegratedGradients(n_steps=2 * int(nodes), rule="trapezoid", probe_batch_size=64)
    facts = evenly.attribute(classifier, torch.ones(1, 3, 4, 4), torch.tensor([2])).facts
    assert float(facts["completeness_gap_relative"]) > 0.01


def test_the_sum_is_that_of_the_trapezoids_between_its_nodes() -> None:
    classifier = classifier_of(Bend(), 4, 3, normalised=False)
    path, evaluator = white_path(classifier)
    values, _ = run(path, 1e-5, 400)
    places = torch.tensor(sorted(evaluator.positions), dtype=torch.float64)
    share = torch.sigmoid(60 * (places - 0.3))
    slopes = 60 * share * (1 - share)
    steps = places.diff()
    assert len(steps.unique()) > 3, "of several lengths"
    assert float(values.sum()) == pytest.approx(float(((slopes[1:] + slopes[:-1]) / 2 * steps).sum()), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [0.05, 0.01, 0.002])
@pytest.mark.parametrize("name", ["black", "white", "blurred"])
def test_every_image_is_within_its_tolerance(tolerance: float, name: str) -> None:
    classifier = small_cnn(seed=1)
    values, nodes, path = integrate(classifier, tolerance, 4000, name=name)
    with torch.no_grad():
        scores = classifier(torch.cat([IMAGES, build_baselines(name, IMAGES)])).gather(1, TARGETS.repeat(2)[:, None])
    change = (scores[:3] - scores[3:])[:, 0]
    gap = (values.sum((1, 2, 3)) - change).abs() / change.abs()
    assert bool((gap <= 1.02 * tolerance + 1e-5).all())
    assert bool((path._compute_errors().abs().sum(1) <= CANCELLING * tolerance * change.abs() + 1e-6).all())
    assert classifier.passes.backward == int(nodes.sum())


@pytest.mark.parametrize("max_steps", [9, 10, 20, 61])
def test_the_limit_is_kept_and_reported(max_steps: int) -> None:
    classifier = small_cnn()
    _, nodes, _ = integrate(classifier, 1e-9, max_steps)
    assert int(nodes.max()) <= max_steps
    assert int(nodes.min()) > max_steps / 2 - 1, "halving ends where the next halving would be beyond the limit"
    assert classifier.passes == Passes(int(nodes.sum()), int(nodes.sum()))


@pytest.mark.slow
def test_it_converges_to_a_fine_reference() -> None:
    reference = IntegratedGradients(n_steps=2000, probe_batch_size=128)(small_cnn(), IMAGES[:1], TARGETS[:1])
    distances = []
    for tolerance in (0.3, 1e-6):
        values, _, _ = integrate(small_cnn(), tolerance, 500, count=1)
        distances.append(float((values.sum(1) - reference).norm() / reference.norm()))
    assert distances[1] < 0.01
    assert distances[1] < distances[0] / 3


def test_memory_does_not_grow_with_the_nodes() -> None:
    sizes = []
    for max_steps in (10, 300):
        _, nodes, path = integrate(small_cnn(), 1e-9, max_steps)
        sizes.append(sum(value.numel() for value in vars(path).values() if isinstance(value, Tensor)))
        assert bool((path.intervals > 0).sum(1).le(SEGMENTS).all())
        assert int(nodes.max()) > max_steps / 2 - 1
    assert sizes[0] == sizes[1]
    assert sizes[0] < 3 * (2 * SEGMENTS + 4) * IMAGES[0].numel()


@pytest.mark.slow
@pytest.mark.parametrize("probe_batch_size", [1, 3, 7])
def test_batches_are_filled_across_images_and_change_nothing(probe_batch_size: int) -> None:
    expected, nodes, _ = integrate(small_cnn(), 0.01)
    classifier = small_cnn()
    evaluator = Recorder(classifier, IMAGES[0], probe_batch_size)
    with torch.no_grad(), classifier.frozen():
        values, found = run(AdaptivePath(evaluator, IMAGES, 0 * IMAGES, TARGETS), 0.01, 1000)
        alone, single = run(AdaptivePath(evaluator, IMAGES[2:], 0 * IMAGES[2:], TARGETS[2:]), 0.01, 1000)
    assert evaluator.largest == probe_batch_size
    assert found.tolist() == nodes.tolist()
    assert single.tolist() == nodes[2:].tolist()
    atol = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=atol)
    torch.testing.assert_close(alone, expected[2:], rtol=1e-3, atol=atol)


def test_an_image_that_is_its_baseline_ends_at_once() -> None:
    classifier = small_cnn()
    black = torch.zeros(1, 3, 32, 32)
    path = AdaptivePath(BatchedEvaluator(classifier, black[0], 8), black, black, TARGETS[:1])
    integral = path.integrate(0.01, 0.05, 1000)
    values, nodes = integral.values, integral.nodes
    assert nodes.tolist() == [FEWEST]
    assert integral.map_error.tolist() == [0]
    assert not bool(values.any())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_map_that_is_called_converged_is(seed: int) -> None:
    """The gap alone stops at the first look on some of these: errors of pixels cancel in the sum."""
    classifier = small_cnn(seed)
    reference = IntegratedGradients(n_steps=600, probe_batch_size=128)(classifier, IMAGES, TARGETS)
    explainer = IntegratedGradients(n_steps="auto", map_tolerance=0.03, probe_batch_size=16)
    found = explainer.attribute(classifier, IMAGES, TARGETS)
    off = (found.maps - reference).flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1)
    assert bool((found.facts["map_error"] <= 0.03).all())
    assert bool((off <= 0.03).all())
    assert bool((found.facts["completeness_gap_relative"] <= 0.0101).all())


def test_the_estimate_is_the_change_of_the_map_at_the_last_doubling() -> None:
    """Of the cube of each value the gradient is quadratic: a trapezoid sum over intervals h is off by h^2 x^3 / 2."""

    class Cubes(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.pow(3).sum((1, 2, 3))[:, None].repeat(1, 2)

    image = random_images(1, 4)
    path = AdaptivePath(
        BatchedEvaluator(classifier_of(Cubes(), 4, 2, normalised=False), image[0], 8),
        image,
        0 * image,
        torch.zeros(1, dtype=torch.int64),
    )
    integral = path.integrate(1.0, 1e9, 1000)
    assert integral.nodes.tolist() == [FEWEST]
    coarse, fine = 1 + 1 / (2 * 4**2), 1 + 1 / (2 * 8**2)
    assert float(integral.map_error) == pytest.approx((coarse - fine) / fine)


def test_a_map_that_comes_to_the_limit_says_so() -> None:
    explainer = IntegratedGradients(n_steps="auto", max_steps=9, map_tolerance=1e-6, probe_batch_size=16)
    found = explainer.attribute(small_cnn(), IMAGES[:1], TARGETS[:1])
    facts = {key: float(values[0]) for key, values in found.facts.items()}
    assert facts["n_steps"] == 9
    assert facts["map_error"] > 1e-6
    assert any("has not converged" in each and "at most 9 steps" in each for each in explainer.list_warnings(facts))
    facts["map_error"] = 0.0
    assert not any("converged" in each for each in explainer.list_warnings(facts))
