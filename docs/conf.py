"""The documentation as a site: `make docs` (Sphinx, MyST, furo). Its source is the checkout: links are those of files."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "scripts")]

from myst_parser.parsers.sphinx_ import MystParser  # noqa: E402

from seewhy import __version__  # noqa: E402

project = "seewhy"
author = "the seewhy authors"
copyright = "the seewhy authors, Apache 2.0"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

root_doc = "docs/index"
source_suffix = {".md": "markdown", ".ipynb": "notebook"}
include_patterns = [
    "docs/**",
    "logbook/*.md",
    "logbook/images/README.md",
    "src/seewhy/weights/*.md",
    "scripts/benchmarking/optimisations.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", "build", "dist", "data", "logbook/outputs", "tests"]
suppress_warnings = [
    "toc.not_included",  # pages of the logbook and cards of weights are reached by links
    "myst.header",  # the section that a page of the logbook takes in begins below its title
]
default_role = "code"  # docstrings write code in single backticks

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"seewhy {version}"
html_additional_pages = {"index": "entry.html"}
html_copy_source = False
html_show_sphinx = False
templates_path = ["templates"]
pygments_style = "friendly"
pygments_dark_style = "monokai"


class NotebookParser(MystParser):
    """Reads an executed notebook as Markdown: its text, its code, and what each cell printed and showed."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: Any) -> None:
        """Turn the cells into Markdown, and parse that."""
        super().parse("\n\n".join(_write_cell(cell) for cell in json.loads(inputstring)["cells"]), document)


def _write_cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *map(_write_output, cell["outputs"])])


def _write_output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f"![What the cell shows](data:image/png;base64,{''.join(data['image/png']).strip()})".replace("\n", "")
    if "text/html" in data:
        return f"```{{raw}} html\n{''.join(data['text/html'])}\n```"
    return f"```text\n{''.join(output.get('text') or data.get('text/plain', ''))}\n```"


def setup(app: Any) -> None:
    """Let Sphinx read notebooks."""
    app.add_source_parser(NotebookParser)
