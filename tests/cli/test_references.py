"""What the values of a config refer to: the environment stays out of all that a run tells, aliases are bounded."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from commands import composed
from seewhy.cli import tasks
from seewhy.cli.config import compose
from seewhy.cli.main import run_task
from seewhy.cli.references import LARGEST, check_references, load_config
from seewhy.cli.resume import build_resume_command, select_repeated
from seewhy.core.disclosure import clean_message, forget_secrets, mask_secrets, mask_values, remember_secret
from seewhy.core.errors import UserError

SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TOKEN", SECRET)
    yield
    forget_secrets()


def write_experiment(folder: Path, text: str) -> list[str]:
    """The overrides that choose an experiment of a folder of one's own."""
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    return [f"hydra.searchpath=[file://{folder}/conf]", "experiment=mine", "hydra.mode=RUN"]


def run(folder: Path, overrides: list[str]) -> int:
    given = ["model=cifar_cnn", "trainer=cpu", "explainer=saliency", "data.limit=2", f"output={folder}"]
    try:
        tasks.execute(tasks.explain, composed("explain", [*given, *overrides]))
    except SystemExit as stop:
        return int(str(stop.code))
    return 0


def list_holders(folder: Path, text: str) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.slow
def test_a_secret_of_an_experiment_is_used_and_told_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    overrides = write_experiment(tmp_path, "model:\n  name: ${oc.env:TOKEN}\n  weights: random")
    assert run(tmp_path / "run", [*overrides, "logger=[tensorboard,csv]"]) == 0
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err
    assert "${oc.env:TOKEN}" in printed.out
    assert list_holders(tmp_path / "run", SECRET) == []
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["model"]["name"] == "${oc.env:TOKEN}"
    assert "${oc.env:TOKEN}" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_another_value_of_the_environment_is_another_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["model.weights=random", "model.name=${oc.env:TOKEN}", "page=false", "hydra.mode=RUN"]
    assert run(tmp_path / "run", overrides) == 0
    assert run(tmp_path / "run", overrides) == 0
    monkeypatch.setenv("TOKEN", "another-horse-altogether")
    capfd.readouterr()
    assert run(tmp_path / "run", overrides) == 2
    told = capfd.readouterr().err
    assert "holds a run of something else" in told
    assert "model.name: ${oc.env:TOKEN} (" in told
    assert "horse" not in told


def test_a_refusal_names_the_variable_and_not_its_value(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run", ["data=folder", "data.root=${oc.env:TOKEN}", "hydra.mode=RUN"]) == 2
    assert run(tmp_path / "other", ["probe_batch_size=${oc.env:TOKEN}", "hydra.mode=RUN"]) == 2
    told = capfd.readouterr().err
    assert SECRET not in told
    assert told.count("${oc.env:TOKEN}") >= 2
    assert list_holders(tmp_path, SECRET) == []


def test_a_resumed_run_is_told_what_it_takes_from_the_environment(tmp_path: Path) -> None:
    text = "data.root=${oc.env:TOKEN}"
    with pytest.raises(
        UserError, match=r"'data.root=\$\{oc.env:TOKEN\}' takes a value from your environment, .* add it to"
    ):
        select_repeated([text, "seed=1"], tmp_path)
    assert select_repeated([text, "seed=1"], tmp_path, [text]) == ["seed=1"]
    command = shlex.split(build_resume_command("explain", "run", [text, "seed=1"]))
    assert command[-2:] == ["resume=run", text]


@pytest.mark.parametrize("value", ["0.05", "123", "true", "null", "abc"])
def test_numbers_and_short_words_are_no_secrets(value: str) -> None:
    remember_secret("VALUE", value)
    assert mask_secrets(f"a {value} b") == f"a {value} b"


def test_a_folder_is_no_secret_once_it_is_there(tmp_path: Path) -> None:
    folder = str(tmp_path / "results")
    remember_secret("OUT", folder)
    assert mask_secrets(f"run folder: {folder}/run") == "run folder: ${oc.env:OUT}/run"
    Path(folder).mkdir()
    assert mask_secrets(f"run folder: {folder}/run") == f"run folder: {folder}/run"


def test_masked_values_are_told_apart_by_a_digest() -> None:
    remember_secret("TOKEN", SECRET)
    plain = {"a": [SECRET, 3], "b": {"c": f"key={SECRET}"}, "d": "other"}
    assert mask_values(plain) == {"a": ["${oc.env:TOKEN}", 3], "b": {"c": "key=${oc.env:TOKEN}"}, "d": "other"}
    told = mask_values(plain, digest=True)["a"][0]
    assert told == mask_values(SECRET, digest=True)
    assert told != mask_values(f"{SECRET} ", digest=True)


@pytest.mark.parametrize("names", [("PART", "TOKEN"), ("TOKEN", "PART")])
def test_a_secret_that_holds_another_is_masked_as_a_whole(names: tuple[str, str]) -> None:
    for name in names:
        remember_secret(name, {"TOKEN": SECRET, "PART": SECRET.rpartition("-")[2]}[name])
    assert mask_secrets(f"key={SECRET}, battery") == "key=${oc.env:TOKEN}, ${oc.env:PART}"


def test_messages_steer_no_terminal() -> None:
    told = clean_message("a\x1b[2J\r\x07b\u202ec\u2066\x9bd\ne\u00e9\u732b")
    assert told == "a\\x1b[2J\\r\\x07b\\u202ec\\u2066\\x9bd\ne\u00e9\u732b"


BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"]
    + [f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
)
BOMBS = {
    "lists": BOMB,
    "keys": "a: &a {x: 1, y: 2}\n"
    + "\n".join(
        f"b{n}: &b{n} {{x: *{'a' if not n else f'b{n - 1}'}, y: *{'a' if not n else f'b{n - 1}'}}}" for n in range(30)
    ),
    "itself": "a: &a [*a]",
    "deep": "a: " + "[" * 3_000 + "]" * 3_000 + "\nb: &b 1\nc: *b",
    "deep without aliases": "a: " + "[" * 3_000 + "]" * 3_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOMBS)
def test_aliases_that_double_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bomb.yaml").write_text(BOMBS[kind])
    with pytest.raises(
        UserError, match=r"bomb\.yaml(: its aliases \(\*\) stand for more than 200,000| is nested too deeply)"
    ):
        load_config(tmp_path / "bomb.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_among_the_experiments_is_one_sentence(tmp_path: Path, kind: str) -> None:
    overrides = write_experiment(tmp_path, BOMBS[kind])
    with pytest.raises(UserError, match=r"aliases|nested too deeply"):
        compose("explain", overrides)


def test_aliases_are_read() -> None:
    assert OmegaConf.load is load_config
    assert compose("explain").explainer._target_.endswith("GradCam")


def double(count: int, template: str, last: str) -> dict[str, str]:
    return {f"v{n}": template.replace("$", f"${{v{n + 1}}}") for n in range(count)} | {f"v{count}": last}


GROWING = {
    "texts": double(40, "$$", "x"),
    "long texts": double(4, "$" * 40, "x" * 40),
    "mappings": {f"v{n}": {"a": f"${{v{n + 1}}}", "b": f"${{v{n + 1}}}"} for n in range(40)} | {"v40": {"a": "1"}},
    "lists": {f"v{n}": [f"${{v{n + 1}}}"] * 9 for n in range(9)} | {"v9": ["1"]},
    "relative": {f"v{n}": {"a": f"${{..v{n + 1}}}", "b": f"${{..v{n + 1}}}"} for n in range(40)} | {"v40": {"a": "1"}},
    "select": {f"v{n}": f"${{oc.select:v{n + 1}}}" * 2 for n in range(40)} | {"v40": "x"},
    "deep": double(3_000, "$", "x"),
}


@pytest.mark.parametrize("kind", GROWING)
def test_references_that_double_are_refused_at_once(kind: str) -> None:
    with pytest.raises(UserError, match=r"grows to more than 200,000|nested too deeply"):
        check_references(GROWING[kind])


def test_references_of_ordinary_size_are_not() -> None:
    check_references(
        {"a": "x" * 1000, "b": "${a}${a}", "c": ["${b}"] * 50, "d": "${d}", "e": "${f.g[0]}", "f": {"g": ["${a}"]}}
    )
    assert LARGEST > 100_000


@pytest.mark.parametrize("override", ["data.root=" + "[" * 500 + "]" * 500, "+a=" + "{a:" * 400 + "1" + "}" * 400])
def test_overrides_that_are_nested_deeply_are_one_sentence(
    override: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["src/explain.py", override])
    with pytest.raises(SystemExit) as stop:
        run_task("explain", [override])
    told = capsys.readouterr().err
    assert (stop.value.code, told.count("error:"), "Traceback" in told) == (2, 1, False)


def test_the_longer_of_two_secrets_is_masked_first() -> None:
    remember_secret("USER", "alice")
    remember_secret("LINE", "alice wonders")
    assert mask_secrets("alice wonders; alice") == "${oc.env:LINE}; ${oc.env:USER}"
