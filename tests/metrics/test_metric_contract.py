"""What holds for every metric: one value per image, whatever the batch, and a classifier that is left as it was."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import functional

from explainer_checks import assert_same, state_of
from seewhy.core.errors import Incompatible
from seewhy.core.types import Targets
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.faithfulness.removers import REMOVERS
from seewhy.models.classifier import Passes
from tiny import random_images, small_cnn

FOLDER = Path(__file__).parents[2] / "configs" / "metric"
GROUPS = ("all", "removers", "verdict")
YAMLS = sorted(path for path in FOLDER.glob("*.yaml") if path.stem not in GROUPS)
CHEAP = {"n_samples": 6, "n_layers": 2, "n_draws": 2, "n_steps": 6, "steps": 6}
"""Smaller settings for the fields that only decide the cost."""
EXPLAINER = IntegratedGradients(n_steps=4, probe_batch_size=5)
IMAGES = random_images(2, 32)
LOGITS, BLACK = (small_cnn()(images).detach() for images in (IMAGES, 0 * IMAGES))
TARGETS = (LOGITS - BLACK).masked_fill(LOGITS <= 0, -torch.inf).argmax(1)
"""Classes whose score is positive and above that of a black image: every metric is defined."""
MASKS = torch.zeros(2, 32, 32, dtype=torch.bool)
MASKS[0, 4:20, 8:16] = True
MASKS[1, 20:, 5:9] = True
MAPS = EXPLAINER(small_cnn(), IMAGES, TARGETS)

CONSTRUCTS = {
    "average_drop": "faithfulness",
    "average_drop_binary_logit": "faithfulness",
    "average_drop_top_half": "faithfulness",
    "average_precision": "localisation",
    "completeness": "faithfulness",
    "complexity": "complexity",
    "deletion": "faithfulness",
    "efficient_model_randomization": "randomisation",
    "f_fidelity": "faithfulness",
    "faithfulness_correlation": "faithfulness",
    "increase_in_confidence": "faithfulness",
    "infidelity": "faithfulness",
    "infidelity_normalised": "faithfulness",
    "insertion": "faithfulness",
    "max_sensitivity": "robustness",
    "model_randomization": "randomisation",
    "model_randomization_cascading": "randomisation",
    "model_randomization_independent": "randomisation",
    "morf_lerf": "faithfulness",
    "necessity_ordering": "faithfulness",
    "pointing_game": "localisation",
    "random_logit": "randomisation",
    "relevance_mass": "localisation",
    "relevance_rank": "localisation",
    "road": "faithfulness",
    "sensitivity_n": "faithfulness",
    "sparseness": "complexity",
    "srg_black": "faithfulness",
    "srg_blur": "faithfulness",
    "srg_imputed": "faithfulness",
    "srg_mean": "faithfulness",
    "srg_noise": "faithfulness",
    "srg_white": "faithfulness",
    "stability": "robustness",
    "sufficiency_ordering": "faithfulness",
    "sufficient_region": "faithfulness",
    "tpn": "faithfulness",
    "tps": "faithfulness",
}
"""What each metric measures: values of different constructs are never averaged."""
FORMS = {
    "average_drop": {"average_drop", "average_drop_binary_logit", "average_drop_top_half", "increase_in_confidence"},
    "deletion": {"f_fidelity", "morf_lerf", "necessity_ordering", "road"} | {f"srg_{remover}" for remover in REMOVERS},
    "insertion": {"sufficiency_ordering", "sufficient_region"},
    "sensitivity_n": {"faithfulness_correlation"},
    "infidelity_normalised": {"infidelity", "infidelity_normalised"},
    "model_randomization": {
        "efficient_model_randomization",
        "model_randomization",
        "model_randomization_cascading",
        "model_randomization_independent",
    },
}
"""Of each score the metrics that say they are forms of it: one of them is in a mean rank."""
UNRANKED = {"completeness", "infidelity", "tpn", "tps"}
"""Shown, and in no mean rank."""

every_metric = pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)


def metric_of(path: Path) -> ImageMetric:
    root: Any = OmegaConf.create({"seed": 0, "probe_batch_size": 5, "metric": OmegaConf.load(path)})
    (config,) = root.metric.values()
    for key, value in CHEAP.items():
        if isinstance(config.get(key), int):
            config[key] = value
    return instantiate(config, _convert_="object")


def make_context(rows: slice | list[int] = slice(None), maps: Tensor = MAPS, **options: Any) -> dict[str, Any]:
    """The arguments of `update` for some of the images."""
    settings = {"explainer": EXPLAINER, "masks": MASKS[rows], "probe_batch_size": 5} | options
    arguments = {"classifier": small_cnn(), "images": IMAGES[rows], "targets": TARGETS[rows]}
    arguments["attributions"] = maps[rows]
    return arguments | {"context": MetricContext(*arguments.values(), **settings)}


def measured(path: Path, *updates: dict[str, Any]) -> dict[str, Tensor]:
    metric = metric_of(path)
    for update in updates:
        metric.update(**update)
    return metric.compute()


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for label, values in found.items():
        torch.testing.assert_close(values, expected[label], rtol=1e-3, atol=1e-4, equal_nan=True, msg=label)


@every_metric
def test_a_yaml_names_its_metric(path: Path) -> None:
    assert re.match(r"# .{20,}", path.read_text().split("\n")[0])
    assert list(OmegaConf.load(path)) == [path.stem], "the key is the name: several can be picked"
    metric = metric_of(path)
    assert metric.name == path.stem
    assert len(metric.variant) > 20
    assert metric.higher_is_better in (True, False, None)
    assert metric.full_state_update is False
    text = type(metric).__doc__ or ""
    assert "NaN" in text, "when it is not defined"
    assert re.search(r"\b(19|20)\d\d\b", text), "the paper"


@pytest.mark.slow
@every_metric
def test_one_value_per_image_and_nothing_left_behind(path: Path) -> None:
    metric, arguments = metric_of(path), make_context()
    before = state_of(arguments["classifier"])
    with torch.inference_mode():
        arguments["context"] = MetricContext(
            *list(arguments.values())[:4], explainer=EXPLAINER, masks=MASKS, probe_batch_size=5
        )
        metric.update(**arguments)
    assert_same(before, state_of(arguments["classifier"]))
    found = metric.compute()
    assert list(found) == [metric.name, *(f"{metric.name}_{column}" for column in metric.columns)]
    for values in found.values():
        assert values.shape == (2,)
        assert values.dtype == torch.float32
        assert bool(values.isfinite().all())
        assert not values.requires_grad
    metric.reset()
    metric.update(**make_context([1]))
    assert_equal(metric.compute(), {label: values[1:] for label, values in found.items()})


@pytest.mark.slow
@every_metric
def test_a_class_and_its_weight_alone_are_the_same_target(path: Path) -> None:
    arguments = make_context()
    arguments["targets"] = Targets(functional.one_hot(TARGETS, 10).float())
    arguments["context"] = MetricContext(
        *list(arguments.values())[:4], explainer=EXPLAINER, masks=MASKS, probe_batch_size=5
    )
    if path.stem == "random_logit":  # compares the class with another one
        with pytest.raises(Incompatible, match="one class an image"):
            measured(path, arguments)
    else:
        assert_equal(measured(path, arguments), measured(path, make_context()))


@every_metric
def test_values_do_not_depend_on_batch_order_or_probe_size(path: Path) -> None:
    together = measured(path, make_context())
    assert_equal(measured(path, make_context([0]), make_context([1])), together)
    assert_equal(measured(path, make_context([1, 0])), {label: values.flip(0) for label, values in together.items()})
    assert_equal(measured(path, make_context(probe_batch_size=16)), together)


@every_metric
def test_a_degenerate_map_has_a_value_and_spares_its_neighbour(path: Path) -> None:
    kinds = {"zero": 0 * MAPS[0], "constant": 0 * MAPS[0] + 0.5, "negative": -MAPS[0].abs() - 0.1}
    kinds |= {"nan": MAPS[0].clone(), "infinite": MAPS[0].clone(), "good": MAPS[0]}
    kinds["nan"][3, 4], kinds["infinite"][3, 4] = torch.nan, torch.inf
    rows = [0] * len(kinds)
    update = {"classifier": small_cnn(), "images": IMAGES[rows], "targets": TARGETS[rows]}
    update["attributions"] = torch.stack(list(kinds.values()))
    options = {"explainer": EXPLAINER, "masks": MASKS[rows], "probe_batch_size": 5}
    found = measured(path, update | {"context": MetricContext(*update.values(), **options)})
    assert_equal({label: values[-1:] for label, values in found.items()}, measured(path, make_context([0])))
    assert not any(bool(values.isinf().any()) for values in found.values())
    score = dict(zip(kinds, found[path.stem].tolist(), strict=True))
    assert score["nan"] != score["nan"], "a broken map has no score"
    assert score["infinite"] != score["infinite"], "a broken map has no score"


@pytest.mark.slow
@every_metric
def test_after_an_error_the_classifier_is_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metric, arguments = metric_of(path), make_context()
    metric.update(**arguments)
    if arguments["classifier"].passes == Passes():
        pytest.skip("never asks the network")
    arguments = make_context()
    before = state_of(arguments["classifier"])

    def broken(self: torch.nn.Linear, features: Tensor) -> Tensor:
        raise ZeroDivisionError

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(torch.nn.Linear, "forward", broken)
        metric.update(**arguments)
    assert_same(before, state_of(arguments["classifier"]))
    assert all(len(values) == 2 for values in metric.compute().values()), "a failed batch adds no row"


def test_every_metric_says_what_it_measures() -> None:
    metrics = {path.stem: metric_of(path) for path in YAMLS}
    assert {name: metric.construct for name, metric in metrics.items()} == CONSTRUCTS
    for score, forms in FORMS.items():
        assert {name for name, metric in metrics.items() if metric.variant_of == score} == forms, score
    assert {metric.variant_of for metric in metrics.values()} <= {"", *FORMS}
    assert {name for name, metric in metrics.items() if not metric.in_mean_rank} == UNRANKED


def test_groups_name_their_metrics() -> None:
    groups = {name: list(OmegaConf.load(FOLDER / f"{name}.yaml").defaults) for name in GROUPS}
    assert groups["all"] == [path.stem for path in YAMLS]
    assert groups["removers"] == [f"srg_{remover}" for remover in REMOVERS]
    assert groups["verdict"] == ["completeness", "model_randomization", "removers", "stability", "_self_"], (
        "_self_: its own budgets"
    )
