"""Random logit: by hand on a linear network, a loop, the bounds, Quantus."""

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from seewhy.core.errors import UserError
from seewhy.explainers.base import Explainer
from seewhy.explainers.controls import Edges
from seewhy.explainers.gradient import Saliency
from seewhy.metrics.base import MetricContext
from seewhy.metrics.randomisation.model_randomization import RandomLogit, draw_other_classes
from seewhy.models.classifier import Classifier
from tiny import classifier_of, linear_classifier, random_images, small_cnn

GRADIENT = Saliency(reduction="sum", probe_batch_size=8)


def make_context(classifier: Classifier, explainer: Explainer | None, seed: int = 0, count: int = 6) -> MetricContext:
    size = classifier.facts.size
    images, targets = random_images(count, size), torch.arange(count) % len(classifier.facts.classes)
    maps = (explainer or GRADIENT)(classifier, images, targets)
    return MetricContext(classifier, images, targets, maps, explainer=explainer, seed=seed, probe_batch_size=8)


def scores(context: MetricContext, maps: Tensor | None = None) -> Tensor:
    metric, known = RandomLogit(), context.attributions if maps is None else maps
    context.attributions = known
    metric.update(context.classifier, context.images, context.targets.classes, known, context=context)
    return metric.compute()["random_logit"]


def test_of_a_linear_network_it_is_the_rank_correlation_of_the_weights() -> None:
    classifier, weights = linear_classifier()
    context = make_context(classifier, GRADIENT)
    expected = [
        stats.spearmanr(weights[target].sum(0).flatten(), weights[other].sum(0).flatten()).statistic
        for target, other in zip(context.targets.classes, draw_other_classes(context), strict=True)
    ]
    torch.testing.assert_close(scores(context), torch.tensor(expected).float(), rtol=1e-4, atol=1e-5)
    assert classifier.passes.forward == 12


def test_opposite_classes_score_minus_one_and_a_map_without_a_class_one() -> None:
    layer = nn.Linear(3 * 64, 2)
    with torch.no_grad():
        layer.weight[1] = -layer.weight[0]
    classifier = classifier_of(nn.Sequential(nn.Flatten(), layer), 8, 2, normalised=False)
    assert scores(make_context(classifier, GRADIENT)).tolist() == pytest.approx([-1] * 6)
    assert scores(make_context(classifier, Edges())).tolist() == pytest.approx([1] * 6)


def test_every_other_class_is_drawn_and_never_the_target() -> None:
    context = make_context(linear_classifier()[0], GRADIENT, count=60)
    others = draw_other_classes(context)
    assert bool((others != context.targets.classes).all())
    for target in range(3):
        assert set(others[context.targets.classes == target].tolist()) == {0, 1, 2} - {target}
    assert not torch.equal(others, draw_other_classes(make_context(linear_classifier()[0], GRADIENT, 1, count=60)))


def test_a_constant_map_has_no_value_and_a_constant_other_map_nothing_in_common() -> None:
    layer = nn.Linear(3 * 64, 2)
    with torch.no_grad():
        layer.weight[1] = 0.1
    classifier = classifier_of(nn.Sequential(nn.Flatten(), layer), 8, 2, normalised=False)
    found = scores(make_context(classifier, GRADIENT, count=4))
    assert found[0::2].tolist() == [0, 0]
    assert bool(found[1::2].isnan().all())


def test_it_needs_an_explainer_and_another_class() -> None:
    with pytest.raises(UserError, match="random_logit explains again"):
        scores(make_context(small_cnn(), None))
    alone = classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), 8, 1, normalised=False)
    with pytest.raises(UserError, match="the network has only one"):
        scores(make_context(alone, GRADIENT))


@pytest.mark.oracle
def test_it_equals_quantus(monkeypatch: pytest.MonkeyPatch) -> None:
    quantus, numpy = pytest.importorskip("quantus"), pytest.importorskip("numpy")
    from quantus.functions.similarity_func import correlation_spearman

    classifier = small_cnn()
    context = make_context(classifier, GRADIENT, count=1)
    other = draw_other_classes(context)
    place = (other - (other > context.targets.classes).long()).numpy()
    monkeypatch.setattr(numpy.random, "randint", lambda *arguments, **options: place)

    def explain(model: Classifier, inputs: object, targets: object, **options: object) -> object:
        chosen = torch.as_tensor(targets).reshape(-1).long()
        return GRADIENT(classifier, torch.as_tensor(inputs).float(), chosen)[:, None].numpy()

    theirs = quantus.RandomLogit(
        num_classes=10, similarity_func=correlation_spearman, abs=False, normalise=False, disable_warnings=True
    )
    expected = theirs(
        model=classifier,
        x_batch=context.images.numpy(),
        y_batch=context.targets.classes.numpy(),
        a_batch=context.attributions[:, None].numpy(),
        explain_func=explain,
        device="cpu",
    )
    assert scores(context).tolist() == pytest.approx([float(value) for value in expected], abs=1e-5)
