"""A config calls known classes and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from test_configs import CONFIGS

from commands import Runner, runner
from seewhy.cli.instantiate import build_object, check_targets, is_trusted
from seewhy.core.errors import UserError

__all__ = ["runner"]

HOSTILE = """os.system subprocess.Popen builtins.eval builtins.exec torch.load torch.hub.load torch.hub.subprocess.Popen
numpy.load pickle.loads shutil.rmtree importlib.import_module hydra.utils.get_method hydra.utils.instantiate
seewhy.runs.record.subprocess.run seewhy.models.weights.torch.load seewhy.models.architectures.is_reachable
seewhy.cli.tasks.execute
seewhy.callbacks.attribution.Path seewhy.callbacks.attribution.RunFolder seewhy.data.labels.csv.DictReader
seewhy.callbacks.attribution.Attribution.on_test_start lightning.pytorch.cli.LightningCLI albumentations.load
lightning.pytorch.trainer.trainer.os.system torch.nn.Module.load_state_dict torch.optim.sgd.torch.load
timm.models.load_checkpoint timm.create_model seewhy os . seewhy..x.Y mine.Explainer""".split()


@pytest.mark.parametrize("target", HOSTILE)
def test_no_other_callable_is_known(target: str) -> None:
    assert not is_trusted(target)


def test_every_target_of_the_projects_configs_is_known() -> None:
    words = [
        line.split("_target_:")[1].split(",")[0].strip(" }\n")
        for path in CONFIGS.rglob("*.yaml")
        for line in path.read_text().splitlines()
        if "_target_:" in line
    ]
    assert len(words) > 100
    assert [word for word in words if not is_trusted(word)] == []


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"_target_": "os.system"}, "_target_=os.system"),
        ({"a": {"b": [0, {"c": {"_target_": "os.system", "_partial_": True}}]}}, "a.b.1.c._target_=os.system"),
        ({"a": {"_target_": "torch.nn.ReLU", "_args_": [{"_target_": "os.system"}]}}, "a._args_.0._target_=os.system"),
        ({"a": {"_target_": {"_target_": "os.system"}}}, "a._target_="),
    ],
)
def test_a_hostile_target_is_found_at_any_depth(config: object, key: str) -> None:
    with pytest.raises(UserError) as caught:
        check_targets(config)
    assert str(caught.value).startswith(key)
    assert "trust_config=true" in str(caught.value)
    check_targets(config, trusted=True)


TOUCH = [
    "+callbacks.evil._target_=pathlib.Path.touch",
    "+callbacks.evil._args_=[{_target_: pathlib.Path, _args_: [canary]}]",
]


def test_nothing_of_a_hostile_config_runs(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["explainer=saliency", "callbacks=[attribution]", "logger=[]", "data.limit=1"]
    with pytest.raises(SystemExit) as stop:
        runner(*given, *TOUCH)
    assert stop.value.code == 2
    assert "callbacks.evil._target_=pathlib.Path.touch is outside" in capsys.readouterr().err
    assert not os.path.lexists("canary")


def test_a_target_behind_an_interpolation_is_found(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runner("+word=os.system", "+callbacks.evil._target_=${word}")
    assert "callbacks.evil._target_=os.system is outside" in capsys.readouterr().err


def test_trust_is_given_on_the_command_line_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from seewhy.cli.config import check_settings

    cfg = OmegaConf.create({"seed": 0, "trust_config": True, "x": {"_target_": "mine.Explainer"}})
    with pytest.raises(UserError, match=r"x\._target_=mine\.Explainer"):
        check_settings(cfg, ["x=1"])
    check_settings(cfg, ["trust_config=true"])
    cfg.trust_config = False
    with pytest.raises(UserError):
        check_settings(cfg, ["+y=trust_config=true"])


def test_a_known_name_that_is_no_class_is_refused() -> None:
    with pytest.raises(UserError, match="is not a class of torch"):
        build_object(OmegaConf.create({"_target_": "torch.optim.lr_scheduler.Counter"}), "optimization.schedule")
