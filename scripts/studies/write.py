"""From the runs of a study to its page, and from the pages to the index."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from seewhy.core.errors import UserError
from studies.front import Front, read_front
from studies.index import fronts, in_readme, index
from studies.part import Study
from studies.render import render
from studies.run_facts import part_rows, run_facts
from studies.run_part import Ran

Values: TypeAlias = Callable[[Mapping[str, Path], Path], dict[str, Any]]
"""(folders of the parts, folder for figures) -> values by name; writes the figures."""


def write_page(study: Study, ran: Ran, logbook: Path, force: bool = False) -> str:
    """Write logbook/<study>.md and its figures; what was done, in words.

    A page that rests on parts which could not be run now is left as it is, unless `force`.
    """
    page = logbook / f"{study.name}.md"
    before = read_front(page)
    lost = sorted(set(before.ran) - set(ran.folders)) if before else []
    if lost and not force:
        return f"{page.name} is left as it is: {', '.join(lost)} could not be run now (force=true replaces it)"
    if not ran.folders:
        return f"{page.name} is not written: no part could be run"
    text = page_text(study, ran, logbook)
    page.write_text(text)
    return f"{page.name}: {len(ran.folders)} of {len(study.parts)} parts"


def page_text(study: Study, ran: Ran, logbook: Path) -> str:
    """The page of a study; its figures are made anew."""
    figures = logbook / "figures" / study.name
    shutil.rmtree(figures, ignore_errors=True)
    figures.mkdir(parents=True)
    values = study_values(study.name)(ran.folders, figures)
    facts = run_facts(ran)
    common = {
        "study": study,
        "original": study.original,
        "ran": list(ran.folders),
        "missing": ran.missing,
        "parts": part_rows(study.parts, ran),
        "facts": facts,
        "figures": f"figures/{study.name}",
    }
    if clash := sorted(set(common) & set(values)):
        raise UserError(f"{study.name} names a value {clash[0]}, which every page has")
    body = render(f"{study.name}.md.j2", {**common, **values})
    finding = render(f"{study.name}.finding.j2", {**common, **values})
    front = Front(
        study=study.name,
        title=study.title,
        finding=" ".join(finding.split()),
        thumbnail=f"figures/{study.name}/thumbnail.webp",
        ran=list(ran.folders),
        not_run=[one.part.name for one in ran.missing],
        seconds=round(facts["seconds"]),
        date=facts["date"],
    )
    return f"{front.line()}\n{body.strip()}\n"


def study_values(name: str) -> Values:
    """The function `page_values` of the study's own module."""
    found: Values = import_module(f"studies.{name.split('_')[0]}").page_values
    return found


def write_index(logbook: Path, readme: Path) -> None:
    """logbook/README.md, and the project's README between its marks."""
    (logbook / "README.md").write_text(index(logbook))
    readme.write_text(in_readme(readme.read_text(), fronts(logbook)))
