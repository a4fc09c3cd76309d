"""Folders and configs that somebody else made: nothing of them runs, leaves its folder or steers a terminal.

Each is refused in one sentence, or is read as what it is. `canary` is what code of theirs would leave behind.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra.core.global_hydra import GlobalHydra

from journals import PLAN, file_contents, write_batch
from seewhy.cli.compare import _read_run
from seewhy.cli.config import check_groups
from seewhy.cli.main import run_task
from seewhy.cli.resume import prepend_earlier_overrides
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.report.merge_shards import find_shards, merge_shards
from seewhy.report.runs import find_runs, read_figures, read_map, read_preview
from seewhy.report.write import write_report
from seewhy.runs.attribution_files import read_attribution
from seewhy.runs.journal import Journal
from seewhy.runs.stored_json import read_form
from sweep_folder import FACTS, edit_record, write_run, write_sweep

STEERING = "x\x1b]0;owned\x07\x1b[31m\u202egnp"
MARKUP = "<script>alert(1)</script>"


class Code:
    """A pickle of it creates the file `canary` in the working folder."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int]]:
        return os.open, ("canary", os.O_CREAT)


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The working folder, with a file of its user that must neither change nor reach a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "private.npy").write_bytes(b"PRIVATE")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary.txt").write_bytes(b"PRIVATE")
    yield tmp_path
    assert (tmp_path / "private.npy").read_bytes() == b"PRIVATE"
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["diary.txt"]
    assert not list(tmp_path.rglob("canary*"))


def check_sentence(text: str) -> None:
    assert text
    assert "Traceback" not in text
    assert not set("\x1b\x07\u202e\u2066") & set(text)


STORED = [
    "++hydra.callbacks.x={_target_: pandas.read_pickle, filepath_or_buffer: canary}",
    "hydra.callbacks.x._target_=pandas.read_pickle",
    "~hydra.callbacks.run_folders",
    "++hydra/launcher=submitit_slurm",
    "++hydra.run.dir=home",
    "++trust_config=true",
    "+trust_config=true",
    "trust_config=true",
    "--config-path=home",
    "--config-dir=home",
    "--multirun",
    "-cn=mine",
    "--info",
    "++output=home",
    "output=home",
    "+model.build='canary:main'",
    "~trust_config",
    "task=train",
    "model={architecture: {_target_: seewhy.models.imported.Imported, build: 'canary:main'}}",
    "model.architecture.build=canary:main",
    "experiment=../../../sent/evil",
    "+experiment@_global_='../../sent/evil'",
    "metric=[deletion,../../sent/evil]",
    "explainer/../../sent=evil",
    "logger={x: {_target_: lightning.pytorch.loggers.MLFlowLogger, tracking_uri: 'http://evil.example'}}",
    "logger.mlflow.tracking_uri=http://evil.example",
    "logger.wandb.offline=false",
    "data.root=${oc.env:HOME}",
    "logger.csv.name=${oc.env:HOME}",
    "",
    "=",
    "a",
    "[",
    "(" * 400,
    "evil\x1b[2J=1",
]


@pytest.mark.parametrize("override", STORED)
def test_a_stored_override_sets_nothing_but_what_a_run_computes(outside: Path, override: str) -> None:
    Journal(outside / "sent").begin({**PLAN, "overrides": [override, "seed=1"]})
    try:
        repeated = prepend_earlier_overrides(["resume=sent"], "explain")
        check_groups(repeated)
    except UserError as error:
        check_sentence(str(error))
        refusals = (
            "do not resume",
            "would run",
            "from your environment",
            "where results are sent",
            "not a path out of it",
        )
        assert any(words in str(error) for words in refusals)
    else:
        assert repeated == ["seed=1", "hydra.run.dir='sent'"]


@pytest.mark.parametrize("name", ["canary:main", "canary.of.it:main", 3, None, ["a"]])
def test_the_record_of_a_training_names_no_code(outside: Path, name: object) -> None:
    write_run(outside / "sent", "saliency", images=2)
    edit_record(outside / "sent", task="train", model={"name": name})
    (outside / "sent" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"that code would run|is not the (run folder|record)") as caught:
        _read_run(outside / "sent")
    check_sentence(str(caught.value))


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", '{"model": 3}', "\x00"])
def test_a_record_that_is_none_names_no_network(outside: Path, content: str) -> None:
    (outside / "sent").mkdir()
    (outside / "sent" / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json") as caught:
        _read_run(outside / "sent")
    check_sentence(str(caught.value))


FORMS: list[tuple[str, Any]] = [
    ("plan", {"batches": 10**400}),
    ("plan", {"batches": True}),
    ("plan", {"shard": "1/1000000000000"}),
    ("plan", {"shard": "2/1\n"}),
    ("plan", {"config": [1]}),
    ("plan", {"overrides": [1]}),
    ("plan", {"overrides": {"a": "b"}}),
    ("plan", {"version": 10**9}),
    ("record", {"seconds": float("nan")}),
    ("record", {"seconds": 1e308}),
    ("record", {"seconds": "12"}),
    ("record", {"images": -1}),
    ("record", {"images_explained": 10**30}),
    ("record", {"task": "../../x"}),
    ("record", {"status": f"completed{STEERING}"}),
    ("record", {"explainer": "lrp"}),
    ("record", {"model": {"name": 3}}),
    ("record", {"versions": 3}),
    ("record", {"seed": [1]}),
    ("record", {"sheet": {"maximum": 3, "style": {"draw": "x"}}}),
    ("record", {"passes_per_image": {"forward": float("inf")}}),
]


@pytest.mark.parametrize(("form", "change"), FORMS, ids=[f"{form}-{str(change)[:40]!a}" for form, change in FORMS])
def test_a_value_of_another_type_is_one_sentence(outside: Path, form: str, change: dict[str, Any]) -> None:
    write_run(outside / "sent", "saliency", images=2)
    Journal(outside / "sent").begin(PLAN)
    path = outside / "sent" / {"plan": "journal/plan.json", "record": "run.json"}[form]
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError) as caught:
        read_form(path, form)
    check_sentence(str(caught.value))
    assert next(iter(change)) in str(caught.value)


def test_of_a_key_that_stands_twice_the_last_counts(outside: Path) -> None:
    """For the check of its type and for its value alike."""
    folder = write_run(outside / "sent", "saliency", images=2)
    text = (folder / "run.json").read_text()
    (folder / "run.json").write_text(text.replace('"status"', '"status": "failed", "status"', 1))
    assert read_form(folder / "run.json", "record")["status"] == "completed"
    (folder / "run.json").write_text(text.rstrip().removesuffix("}") + ', "seconds": "words"}')
    with pytest.raises(UserError, match="seconds"):
        read_form(folder / "run.json", "record")


NAMES = ["../../private", "../private", "/etc/hostname", "a/../../../private", "..", "", "nul\0", "x" * 5000]


@pytest.mark.parametrize("name", NAMES, ids=[repr(name[:30]) for name in NAMES])
def test_a_name_of_a_table_is_no_path_outside(outside: Path, name: str) -> None:
    folder = outside / "sent"
    (folder / "images").mkdir(parents=True)
    for read in (
        lambda: read_map(folder, name),
        lambda: read_preview(folder, name),
        lambda: read_figures(folder, [name]).get(name),
    ):
        try:
            assert read() is None
        except UserError as error:
            check_sentence(str(error))


def link_files(folder: Path, outside: Path) -> None:
    for name in ("attributions", "images", "figures"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "attributions" / "image_0000.npy").symlink_to(outside / "private.npy")
    (folder / "images" / "image_0000.webp").symlink_to(outside / "private.npy")
    (folder / "figures" / "image_0000.png").symlink_to(outside / "private.npy")


def link_folders(folder: Path, outside: Path) -> None:
    for name in ("attributions", "images", "figures"):
        (folder / name).symlink_to(outside)
    for name in ("image_0000.npy", "image_0000.webp", "image_0000.png"):
        (outside / name).write_bytes(b"PRIVATE")


@pytest.mark.parametrize("link", [link_files, link_folders])
def test_a_link_is_no_file_of_a_run(outside: Path, link: Callable[[Path, Path], None]) -> None:
    folder = outside / "sent"
    folder.mkdir()
    link(folder, outside)
    for read in (
        lambda: read_map(folder, "image_0000"),
        lambda: read_preview(folder, "image_0000"),
        lambda: read_figures(folder, ["figures/image_0000.png"]).get("figures/image_0000.png"),
    ):
        try:
            assert read() is None
        except UserError as error:
            check_sentence(str(error))


def store(array: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def pack(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member)
    return content.getvalue()


def claim(shape: str, rest: bytes = b"", kind: str = "<f4") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode()
    return b"\x93NUMPY\x01\x00\x76\x00" + header + b"\n" + rest


def head(entry: Any, rest: bytes = b"", name: str = "a") -> bytes:
    header = entry if isinstance(entry, bytes) else json.dumps({name: entry}).encode()
    return len(header).to_bytes(8, "little") + header + rest


def place(dtype: Any = "F32", shape: Any = (2, 2), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


MAPS = {
    "a pickle": (".npy", pickle.dumps(Code())),
    "an array of objects": (".npy", store(np.array([Code()], dtype=object))),
    "text": (".npy", store(np.array(["a"]))),
    "four axes": (".npy", store(np.zeros((2, 2, 2, 2), np.float32))),
    "one number": (".npy", store(np.float32(1))),
    "nothing": (".npy", b""),
    "a header that lies": (".npy", claim("(1000000, 1000000)")),
    "a header that says too little": (".npy", claim("(2, 2)", bytes(64))),
    "negative sides": (".npy", claim("(-2, -2)", bytes(16))),
    "words for sides": (".npy", claim("('a', 2)", bytes(16))),
    "code for sides": (".npy", claim("(__import__('os').open('canary', 64), 2)", bytes(16))),
    "an unknown type": (".npy", claim("(2, 2)", bytes(16), "<q9")),
    "a member of objects": (".npz", pack(attribution=store(np.array([Code()], dtype=object)))),
    "other members": (".npz", pack(other=store(np.zeros((2, 2), np.float32)))),
    "a scale of objects": (
        ".npz",
        pack(attribution=store(np.zeros((2, 2), np.float16)), scale=store(np.array([Code()], dtype=object))),
    ),
    "a scale of three axes": (
        ".npz",
        pack(attribution=store(np.zeros((2, 2), np.float16)), scale=store(np.zeros((9, 9, 2), np.float32))),
    ),
    "a zip that inflates": (".npz", pack(attribution=claim("(20000, 20000)", bytes(10_000_000)))),
    "half a zip": (".npz", pack(attribution=store(np.zeros((2, 2), np.float32)))[:90]),
    "no zip": (".npz", b"PK\x03\x04" + bytes(30)),
    "no header": (".safetensors", b""),
    "a header without end": (".safetensors", (2**62).to_bytes(8, "little") + b"{}"),
    "a header that is no JSON": (".safetensors", head(b"{a}")),
    "a header that is a list": (".safetensors", head(b"[1]")),
    "a header nested without end": (".safetensors", head(b"[" * 100_000)),
    "an entry that is none": (".safetensors", head(1)),
    "values that are not there": (".safetensors", head(place(), bytes(8))),
    "offsets before the values": (".safetensors", head(place(offsets=(-16, 0)), bytes(16))),
    "offsets of something larger": (".safetensors", head(place(offsets=(0, 64)), bytes(64))),
    "sides beyond all memory": (".safetensors", head(place(shape=(2**31, 2**31), offsets=(0, 2**64)), bytes(16))),
    "three sides": (".safetensors", head(place(shape=(1, 2, 2)), bytes(16))),
    "numbers of another type": (".safetensors", head(place("I32"), bytes(16))),
    "text for sides": (".safetensors", head(place(shape="ab"), bytes(16))),
    "half precision without a scale": (".safetensors", head(place("F16", offsets=(0, 8)), bytes(8))),
    "a scale that is text": (
        ".safetensors",
        head(
            json.dumps({"__metadata__": {"scales": '{"a": "b"}'}, "a": place("F16", offsets=(0, 8))}).encode(), bytes(8)
        ),
    ),
}


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_that_is_none_is_one_sentence(outside: Path, kind: str) -> None:
    suffix, content = MAPS[kind]
    RunFolder(outside / "sent").write_bytes(f"attributions/a{suffix}", content)
    with pytest.raises(UserError, match="is not the map of a run") as caught:
        read_attribution(outside / "sent", "a")
    check_sentence(str(caught.value))


def edit_table(folder: Path, table: str, column: str, value: str) -> None:
    """Give the first image, metric or class of a table another name, or one number another text."""
    path = folder / table
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    cells.loc[cells[column] == cells.loc[0, column], column] = value
    cells.to_csv(path, index=False)


@pytest.mark.parametrize(
    ("table", "column"),
    [("metrics.csv", "value"), ("predictions.csv", "probability"), ("predictions.csv", "target_probability")],
)
@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "1,5", STEERING, "0x10"])
def test_text_for_a_number_is_one_sentence(outside: Path, table: str, column: str, text: str) -> None:
    folder = write_run(outside / "sent", "saliency", images=3)
    edit_table(folder, table, column, text)
    with pytest.raises(UserError, match=rf"{table}: {column} .* is no number|does not hold") as caught:
        find_runs([str(folder)])
    check_sentence(str(caught.value))


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"a,b\n1\n", b'"', b"\x00" * 100, b"image,target\n" + b'"' * 9]
)
@pytest.mark.parametrize("table", ["metrics.csv", "predictions.csv", "metrics.json"])
def test_a_table_that_is_none_is_one_sentence(outside: Path, table: str, content: bytes) -> None:
    folder = write_run(outside / "sent", "saliency", images=3)
    (folder / table).write_bytes(content)
    with pytest.raises(UserError) as caught:
        find_runs([str(folder)])
    check_sentence(str(caught.value))


@pytest.mark.slow
def test_names_are_shown_and_steer_nothing(
    outside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of images, classes, metrics, methods, networks, folders and reasons: in a terminal, on the page, as file names."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    name = f"{STEERING}{MARKUP}"
    runs = write_sweep(outside / "runs", ("random", "saliency"), images=4, facts=dict(list(FACTS.items())[:2]))
    for folder in sorted(runs.iterdir()):
        for table, column in (("predictions.csv", "image"), ("metrics.csv", "image"), ("metrics.csv", "metric")):
            edit_table(folder, table, column, name)
        for column in ("label", "predicted", "target", "path"):
            edit_table(folder, "predictions.csv", column, name)
        words = dict.fromkeys(("command", "started", "device", "platform", "python", "git_commit"), name)
        model = {"name": f"../../{name}", "weights": name, "weights_sha256": "a" * 64, "fit": name}
        edit_record(folder, model=model, overrides=[name], versions={name: name}, **words)
        facts = json.loads((folder / "metrics.json").read_text())
        facts[name] = {**next(iter(facts.values())), "variant": name}
        (folder / "metrics.json").write_text(json.dumps(facts))
    edit_record(folder, explainer={"name": name, "parameters": name, "target": "predicted"})
    write_run(runs / f"failed{STEERING}", "lrp", images=4, status="failed", reason=name)
    write_report([str(runs)], outside / "report", page=True)
    printed = capsys.readouterr()
    assert "page: " in printed.out, printed.err
    for steering in ("\x1b]", "\x1b[31mgnp", "\x07", "\u202e"):
        assert steering not in printed.out
    page = (outside / "report" / "report.html").read_text()
    assert not set("\x1b\x07\u202e") & set(page)
    assert MARKUP not in page
    assert "gnp" in page
    assert {path.name for path in outside.iterdir()} == {"home", "private.npy", "report", "runs"}


@pytest.mark.slow
def test_models_whose_names_differ_in_signs_alone_get_files_of_their_own(outside: Path) -> None:
    """`a/b` and `a b` shared one folder: the figures of the second replaced those of the first."""
    for number, model in enumerate(("a/b", "a b", "../..")):
        for method in ("random", "saliency"):
            named = {"name": model, "weights": "hub", "weights_sha256": str(number) * 64}
            facts = dict(list(FACTS.items())[:2])
            write_run(outside / "runs" / f"{number}_{method}", method, images=4, model=named, facts=facts)
    write_report([str(outside / "runs")], outside / "report")
    folders = {path.parent.name for path in (outside / "report").glob("*/leaderboard.png")}
    assert folders == {"a_b", "a_b_2", "unnamed"}


def shard(folder: Path, number: int, change: Callable[[dict[str, Any]], None] = lambda plan: None) -> Path:
    """One of two shards of the run of `journals`, finished."""
    plan = {**PLAN, "shard": f"{number}/2"}
    change(plan)
    journal = Journal(folder / str(number))
    journal.begin(plan)
    for batch in (0, 2) if number == 1 else (1,):
        write_batch(journal, batch)
    write_run(folder / str(number), "saliency", images=3, shard=f"{number}/2")
    return folder / str(number)


def edit_entry(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit the entry of a batch as somebody would who knows its form: its digest fits again."""
    import hashlib

    path = next(iter(sorted(folder.glob("journal/0*.json"))))
    plain = json.loads(path.read_bytes().split(b"\n")[0])
    edit(plain)
    line = json.dumps(plain, separators=(",", ":")).encode()
    path.write_bytes(line + b"\n" + hashlib.blake2b(line, digest_size=16).hexdigest().encode() + b"\n")


def steal(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        digest = RunFolder(folder.parent.parent).compute_digest("private.npy")
        edit_entry(folder, lambda plain: plain["stored"].update({name: digest}))

    return change


def replace_by_link(folder: Path) -> None:
    path = next((folder / "figures").iterdir())
    content = path.read_bytes()
    path.unlink()
    (folder.parent.parent / "copy").write_bytes(content)
    path.symlink_to(folder.parent.parent / "copy")


def replace_folder_by_link(folder: Path, name: str = "figures") -> None:
    (folder / name).rename(folder.parent.parent / name)
    (folder / name).symlink_to(folder.parent.parent / name)


CRAFTED: dict[str, Callable[[Path], object]] = {
    "a file above": steal("../../private.npy"),
    "a file above by a detour": steal("figures/../../../private.npy"),
    "an absolute path": lambda folder: steal(str(folder.parent.parent / "private.npy"))(folder),
    "a link": replace_by_link,
    "a folder that is a link": replace_folder_by_link,
    "a journal that is a link": lambda folder: replace_folder_by_link(folder, "journal"),
    "no explainer": lambda folder: edit_record(folder, explainer=None),
    "a style of its own": lambda folder: edit_record(folder, sheet={"maximum": 3, "style": {"file": "canary"}}),
    "no seed": lambda folder: edit_record(folder, seed=None),
    "endless shards": lambda folder: rewrite_plan(folder, shard="1/999999999"),
    "endless batches": lambda folder: rewrite_plan(folder, batches=2**53),
    "other types": lambda folder: edit_entry(folder, lambda plain: plain.update(images={"a": 1})),
    "numbers for names": lambda folder: edit_entry(folder, lambda plain: plain["images"][0].update(name=3)),
}


def rewrite_plan(folder: Path, **changes: Any) -> None:
    path = folder / "journal" / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_shard_is_not_merged(outside: Path, kind: str) -> None:
    first = shard(outside / "shards", 1)
    shard(outside / "shards", 2)
    CRAFTED[kind](first)
    with pytest.raises(UserError) as caught:
        merge_shards(find_shards([str(outside / "shards")]), outside / "merged")
    check_sentence(str(caught.value))
    assert not any(b"PRIVATE" in path.read_bytes() for path in (outside / "merged").rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../../owned", "/owned", "attributions/../../owned", f"{STEERING}{MARKUP}", "=1+1"])
def test_a_crafted_name_in_a_journal_becomes_no_path(outside: Path, name: str) -> None:
    first = shard(outside / "shards", 1)
    shard(outside / "shards", 2)
    edit_entry(first, lambda plain: plain["images"][0].update(name=name, path=name))
    edit_record(first, sheet={"maximum": 9, "style": {"colours": "default", "outlier_percent": 2.0, "strength": 0.5}})
    try:
        merge_shards(find_shards([str(outside / "shards")]), outside / "merged")
    except UserError as error:
        check_sentence(str(error))
    else:
        assert name.startswith(("=", "x", "/"))
        assert ("'=1+1" in (outside / "merged" / "predictions.csv").read_text()) == (name == "=1+1")
    assert not list(outside.parent.rglob("owned*"))
    assert set(file_contents(0)) <= {path.relative_to(first).as_posix() for path in first.rglob("*")}


def test_the_shards_themselves_are_merged(outside: Path) -> None:
    for number in (1, 2):
        shard(outside / "shards", number)
    merge_shards(find_shards([str(outside / "shards")]), outside / "merged")
    assert len(list((outside / "merged" / "figures").iterdir())) == 5


CONFIGS = {
    "a callback of Hydra": "hydra:\n  callbacks:\n    x: {_target_: os.open, path: canary, flags: 64}",
    "a callback behind a reference": "a: os.open\nhydra:\n  callbacks:\n    x: {_target_: '${a}', path: canary, flags: 64}",
    "a handler of messages": "hydra:\n  job_logging: {version: 1, handlers: {x: {'()': os.open, path: canary, flags: 64}}}",
    "a handler of Hydra's messages": "hydra:\n  hydra_logging: {version: 1, handlers: {x: {class: smtplib.SMTP, host: h}}}",
    "a formatter": "hydra:\n  job_logging: {version: 1, formatters: {x: {'()': os.open, path: canary, flags: 64}}}",
    "a file of messages": "hydra:\n  job_logging: {handlers: {x: {class: logging.FileHandler, filename: canary}}}",
    "a stream": "hydra:\n  job_logging: {handlers: {x: {class: logging.StreamHandler, stream: 'ext://os.environ'}}}",
    "the environment of programs": "hydra:\n  job: {env_set: {PATH: home}}",
    "a command of a launcher": "hydra:\n  launcher: {_target_: hydra_plugins.x.Y, setup: [touch canary]}",
    "a launcher": "hydra:\n  launcher: {_target_: os.open, path: canary, flags: 64}",
    "a callback": "callbacks:\n  x: {_target_: os.open, path: canary, flags: 64}",
    "a callback that vouches for itself": "trust_config: true\ncallbacks: {x: {_target_: os.open, path: canary}}",
    "an object inside of an object": "explainer: {layer: {_target_: os.open, path: canary, flags: 64}}",
    "a network of its own": "model:\n  architecture: {_target_: seewhy.models.imported.Imported, build: 'canary:main'}",
    "an object of yaml": "seed: !!python/object/apply:os.open [canary, 64]",
    "another task": "task: train",
    "a folder of a callback": "callbacks:\n  tables: {folder: home}",
    "a profiler": "trainer: {profiler: {_target_: lightning.pytorch.profilers.SimpleProfiler, dirpath: home, filename: x}}",
    "a name that climbs": "callbacks: {x: {_target_: lightning.pytorch.callbacks.ModelCheckpoint, filename: ../../x}}",
    "a logger inside of a method": "explainer: {_target_: seewhy.explainers.captum_adapter.Captum, options: {abs: "
    "{_target_: lightning.pytorch.loggers.CSVLogger, save_dir: home}}}",
    "the output in the folder of its user": "output: home",
    "a folder named by a reference": "hydra:\n  run: {dir: '${oc.env:NOBODY_SET_THIS}'}",
    "aliases": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "\n".join(f"b{n}: &b{n} [{','.join([f'*b{n - 1}' if n else '*a'] * 10)}]" for n in range(12)),
    "references": "\n".join(f"r{n}: {{a: '${{r{n + 1}}}', b: '${{r{n + 1}}}'}}" for n in range(40)) + "\nr40: 1",
    "depth": "a: " + "[" * 700 + "]" * 700,
    "steering": f'{{"{STEERING}": 1, seed: "{STEERING}"}}'.replace("\x1b", "\\e").replace("\x07", "\\a"),
    "no text": "a: \x00\x01",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_crafted_config_is_one_sentence(
    outside: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (outside / "conf" / "experiment").mkdir(parents=True)
    (outside / "conf" / "experiment" / "sent.yaml").write_text(f"# @package _global_\n{CONFIGS[kind]}\n")
    given = ["--config-dir", "conf", "experiment=sent", "model=cifar_cnn", "model.weights=random", "trainer=cpu"]
    monkeypatch.setattr("sys.argv", ["src/explain.py", *given])
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as stop:
        run_task("explain", given)
    told = capsys.readouterr().err
    assert stop.value.code == 2, told
    check_sentence(told)
    assert told.count("error:") == 1
    assert {path.name for path in outside.iterdir()} <= {"conf", "home", "private.npy", "logbook"}
