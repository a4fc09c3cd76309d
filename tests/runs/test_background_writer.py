"""Figures beside the loop: the same bytes in the same places, a bound on what waits, errors that surface."""

import threading
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from figure_checks import explanation
from seewhy.callbacks.pictures import Previews
from seewhy.core.files import RunFolder
from seewhy.plots.canvas import encode_figure
from seewhy.plots.heatmaps import encode_preview
from seewhy.runs.attribution_files import BackgroundWriter


def drawn(number: int) -> Figure:
    figure = Figure(figsize=(1, 1), dpi=20)
    FigureCanvasAgg(figure)
    figure.add_axes((0, 0, 1, 1)).imshow(np.full((2, 2), number), vmin=0, vmax=9)
    return figure


@pytest.mark.slow
def test_the_files_are_those_that_one_after_the_other_writes(tmp_path: Path) -> None:
    writer = BackgroundWriter(RunFolder(tmp_path), waiting=2)
    for number in range(5):
        writer.add(f"figures/{number}.png", lambda number=number: drawn(number))
    writer.finish()
    contents = [(tmp_path / "figures" / f"{number}.png").read_bytes() for number in range(5)]
    assert contents == [encode_figure(drawn(number)) for number in range(5)]
    assert len(set(contents)) == 5


def test_it_draws_elsewhere_and_in_order(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    writer = BackgroundWriter(RunFolder(tmp_path))

    def draw(number: int) -> Figure:
        seen.append((number, threading.get_ident()))
        return drawn(number)

    for number in range(4):
        writer.add(f"{number}.png", lambda number=number: draw(number))
    writer.finish()
    assert [number for number, _ in seen] == [0, 1, 2, 3]
    assert len({thread for _, thread in seen} - {threading.get_ident()}) == 1


def test_no_more_than_the_bound_waits(tmp_path: Path) -> None:
    gate, started, writer = threading.Event(), [], BackgroundWriter(RunFolder(tmp_path), waiting=2)

    def slow(number: int) -> Figure:
        started.append(number)
        gate.wait(10)
        return drawn(number)

    adding = threading.Thread(
        target=lambda: [writer.add(f"{n}.png", lambda n=n: slow(n)) for n in range(3)], daemon=True
    )
    adding.start()
    adding.join(0.3)
    assert adding.is_alive()
    assert started == [0]
    gate.set()
    adding.join(10)
    assert not adding.is_alive()
    writer.finish()
    assert started == [0, 1, 2]


def test_an_error_surfaces_once_and_the_thread_ends(tmp_path: Path) -> None:
    def broken() -> Figure:
        raise ValueError("a figure that cannot be drawn")

    before, writer = threading.active_count(), BackgroundWriter(RunFolder(tmp_path))
    writer.add("broken.png", broken)
    with pytest.raises(ValueError, match="cannot be drawn"):
        writer.finish()
    writer.finish()
    assert threading.active_count() == before
    assert not list(tmp_path.iterdir())
    writer.add("again.png", lambda: drawn(1))
    writer.finish()
    assert (tmp_path / "again.png").is_file()


def test_an_error_surfaces_while_more_is_added(tmp_path: Path) -> None:
    def broken() -> Figure:
        raise ValueError("a figure that cannot be drawn")

    writer = BackgroundWriter(RunFolder(tmp_path), waiting=1)
    writer.add("broken.png", broken)
    with pytest.raises(ValueError, match="cannot be drawn"):
        writer.add("good.png", lambda: drawn(1))
    writer.finish()


def test_other_files_take_their_turn_and_their_errors_surface(tmp_path: Path) -> None:
    folder, writer = RunFolder(tmp_path), BackgroundWriter(RunFolder(tmp_path))
    written = [writer.run(f"{n}.txt", lambda n=n: bytes([n])) for n in range(3)]
    writer.finish()
    assert [future.result() for future in written] == [
        (f"{n}.txt", folder.compute_digest(f"{n}.txt")) for n in range(3)
    ]
    assert [(tmp_path / f"{n}.txt").read_bytes() for n in range(3)] == [b"\0", b"\1", b"\2"]
    writer.run("../out.txt", lambda: b"")
    with pytest.raises(ValueError, match="leads out"):
        writer.finish()


def test_a_batch_waits_for_its_previews(tmp_path: Path) -> None:
    shown, outputs = explanation(name="cat"), {}
    outputs["explanations"] = [shown]
    previews = Previews(str(tmp_path))
    previews.on_test_batch_end(None, None, outputs, None, 0)  # type: ignore[arg-type]
    (pending,) = outputs["pending"]
    previews.on_test_epoch_end(None, None)  # type: ignore[arg-type]
    name, digest = pending.result()
    assert name == f"images/{shown.name}.webp"
    assert (tmp_path / name).read_bytes() == encode_preview(shown.image)
    assert digest == RunFolder(tmp_path).compute_digest(name)
