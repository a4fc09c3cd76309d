"""Figures are drawn of the first images, also of a run that is resumed."""

from pathlib import Path

import pytest

from resuming import Count, explain, images

DRAWN = ["callbacks=[attribution,tables,figures,terminal]", "data.batch_size=1", "callbacks.figures.limit=2"]


def list_figures(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "figures").glob("*.png"))


@pytest.mark.slow
def test_figures_of_the_first_images_alone_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = images(tmp_path / "data", 5)
    explain(tmp_path / "all", data, *DRAWN, "callbacks.figures.limit=null")
    names = list_figures(tmp_path / "all")
    assert len(names) == 5
    assert "images are drawn" not in capsys.readouterr().out
    explain(tmp_path / "some", data, *DRAWN)
    assert list_figures(tmp_path / "some") == names[:2]
    assert "figures of 2 of 5 images are drawn; callbacks.figures.limit=null draws all" in capsys.readouterr().out
    count = Count(monkeypatch)

    def interrupt() -> None:
        raise KeyboardInterrupt

    count.stop = (2, interrupt)
    with pytest.raises(SystemExit):
        explain(tmp_path / "resumed", data, *DRAWN)
    explain(tmp_path / "resumed", data, *DRAWN)
    assert list_figures(tmp_path / "resumed") == names[:2]
    explain(tmp_path / "none", data, *DRAWN, "callbacks.figures.limit=0")
    assert list_figures(tmp_path / "none") == []
