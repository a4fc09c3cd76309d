"""Write the pages of docs/ that come from code: methods, metrics, configuration, the schema of a run folder and llms.txt.

usage: python scripts/document.py [--pages] [--again NAME ...]

Runs the methods and metrics that are new, or whose yaml changed (minutes; their pictures and numbers are kept in
docs/methods/pictures and docs/measured.json), and writes all pages. `--pages` runs nothing. `--again` runs these whatever is
known of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "scripts")]


def list_pages() -> dict[str, str]:
    """List every page that is written from code.

    Returns:
        {path relative to the checkout: its text}, without llms.txt, which lists the pages themselves.
    """
    from documentation import pages, settings
    from documentation.choices import list_choices
    from documentation.measure import read_measured

    measured = read_measured()
    methods, metrics = measured["methods"], measured["metrics"]
    texts = {
        f"methods/{each.name}": pages.write_method(each, methods.get(each.name, {}))
        for each in list_choices("explainer")
    }
    texts |= {
        f"metrics/{each.name}": pages.write_metric(each, metrics.get(each.name, {})) for each in list_choices("metric")
    }
    texts |= {f"settings/{group}": settings.write_group(group) for group in settings.GROUPS}
    texts["methods/index"] = pages.write_methods_index(methods)
    texts["metrics/index"] = pages.write_metrics_index(metrics)
    texts["settings/index"] = settings.write_settings_index()
    named = {f"docs/{name}.md": text for name, text in texts.items()}
    return named | {"docs/run.schema.json": settings.write_schema()}


def write_pages() -> None:
    """Write the pages, and remove those of methods and metrics that are no more."""
    from documentation import settings

    written = list_pages()
    for folder in ("methods", "metrics", "settings"):
        (ROOT / "docs" / folder).mkdir(exist_ok=True)
        for path in (ROOT / "docs" / folder).glob("*.md"):
            if str(path.relative_to(ROOT)) not in written:
                path.unlink()
    for name, text in written.items():
        (ROOT / name).write_text(text)
    (ROOT / "llms.txt").write_text(settings.write_llms())


def main() -> None:
    """Measure what is missing and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", action="store_true", help="run no method and no metric")
    parser.add_argument("--again", nargs="+", default=[], metavar="NAME", help="run these again")
    options = parser.parse_args()
    if not options.pages:
        from documentation.measure import measure_missing

        measure_missing(options.again)
    write_pages()


if __name__ == "__main__":
    main()
