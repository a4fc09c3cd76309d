"""Every yaml composes; what it builds is what it says."""

from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from commands import CONFIGS, composed
from seewhy.cli.config import compose
from seewhy.cli.instantiate import build_object
from seewhy.models.build import build_classifier


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def read_experiment(name: str) -> str:
    return (CONFIGS / "experiment" / f"{name}.yaml").read_text()


@pytest.mark.parametrize("task", ["explain", "train", "robustness", "synthesize"])
def test_loggers_are_picked_like_metrics_and_switched_off(task: str) -> None:
    for off in ("logger=[]", "logger={}", "logger=null", "logger="):
        assert compose(task, [off]).logger == {}
    assert list(compose(task, ["logger=[tensorboard,csv]"]).logger) == ["tensorboard", "csv"]
    assert list(compose(task, ["logger=[csv,wandb,mlflow]"]).logger) == ["csv", "wandb", "mlflow"]


OF_THE_USER = {"own": "needs the code", "transformers": r"needs model\.name"}
"""Models that are nothing without a name of the user's."""


@pytest.mark.parametrize("model", OF_THE_USER)
def test_models_that_need_a_name_ask_for_it(model: str) -> None:
    cfg = composed("explain", [f"model={model}", "hydra.mode=RUN"])
    with pytest.raises(InstantiationException, match=OF_THE_USER[model]):
        instantiate(cfg.model.architecture)


@pytest.mark.parametrize("model", sorted(set(choices("model")) - {"vgg16"} - set(OF_THE_USER)))
def test_every_model_is_built_with_its_layers(model: str) -> None:
    cfg = composed("explain", [f"model={model}", "model.weights=random", "hydra.mode=RUN"])
    built = instantiate(cfg.model, _convert_="object")
    assert built.name == cfg.model.name
    assert not any(module.training for module in built.network.modules())
    assert len(built.facts.classes) == (10 if "cifar" in model else 1000)


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


@pytest.mark.parametrize("experiment", sorted(set(choices("experiment")) - set(SYNTHESES)))
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


@pytest.mark.parametrize("group", ["explainer", "metric", "corruption"])
def test_every_choice_fits_its_own_declared_types(group: str) -> None:
    """As a command builds them: lists of a config are no lists of Python."""
    for choice in choices(group):
        several = group != "explainer"
        cfg = composed("robustness", [f"{group}={[choice] if several else choice}".replace("'", ""), "hydra.mode=RUN"])
        for name, config in cfg[group].items() if several else [(choice, cfg[group])]:
            assert build_object(config, f"{group}.{name}"), name


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
