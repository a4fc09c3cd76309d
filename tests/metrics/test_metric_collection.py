"""Every metric of the yaml folder at once: no two alike, the same values, and passes that are shared."""

import pytest
from test_metric_contract import YAMLS, assert_equal, make_context, measured, metric_of
from torchmetrics import MetricCollection

from seewhy.models.classifier import Passes


def test_variants_tell_metrics_apart() -> None:
    metrics = [metric_of(path) for path in YAMLS]
    assert len({(type(metric), metric.variant) for metric in metrics}) == len(metrics)


@pytest.mark.slow
def test_all_in_one_collection_give_what_each_gives_alone() -> None:
    chosen = {path.stem: metric_of(path) for path in YAMLS}
    collection = MetricCollection(dict(chosen), compute_groups=False)  # type: ignore[arg-type]
    collection.update(**make_context())
    together = collection.compute()
    alone = {label: values for path in YAMLS for label, values in measured(path, make_context()).items()}
    assert set(together) == set(alone), "no column has two owners"
    assert_equal({label: together[label] for label in alone}, alone)


@pytest.mark.slow
def test_a_shared_context_saves_passes() -> None:
    shared = make_context()
    for path in YAMLS:
        metric_of(path).update(**shared)
    counted = Passes()
    for path in YAMLS:
        alone = make_context()
        metric_of(path).update(**alone)
        counted.forward += alone["classifier"].passes.forward
    assert shared["classifier"].passes.forward < counted.forward
