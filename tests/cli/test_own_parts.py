"""Networks, explainers and metrics of the user's own: from a folder of configs, or from an installed package."""

import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from conftest import ROOT
from forked import SOURCE, run
from seewhy.cli.config import compose
from seewhy.cli.instantiate import build_object, check_own_code, check_targets, is_trusted
from seewhy.cli.own_configs import find_registered_folders, register_folders
from seewhy.cli.resume import build_resume_command, prepend_earlier_overrides, select_repeated
from seewhy.cli.suggestions import explain_mistake
from seewhy.core.errors import UserError
from seewhy.runs.journal import Journal

EXPLAINER = '''
from dataclasses import dataclass
from seewhy.explainers.base import AttributionResult, Explainer

@dataclass(frozen=True, kw_only=True)
class Mine(Explainer):
    """A constant map."""

    strength: float = 1.0

    def _attribute(self, evaluator, images, targets):
        return AttributionResult(images.mean(1) * self.strength)
'''
NETWORK = """
from torch import nn
def build(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with an explainer and its config folder; the folder that it is installed in."""
    site = tmp_path / "site"
    (site / "ownparts" / "configs" / "explainer").mkdir(parents=True)
    (site / "ownparts" / "__init__.py").write_text("")
    (site / "ownparts" / "configs" / "__init__.py").write_text("")
    (site / "ownparts" / "methods.py").write_text(EXPLAINER)
    yaml = "# Mine.\n_target_: ownparts.methods.Mine\nstrength: 2.0   # of the map\nseed: ${seed}\n"
    yaml += "probe_batch_size: ${probe_batch_size}\n"
    (site / "ownparts" / "configs" / "explainer" / "mine.yaml").write_text(yaml)
    info = site / "ownparts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ownparts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[seewhy.configs]\nownparts = ownparts.configs\n")
    monkeypatch.syspath_prepend(str(site))
    find_registered_folders.cache_clear()
    register_folders.cache_clear()
    yield site
    monkeypatch.undo()
    find_registered_folders.cache_clear()


@pytest.mark.slow
def test_an_installed_package_brings_choices(package: Path) -> None:
    assert find_registered_folders() == {"ownparts": package / "ownparts" / "configs"}
    cfg = compose("explain", ["explainer=mine", "explainer.strength=3"])
    check_targets(OmegaConf.to_container(cfg.explainer))
    explainer = build_object(cfg.explainer, "explainer")
    assert explainer.name == "mine" and explainer.strength == 3
    with pytest.raises(UserError, match=r"did you mean explainer=mine\\?"):
        compose("explain", ["explainer=mien"])
    with pytest.raises(UserError, match=r"did you mean explainer.strength="):
        compose("explain", ["explainer=mine", "explainer.strenght=3"])


def test_other_packages_are_not_trusted(package: Path) -> None:
    assert is_trusted("ownparts.methods.Mine")
    assert not is_trusted("ownparts.methods.mine") and not is_trusted("ownparts_more.Mine")
    assert not is_trusted("otherparts.methods.Mine")


def test_a_package_without_its_folder_is_named(package: Path) -> None:
    (package / "ownparts-1.0.dist-info" / "entry_points.txt").write_text("[seewhy.configs]\nownparts = ownparts.no\n")
    find_registered_folders.cache_clear()
    with pytest.raises(UserError, match=r"ownparts = 'ownparts.no'.*has no folder"):
        find_registered_folders()


@pytest.mark.parametrize(
    ("code", "value", "words"),
    [
        ("1 / 0", "failing.configs", r"cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("class A(:", "failing.configs", r"cannot be imported \(SyntaxError: "),
        ("import no_such_package", "failing.configs", "has no folder"),
        ("", ".configs", "cannot be imported|has no folder"),
        ("", "failing:configs", "has no folder"),
    ],
)
def test_a_package_that_fails_is_named(package: Path, code: str, value: str, words: str) -> None:
    (package / "failing").mkdir()
    (package / "failing" / "__init__.py").write_text(code)
    (package / "ownparts-1.0.dist-info" / "entry_points.txt").write_text(f"[seewhy.configs]\nfailing = {value}\n")
    importlib.invalidate_caches()
    find_registered_folders.cache_clear()
    with pytest.raises(UserError, match=rf"failing = '{re.escape(value)}' .*({words})"):
        find_registered_folders()


@pytest.mark.slow
def test_the_command_treats_own_parts_as_ours(package: Path, tmp_path: Path) -> None:
    (tmp_path / "mynet_parts.py").write_text(NETWORK)
    (tmp_path / "conf" / "metric").mkdir(parents=True)
    target = "seewhy.metrics.complexity.Sparseness"
    (tmp_path / "conf" / "metric" / "spread.yaml").write_text(f"# Spread.\nspread:\n  _target_: {target}\n")
    words = ["--config-dir", "conf", "explainer=mine", "model=own", "model.build=mynet_parts:build"]
    command, paths = ["-m", "seewhy", "explain", *words], f"{SOURCE}{os.pathsep}{package}"
    shown = run(tmp_path, *command, "--help", PYTHONPATH=paths)
    assert shown.returncode == 0, shown.stderr
    assert "mine" in shown.stdout and "explainer.strength=2.0" in shown.stdout and "of the map" in shown.stdout
    few = ["metric=[spread]", "model.weights=random", "model.size=[24,32]", "model.arguments.width=5", "trainer=cpu"]
    few += ["data.limit=2", "logger=[]", "hydra.run.dir=out", "callbacks=numbers"]
    done = run(tmp_path, *command, *few, PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    assert "mine" in (tmp_path / "out" / "metrics.csv").read_text()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "strength=2.0" in page and "mynet_parts:build" in page


def test_code_in_a_config_needs_the_command_line() -> None:
    cfg = {"model": {"architecture": {"_target_": "seewhy.models.imported.Imported", "build": "evil:net"}}}
    with pytest.raises(UserError, match=r"add model.build=evil:net to the command"):
        check_own_code(cfg, ["model=own", "model.build=other:net", "seed=1"])
    for typed in (
        "model.build=evil:net",
        "++model.build=evil:net",
        r"model.build=evil\:net",
        "model.build='evil:net'",
    ):
        check_own_code(cfg, [typed])
    check_own_code(cfg, [], trusted=True)
    check_own_code({"model": {"name": "evil:net"}}, [])


@pytest.mark.parametrize(
    "override",
    [
        "model.architecture.build=evil:net",
        "model.architecture={_target_:seewhy.models.imported.Imported,build:evil:net}",
        "++model.architecture._target_=seewhy.models.imported.Imported",
        "model={build:evil}",
    ],
)
def test_a_folder_from_elsewhere_names_no_code(override: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which no run of seewhy stores there"):
        select_repeated([override], tmp_path)


def test_code_of_a_run_is_named_again_to_resume_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["model=own", "model.build=mynet:MyNet", "model.size=8", "++model.arguments.width=3"]
    monkeypatch.setattr(Journal, "read_plan", lambda self: {"overrides": overrides})
    with pytest.raises(
        UserError, match=r"'mynet:MyNet' builds its network.*add model.build=mynet:MyNet to the command"
    ):
        prepend_earlier_overrides([f"resume={tmp_path}"], "explain")
    given = prepend_earlier_overrides([f"resume={tmp_path}", "model.build=mynet:MyNet"], "explain")
    assert given == [overrides[0], *overrides[2:], "model.build=mynet:MyNet", f"hydra.run.dir='{tmp_path}'"]
    sent = "logger.mlflow.tracking_uri=http://ours.example"
    command = build_resume_command(
        "explain", "out", [*overrides, "trust_config=true", sent, "logger=[mlflow]"], ["conf"]
    )
    assert command.endswith(f"resume=out --config-dir conf model.build=mynet:MyNet trust_config=true {sent}")
    assert select_repeated([sent, "logger=[mlflow]", "~logger.csv"], tmp_path, [sent]) == [
        "logger=[mlflow]",
        "~logger.csv",
    ]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("callbacks: mine", "+callbacks=mine: callbacks is chosen already; list all of them: 'callbacks=[...,mine]'"),
        ("explainer: rise", "+explainer=rise: explainer is chosen already; write explainer=rise, without the +"),
    ],
)
def test_a_choice_that_is_added_to_another_is_answered(choice: str, words: str) -> None:
    group = choice.partition(":")[0]
    error = ConfigCompositionException(f"Multiple values for {group}. To override a value use 'override {choice}'")
    assert str(explain_mistake(error, ROOT / "configs", "explain")) == words


def test_a_class_that_is_not_there_is_answered_with_those_that_are(package: Path) -> None:
    for name, source in (("broken", "1 / 0"), ("lacking", "import no_such_package"), ("typo", "class A(:")):
        (package / f"ownparts_{name}.py").write_text(source)
    importlib.invalidate_caches()
    for target, words in (
        ("ownparts.methods.Nope", r"ownparts.methods has no Nope; it has Mine$"),
        ("ownparts.method.Mine", r"ownparts has no method.Mine; it has no class and no function$"),
        ("ownpart.methods.Mine", r"there is no module 'ownpart'$"),
        ("ownparts_broken.Mine", r"importing it failed: ZeroDivisionError: division by zero$"),
        ("ownparts_lacking.Mine", r"it imports no_such_package, which is not installed$"),
        ("ownparts_typo.Mine", r"importing it failed: SyntaxError: .*"),
        ("seewhy.explainers.rise.Rize", r"seewhy.explainers.rise has no Rize; it has .*Rise"),
    ):
        with pytest.raises(UserError, match=rf"^explainer\._target_={target}: {words}"):
            build_object(OmegaConf.create({"_target_": target}), "explainer")
