"""`scripts/convergence.py`: its reference and what is compared with it are trapezoid sums; rows come back as written."""

import csv
from dataclasses import asdict, fields
from pathlib import Path

import convergence
import pytest
import torch

from seewhy import explain
from seewhy.explainers.integrated_gradients import IntegratedGradients
from tiny import random_images, small_cnn


@pytest.mark.slow
def test_the_reference_and_the_fixed_rules_are_trapezoid_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convergence, "INTERVALS", 12)
    monkeypatch.setattr(convergence, "FIXED", (4, 6, 12))
    classifier, images = small_cnn(), random_images(1, 32)
    (explained,) = explain(classifier, images, "saliency", overrides=["trainer=cpu"])
    target = torch.tensor([explained.target.index])

    def integrate(intervals: int) -> torch.Tensor:
        rule = IntegratedGradients(rule="trapezoid", n_steps=intervals + 1, probe_batch_size=16)
        return rule(classifier, explained.image[None], target)[0].double()

    maps = convergence.TrapezoidMaps(classifier, explained)
    coarse = {intervals: integrate(intervals) for intervals in (4, 6, 12, 24)}
    for intervals in (4, 6, 12):
        assert convergence.measure_error(maps.coarse[intervals], coarse[intervals]) < 1e-3
    change = maps.halve()
    assert convergence.measure_error(maps.finest, coarse[24]) < 1e-3
    assert change == pytest.approx(convergence.measure_error(coarse[12], coarse[24]), rel=1e-2)
    cells = dict(cell.split("=") for cell in maps.describe().split())
    error, gap = map(float, cells["4"].split("/"))
    assert error == pytest.approx(convergence.measure_error(coarse[4], coarse[24]), rel=1e-2)
    black = torch.zeros_like(explained.image[None])
    with torch.no_grad():
        scores = classifier(torch.cat([explained.image[None], black]).to(classifier.mean))[:, explained.target.index]
    change_of_score = float(scores[0] - scores[1])
    assert gap == pytest.approx(abs(float(coarse[4].sum()) / change_of_score - 1), abs=1e-3)


def test_rows_are_read_as_they_were_written_and_summarised(tmp_path: Path) -> None:
    fixed = " ".join(f"{n}={0.2 if n < 20 else 0.03}/0.002" for n in convergence.FIXED)
    rows = [
        convergence.Row("net", f"image{number}", 65, 0.03, 0.001, number != 3, error, 240, 0.004, fixed)
        for number, error in enumerate((0.02, 0.06, 0.049, 0.5))
    ]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(convergence.Row)])
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    assert convergence.read_rows(tmp_path / "rows.csv") == rows
    words = convergence.summarise("net", rows, 0.05)
    assert (
        "3 of 4 called converged, 2 of them within 0.05 (66.7 % [20.8, 93.9], largest error 0.060; 1 that the" in words
    )
    assert "65 steps on average, where 21 fixed ones chosen for each image" in words
