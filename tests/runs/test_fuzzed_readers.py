"""Every reader of files on damaged ones: what a run reads, it reads, or refuses in one sentence."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as save_safetensors

from journals import write_journal
from seewhy.core.errors import UserError
from seewhy.data.images import read_image, read_mask, read_picture_size
from seewhy.data.labels import find_images, read_class_cells
from seewhy.models.facts import read_class_names
from seewhy.models.weights import read_checkpoint
from seewhy.report.runs import read_curves, read_map, read_record, read_robustness, read_run, read_skipped
from seewhy.runs.attribution_files import AttributionFormat, read_attribution
from seewhy.runs.journal import Journal
from seewhy.runs.stored_json import read_form
from seewhy.statistics.schema import read_metric_facts
from sweep_folder import FACTS, write_run


class Reader(NamedTuple):
    """A file of a folder, and what reads it."""

    file: str
    read: Callable[[Path], object]
    prepare: Callable[[Path], object]


def draw(kind: str, mode: str = "RGB") -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / "a.png", kind)

    return write


def write_weights(folder: Path) -> None:
    torch.save({"state_dict": {"a.weight": torch.ones(2, 3)}, "epoch": 1}, folder / "a.pt")
    (folder / "a.safetensors").write_bytes(save_safetensors({"a.weight": torch.ones(2, 3)}))


def write_labels(folder: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (2, 2)).save(folder / name)
    (folder / "labels.csv").write_text("path,label\na.png,cat\nb.png,'=dog\n")


def write_map(folder: Path) -> None:
    values = torch.randn(4, 5)
    (folder / "attributions").mkdir(parents=True)
    (folder / "attributions" / "a.npy").write_bytes(AttributionFormat().encode(values))
    (folder / "attributions" / "b.npz").write_bytes(AttributionFormat("float16", True).encode(values))
    ((name, encode),) = AttributionFormat("float16", store="batches").list_files(0, {"c": values, "d": values})
    (folder / name).write_bytes(encode())


def write_tables(folder: Path) -> None:
    write_run(folder, "saliency", images=3, facts=dict(list(FACTS.items())[:2]))
    (folder / "curves.csv").write_text("image,explainer,curve,share,logit,probability\na,b,deletion,0.5,1,0.25\n")
    (folder / "skipped.csv").write_text("path,reason\na.png,broken\n")
    (folder / "robustness_summary.csv").write_text(
        "corruption,level,quantity,mean,low,high,note\njpeg,1,top1,0.5,,1,\n"
    )


def read_tables(folder: Path) -> object:
    return (
        read_run(folder, read_record(folder / "run.json")),
        read_curves(folder),
        read_skipped(folder),
        read_robustness(folder),
    )


READERS = {
    **{
        f"image-{kind}-{mode}": Reader("a.png", lambda folder: read_image(folder / "a.png"), draw(kind, mode))
        for kind, mode in (
            ("PNG", "RGB"),
            ("PNG", "P"),
            ("JPEG", "RGB"),
            ("GIF", "P"),
            ("TIFF", "RGB"),
            ("BMP", "L"),
            ("WEBP", "RGB"),
        )
    },
    "mask": Reader("a.png", lambda folder: read_mask(folder / "a.png", (9, 8)), draw("PNG", "L")),
    "picture-size": Reader("a.png", lambda folder: read_picture_size(folder / "a.png"), draw("JPEG")),
    "checkpoint": Reader("a.pt", lambda folder: read_checkpoint(folder / "a.pt"), write_weights),
    "safetensors": Reader("a.safetensors", lambda folder: read_checkpoint(folder / "a.safetensors"), write_weights),
    "class-names": Reader(
        "a.txt",
        lambda folder: read_class_names(str(folder / "a.txt")),
        lambda folder: (folder / "a.txt").write_text("cat\ndog\n"),
    ),
    "labels": Reader(
        "labels.csv", lambda folder: read_class_cells(find_images([folder]), folder / "labels.csv"), write_labels
    ),
    "plan": Reader("journal/plan.json", lambda folder: Journal(folder).read_plan(), write_journal),
    "entry": Reader("journal/00000001.json", lambda folder: read_entry(folder), write_journal),
    "record": Reader("run.json", lambda folder: read_form(folder / "run.json", "record"), write_tables),
    "facts": Reader("metrics.json", read_metric_facts, write_tables),
    **{
        name: Reader(f"{name}.csv", read_tables, write_tables)
        for name in ("metrics", "predictions", "curves", "skipped", "robustness_summary")
    },
    "map": Reader("attributions/a.npy", lambda folder: read_attribution(folder, "a"), write_map),
    "packed-map": Reader("attributions/b.npz", lambda folder: read_attribution(folder, "b"), write_map),
    "batch-of-maps": Reader("attributions/00000000.safetensors", lambda folder: read_map(folder, "c"), write_map),
}


def read_entry(folder: Path) -> object:
    """A damaged entry is a batch that is not finished; the others stay."""
    journal = Journal(folder)
    journal.join({**(journal.read_plan() or {})})
    assert len(journal.count_finished()) >= 2
    return journal.read(1)


class Edit(NamedTuple):
    """What is done to a file at a place."""

    kind: str
    place: float
    content: bytes


WORDS = [
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b"'",
    b",",
    b"\n",
    b"\r\n",
    b"{",
    b"[" * 3000,
    b"]",
    b"1e999",
    b"NaN",
    b"-1",
    b"null",
]
WORDS += [
    b"9" * 400,
    b"\x1b[2J",
    "\u202e".encode(),
    b"=1+1",
    b"../../x",
    b"\\ud800",
    b"PK\x03\x04",
    b"\x80\x04",
    b"\x7f\xff\xff\xff",
]
edits = st.lists(
    st.builds(
        Edit,
        st.sampled_from(["cut", "insert", "replace", "repeat", "flip"]),
        st.floats(0, 1),
        st.one_of(st.sampled_from(WORDS), st.binary(min_size=1, max_size=20)),
    ),
    min_size=1,
    max_size=4,
)


def damage(content: bytes, edit: Edit) -> bytes:
    at = int(edit.place * len(content))
    before, after = content[:at], content[at:]
    if edit.kind == "cut":
        return before
    if edit.kind == "flip":
        return before + bytes([(after[0] ^ edit.content[0])]) + after[1:] if after else before
    if edit.kind == "repeat":
        return before + after * 2
    return before + edit.content + (after if edit.kind == "insert" else after[len(edit.content) :])


def read_edited(reader: Reader, folder: Path, whole: bytes, done: list[Edit]) -> None:
    """Read a damaged file; any error that is not the user's fails."""
    content = whole
    for edit in done:
        content = damage(content, edit)
    (folder / reader.file).write_bytes(content)
    try:
        reader.read(folder)
    except UserError as error:
        assert str(error)
        assert "\x1b" not in str(error)


def check_reader(name: str, examples: int) -> None:
    reader = READERS[name]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        reader.prepare(folder)
        whole = (folder / reader.file).read_bytes()
        reader.read(folder)

        @settings(
            deadline=None,
            derandomize=True,
            database=None,
            max_examples=examples,
            suppress_health_check=list(HealthCheck),
        )
        @given(edits)
        def read_damaged(done: list[Edit]) -> None:
            read_edited(reader, folder, whole, done)

        read_damaged()


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name: str) -> None:
    check_reader(name, 12)


FOUND = [
    ("checkpoint", Edit("flip", 0.984375, b"\xff")),
    ("labels", Edit("insert", 0.0, b"\x1b[2J")),
    ("facts", Edit("insert", 0.0, b"[" * 3000)),
    ("robustness_summary", Edit("insert", 0.96875, b"9" * 400)),
    ("packed-map", Edit("insert", 0.9921875, b"\xff\xfe")),
]
"""What once ended in a traceback."""


@pytest.mark.parametrize(("name", "edit"), FOUND, ids=[name for name, _ in FOUND])
def test_what_was_found_stays_mended(tmp_path: Path, name: str, edit: Edit) -> None:
    reader = READERS[name]
    reader.prepare(tmp_path)
    read_edited(reader, tmp_path, (tmp_path / reader.file).read_bytes(), [edit])


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_read_or_refused(name: str) -> None:
    check_reader(name, 500)
