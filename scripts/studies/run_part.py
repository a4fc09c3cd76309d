"""Running the commands of a study, each in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from seewhy.core.errors import UserError
from studies.part import FACTS, NotRun, Part, Study

NO_WEIGHTS = "no weights for model="
"""How a command says that weights are neither at hand nor to be fetched."""


@dataclass(frozen=True)
class Inputs:
    """What the user gives: `given` by name, None where there is none; `words` says what each is."""

    given: Mapping[str, str | None]
    words: Mapping[str, str]

    def value(self, name: str) -> str | None:
        """The value of a place; weights that are not given are `auto`: the command looks for them itself."""
        given = self.given[name]
        if name.endswith(FACTS):
            return given or ""
        return "auto" if given is None and self.is_weights(name) else given

    def is_weights(self, name: str) -> bool:
        """Whether the place takes a file with weights; otherwise a folder."""
        return self.words[name].startswith("weights")

    def needs(self, name: str) -> str:
        """What a part needs, and how to give it."""
        return f"{self.words[name]} (give it by `{name}={'FILE' if self.is_weights(name) else 'FOLDER'}`)"


@dataclass
class Ran:
    """The folders of the parts of a study that were run, by the name of the part, and those that were not."""

    folders: dict[str, Path] = field(default_factory=dict)
    missing: list[NotRun] = field(default_factory=list)


def run_study(
    study: Study, inputs: Inputs, root: Path, outputs: Path, reuse: bool = False, limit: int | None = None
) -> Ran:
    """Run every part that has what it needs; `reuse` keeps completed folders of an earlier call.

    With a `limit` each command takes that many images, class visualizations as many steps, trainings an epoch.

    Raises UserError with the end of the log where a command fails for another reason than missing weights.
    """
    ran = Ran()
    for part in study.parts:
        needs = _needs(part, inputs, ran)
        folder = outputs / study.name / part.name
        if not needs and not (reuse and completed(folder)):
            needs = _run(part, inputs, ran, folder, root, limit)
        if needs:
            print(f"{study.name} {part.name}: not run, needs {needs}")
            ran.missing.append(NotRun(part, needs))
        else:
            ran.folders[part.name] = folder
    return ran


def _needs(part: Part, inputs: Inputs, ran: Ran) -> str:
    """What is missing before the part can be tried; empty where nothing is."""
    for place in part.places:
        if place in inputs.words and inputs.value(place) is None:
            return inputs.needs(place)
        for earlier in ran.missing:
            if earlier.part.name == place:
                return earlier.needs
    return ""


def _run(part: Part, inputs: Inputs, ran: Ran, folder: Path, root: Path, limit: int | None) -> str:
    """Run a part; what it lacks, or nothing."""
    given = {name: str(inputs.value(name)) for name in part.places if name in inputs.words}
    folders = {name: str(place.relative_to(root)) for name, place in ran.folders.items()}
    words = part.filled({**folders, **given}) + limit_words(part, limit)
    where = f"hydra.{'sweep' if part.sweep else 'run'}.dir={folder.relative_to(root)}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    output = folder.with_suffix(".log")  # beside the run folder, which belongs to the run alone
    print(f"{part.shown}", flush=True)
    with output.open("w") as log:
        done = subprocess.run([sys.executable, *words[1:], where], cwd=root, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode == 0:
        return ""
    said = output.read_text(errors="replace")
    weights = [name for name in part.places if name in inputs.words and inputs.value(name) == "auto"]
    if weights and NO_WEIGHTS in said:
        return inputs.needs(weights[0])
    raise UserError(f"{part.shown}\nfailed; the end of {output}:\n{said[-2000:]}")


def limit_words(part: Part, limit: int | None) -> list[str]:
    """What makes a command take `limit` images, or steps or an epoch where it takes none; nothing without a limit."""
    if limit is None or "report.py" in part.command:
        return []
    if "class_visualization" in part.command:
        return [f"synthesis.steps={limit}"]
    return [f"data.limit={limit}", *(["trainer.max_epochs=1"] if "train.py" in part.command else [])]


def completed(folder: Path) -> bool:
    """Whether the folder holds finished runs only."""
    records = [json.loads(path.read_text()) for path in folder.rglob("run.json")]
    return bool(records) and all(record["status"] in ("completed", "refused") for record in records)
