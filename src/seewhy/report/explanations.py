"""Explanations in memory: they draw themselves, make tables, and become the run folders and the page of the command."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from seewhy.core.errors import UserError
from seewhy.core.types import Explanation, Skipped, Target
from seewhy.core.words import count_noun
from seewhy.plots.text import format_probability
from seewhy.runs.attribution_files import AttributionFormat
from seewhy.runs.batch_results import BatchResults, Cost, CurveRow, ImageResult, join_points

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from seewhy.core.files import RunFolder
    from seewhy.statistics.schema import MetricFact

MOST_ROWS = 20
"""Images that `Explanations.figure` shows by method or network."""


@dataclass(eq=False)
class Origin:
    """What one network and one method of a call to `explain` were: what run.json says of a run.

    Args:
        model: Name, weights, their hash, number of classes, size, mean and standard deviation.
        explainer: Name, parameters, target, whether maps are signed, tolerance.
        seed: Of the call.
        device: Of the network.
        facts: Of the metrics that were measured.
        costs: Passes and seconds by stage of the work, added up over the images of the call.
        images: Number of images of the call that were explained.
    """

    model: dict[str, Any]
    explainer: dict[str, Any]
    seed: int = 0
    device: str = ""
    facts: dict[str, MetricFact] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    images: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """What two calls share whose explanations are of one kind."""
        model = (self.model["name"], self.model["weights_sha256"])
        method = (self.explainer["name"], self.explainer["parameters"], self.explainer["target"])
        return tuple(map(str, (*model, *method, self.seed, sorted(self.facts))))

    def add_cost(self, stage: str, cost: Cost) -> None:
        """Add what a stage of the work on a batch took.

        Args:
            stage: `attribution` or `metrics`.
            cost: Its passes and seconds.
        """
        forward, backward, seconds = self.costs.get(stage, Cost(0, 0, 0.0))
        self.costs[stage] = Cost(forward + cost.forward, backward + cost.backward, seconds + cost.seconds)


@dataclass(frozen=True, repr=False)
class ExplainedImage(Explanation):
    """One image with its prediction and one attribution map for one target, which draws itself."""

    origin: Origin | None = field(default=None, repr=False, compare=False)
    """The network and the method."""
    curves: tuple[CurveRow, ...] = field(default=(), repr=False, compare=False)
    """Points of the perturbation curves that its metrics were read off."""

    @classmethod
    def of(cls, explanation: Explanation, origin: Origin, curves: Iterable[CurveRow] = ()) -> ExplainedImage:
        """Extend an explanation.

        Args:
            explanation: Of an image.
            origin: The network and the method.
            curves: Its perturbation curves.

        Returns:
            The same explanation, which knows both.
        """
        values = {each.name: getattr(explanation, each.name) for each in fields(Explanation)}
        return cls(**values, origin=origin, curves=tuple(curves))

    def figure(self, **style: Any) -> Image:
        """Draw the figure of a run's figures/<image>.png.

        Args:
            **style: Options of `seewhy.plots.explanation.draw_panel`, such as colours, strength and views.

        Returns:
            An RGB picture.
        """
        from seewhy.plots.canvas import open_figure
        from seewhy.plots.explanation import draw_panel

        return open_figure(draw_panel(self, **style))

    def _repr_png_(self) -> bytes:
        from seewhy.plots.canvas import encode_figure
        from seewhy.plots.explanation import draw_panel

        return encode_figure(draw_panel(self))


class Explanations(list[ExplainedImage]):
    """Explanations in the order of networks, methods and images; shown in a notebook as one picture.

    Slices, sums and selections of explanations are explanations again, with all methods of this class.

    Args:
        explanations: Those of the images that could be explained.
        skipped: The images that could not, each with the reason.
    """

    def __init__(self, explanations: Iterable[ExplainedImage] = (), skipped: Iterable[Skipped] = ()) -> None:
        super().__init__(explanations)
        self.skipped = list(skipped)

    @overload
    def __getitem__(self, position: SupportsIndex) -> ExplainedImage: ...
    @overload
    def __getitem__(self, position: slice) -> Explanations: ...
    def __getitem__(self, position: SupportsIndex | slice) -> ExplainedImage | Explanations:
        """Return one explanation, or those of a slice."""
        if isinstance(position, slice):
            return Explanations(super().__getitem__(position), self.skipped)
        return super().__getitem__(position)

    def __add__(self, other: Iterable[ExplainedImage]) -> Explanations:  # type: ignore[override]
        """Join with other explanations."""
        skipped = [*self.skipped, *getattr(other, "skipped", ())]
        return Explanations([*self, *other], dict.fromkeys(skipped))

    def __radd__(self, other: Any) -> Explanations:
        """Join where `sum` begins with 0, or with a plain list."""
        return Explanations([*(other or ()), *self], self.skipped)

    def __iadd__(self, other: Iterable[ExplainedImage]) -> Explanations:  # type: ignore[override]
        """Add other explanations to these."""
        self.skipped = list(dict.fromkeys([*self.skipped, *getattr(other, "skipped", ())]))
        self.extend(other)
        return self

    def copy(self) -> Explanations:
        """Copy the list.

        Returns:
            The same explanations in a list of their own.
        """
        return self[:]

    def filter(self, keep: Callable[[ExplainedImage], Any]) -> Explanations:
        """Select explanations.

        Args:
            keep: Called with each, such as `lambda each: not each.prediction.correct`.

        Returns:
            Those for which it is true.
        """
        return Explanations((each for each in self if keep(each)), self.skipped)

    def table(self) -> pd.DataFrame:
        """Collect the numbers of all explanations.

        Returns:
            One row per explanation: image, network, method, true class, prediction, target, facts of the map and metrics.
        """
        import pandas as pd

        rows = [
            {
                "image": each.image_name,
                "model": each.origin.model["name"] if each.origin else each.classifier,
                "explainer": each.explainer,
                "parameters": each.parameters,
                "label": each.prediction.label,
                "predicted": each.prediction.name,
                "probability": each.prediction.probability,
                "target": each.target.name,
                "target_policy": each.target.policy,
                "target_probability": each.target.probability,
                **each.facts,
                **each.metrics,
            }
            for each in self
        ]
        return pd.DataFrame(rows)

    def figure(self, **style: Any) -> Image:
        """Draw all explanations in one picture: original and overlay of every image, or the images by method and network.

        Args:
            **style: Options of `seewhy.plots.grid.draw_grid`, or of `draw_matrix` where there are several methods or
                networks.

        Returns:
            An RGB picture.
        """
        from seewhy.plots.canvas import open_figure

        return open_figure(self._draw(**style))

    def _draw(self, **style: Any) -> Any:
        from seewhy.plots.grid import draw_grid, draw_matrix

        columns = self._group()
        has_targets = any(each.suffix for each in self) and len(self._group(by_target=False)) == 1
        if has_targets and style.keys() <= {"colours", "outlier_percent", "strength"}:
            from seewhy.plots.targets import draw_grid_of_targets

            return draw_grid_of_targets(self, **style)
        if len(columns) < 2:
            return draw_grid(self, **style)
        names = list(dict.fromkeys(each.image_name for each in self))
        cells = [{each.image_name: each for each in group} for group in columns]
        rows = [[column.get(name) for column in cells] for name in names[:MOST_ROWS]]
        title = (f"{len(rows)} of " if len(names) > len(rows) else "") + count_noun(len(names), "image")
        return draw_matrix(rows, _name_columns([group[0] for group in columns]), title, **style)

    def _group(self, by_target: bool = True) -> list[list[ExplainedImage]]:
        """The explanations of each network and method, each image (and target) once; those of several calls together."""
        groups: dict[Any, dict[str, ExplainedImage]] = {}
        for each in self:
            is_own = by_target or not each.suffix
            run = each.origin.key if each.origin else (each.classifier, each.explainer)
            kind, name = (run, each.target.policy if is_own else ""), each.image_name if is_own else each.name
            call, group = 0, groups.setdefault((kind, 0), {})
            while name in group and group[name].attribution is not each.attribution:
                call += 1  # another image of the same name
                group = groups.setdefault((kind, call), {})
            group[name] = each
        return [list(group.values()) for group in groups.values()]

    def save(self, folder: str | Path) -> Path:
        """Write what the command leaves: a run folder, or one for each network and method in the given folder.

        `python src/report.py runs=<folder>` compares them with others.

        Args:
            folder: New, or empty.

        Returns:
            The folder.

        Raises:
            UserError: It holds something, or there is nothing to save.
        """
        from seewhy.core.files import RunFolder, name_files

        folder = Path(folder).expanduser()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} holds something already; name a new folder")
        groups = [group for group in self._group(by_target=False) if group[0].origin is not None]
        if not groups:
            raise UserError("there are no explanations to save")
        for number, group in enumerate(groups):
            origin = group[0].origin
            assert origin is not None
            (name,) = name_files([f"{number}_{origin.model['name']}_{origin.explainer['name']}"]).values()
            _write_run(RunFolder(folder / name if len(groups) > 1 else folder), origin, group, self.skipped)
        return folder

    def report(self, path: str | Path = "report.html", overwrite: bool = False) -> Path:
        """Write the page of the command: one file that needs nothing else.

        Args:
            path: Of the file.
            overwrite: Whether a file of that name is replaced.

        Returns:
            The path.

        Raises:
            UserError: There is such a file, or the explanations cannot be compared.
        """
        from seewhy.report.write import write_run_page

        path = Path(path).expanduser()
        if path.exists() and not overwrite:
            raise UserError(f"{path} is there already; name another file, or set overwrite=True")
        with tempfile.TemporaryDirectory() as place:
            page = write_run_page(self.save(Path(place) / "runs"), self[0].origin.seed if self[0].origin else 0)
            content = page.read_bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def __repr__(self) -> str:
        left_out = f", {len(self.skipped)} images skipped" if self.skipped else ""
        lines = [f"  {each.image_name}: {_describe_target(each.target)} ({each.explainer})" for each in self[:10]]
        lines += [f"  ... and {len(self) - 10} more"] if len(self) > 10 else []
        return "\n".join([f"{count_noun(len(self), 'explanation')}{left_out}", *lines])

    def _repr_png_(self) -> bytes | None:
        from seewhy.plots.canvas import encode_figure

        return encode_figure(self._draw()) if self else None


def _describe_target(target: Target) -> str:
    has_one = target.probability == target.probability
    return f"{target.name} {format_probability(target.probability)}" if has_one else target.name


def _name_columns(explanations: Sequence[ExplainedImage]) -> list[str]:
    """What tells the columns apart: network, method, parameters and target, as far as they differ."""
    parts = [
        (
            each.origin.model["name"] if each.origin else each.classifier,
            each.explainer,
            each.parameters,
            f"target: {each.target.policy}",
        )
        for each in explanations
    ]
    varied = [position for position in range(4) if len({part[position] for part in parts}) > 1] or [1]
    if 2 in varied and len({part[:2] + part[3:] for part in parts}) == len(parts):
        varied.remove(2)  # the names tell them apart
    return [", ".join(filter(None, (part[position] for position in varied))) or part[1] for part in parts]


def _write_run(
    folder: RunFolder, origin: Origin, explanations: Sequence[ExplainedImage], skipped: Sequence[Skipped]
) -> None:
    """Write the files of one run: maps, pictures, journal, tables, scores, sheet and record."""
    from seewhy.plots.canvas import encode_figure
    from seewhy.plots.heatmaps import encode_preview
    from seewhy.plots.targets import draw_targets
    from seewhy.runs.journal import Journal
    from seewhy.runs.logged_results import encode_sheet_image, locate_sheet_image, write_sheet
    from seewhy.runs.record import read_installed_versions
    from seewhy.runs.scores import write_curves, write_scores
    from seewhy.runs.tables import Totals, write_tables

    form, stored = AttributionFormat("float32", False), {}
    for each in explanations:
        name = form.name_file(each.name)
        folder.write_bytes(name, form.encode(each.attribution))
        stored[name] = folder.compute_digest(name)
    by_image: dict[str, list[ExplainedImage]] = {}
    for each in explanations:
        by_image.setdefault(each.image_name, []).append(each)
    for name, targets in by_image.items():
        folder.write_bytes(f"images/{name}.webp", encode_preview(targets[0].picture))
        folder.write_bytes(f"figures/{name}.png", encode_figure(draw_targets(targets)))
        folder.write_bytes(locate_sheet_image(name), encode_sheet_image(targets[0]))
    share = len(by_image) / max(origin.images, 1)
    costs = {
        stage: Cost(round(cost.forward * share), round(cost.backward * share), cost.seconds * share)
        for stage, cost in origin.costs.items()
    }
    results = BatchResults(
        images=[
            ImageResult(name, targets[0].path, targets[0].prediction, None, tuple(targets))
            for name, targets in by_image.items()
        ],
        skipped=list(skipped),
        curves=join_points(row for each in explanations for row in each.curves),
        costs=costs,
        stored=stored,
    )
    journal = Journal(folder.path)
    journal.begin(
        {
            "config": {},
            "overrides": [],
            "weights": origin.model["weights_sha256"],
            "device": origin.device,
            "images": len(explanations),
            "batches": 1,
            "data": {},
            "shard": "1/1",
        }
    )
    journal.write(0, results)
    write_tables(folder, journal)
    if origin.facts:
        write_scores(folder, origin.facts, journal, origin.seed)
        write_curves(folder, journal, f"{origin.explainer['name']} on {origin.model['name']}", origin.seed)
    write_sheet(folder, journal, 100, {})
    totals = Totals.read(journal)
    folder.write_json(
        "run.json",
        {
            "version": 1,
            "status": "completed",
            "task": "explain",
            "command": "seewhy.explain(...) in Python",
            "overrides": [],
            "seed": origin.seed,
            "started": datetime.now().isoformat(timespec="seconds"),
            "seconds": round(sum(cost.seconds for cost in costs.values()), 3),
            "versions": read_installed_versions(),
            "device": origin.device,
            "model": origin.model,
            "explainer": origin.explainer,
            **totals.describe_images(),
            **totals.describe_attributions(),
        },
    )
