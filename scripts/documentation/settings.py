"""The reference of the configuration, the schema of a run folder, and llms.txt."""

from __future__ import annotations

import json
import re
from typing import Any

from documentation.choices import CONFIGS, DOCS, ROOT, Choice, Setting, list_choices
from documentation.pages import WRITTEN, escape, write_settings, write_table, write_value

GROUPS = {
    "tasks": "The settings of a command itself: what stands in `configs/<task>.yaml`.",
    "model": "Which network, with which weights. `model=own`, `timm`, `torchvision` and `transformers` take any.",
    "data": "Which images.",
    "corruption": "What `robustness` does to the images, from the weakest level to the strongest.",
    "callbacks": "What happens at which point of the loop, and what a run writes.",
    "logger": "Where numbers, curves and pictures are logged; several stand in a list.",
    "trainer": "On what the network runs.",
    "optimization": "How `train` learns.",
    "synthesis": "Images that the network makes.",
    "audit": "What `audit` looks for, and how thoroughly.",
    "ground_truth": "Data whose truth is known by construction; several kinds stand in a list.",
}
"""The groups of the reference; methods and metrics have pages of their own."""


def write_group(group: str) -> str:
    """Write the page of a config group.

    Args:
        group: One of `GROUPS`.

    Returns:
        Markdown.
    """
    sections = [WRITTEN, f"# {'The commands' if group == 'tasks' else f'`{group}`'}", GROUPS[group]]
    if group == "tasks":
        choices = [Choice(path) for path in sorted(CONFIGS.glob("*.yaml")) if path.stem != "logbook"]
    else:
        choices = list_choices(group)
    shown: dict[str, Setting] = {}
    for choice in choices:
        head = f"## `{choice.name}`" if group == "tasks" else f"## `{group}={choice.name}`"
        sections += [head, _write_sentence(choice.summary), _write_choice(choice, group, shown)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _write_sentence(summary: str) -> str:
    return "" if not summary else escape(summary) + ("" if summary.endswith((".", "?")) else ".")


def _write_choice(choice: Choice, group: str, shown: dict[str, Setting]) -> str:
    """The settings of a choice, without those that are the same as above; of one that joins others their names."""
    joined = choice.values.get("defaults", [])
    names = [f"`{each}`" for each in joined if isinstance(each, str) and each != "_self_"]
    if group == "corruption":
        return f"Joins {', '.join(names)}." if names else _write_levels(choice)
    prefix = "" if group == "tasks" else f"{group}."
    parts = [f"Joins {', '.join(names)}."] if names else []
    objects = {key: value for key, value in choice.values.items() if isinstance(value, dict) and "_target_" in value}
    plain = [each for each in choice.settings if each.key not in objects]
    fresh = [each for each in plain if shown.get(each.key) != each]
    shown |= {each.key: each for each in fresh}
    if fresh:
        parts.append(write_settings(fresh, prefix))
    if len(fresh) < len(plain):
        parts.append(f"As above: {', '.join(f'`{each.key}`' for each in plain if each not in fresh)}.")
    for key in objects:
        inner = Choice(choice.path, wrapped=True) if key == choice.name else None
        if inner and inner.settings:
            parts.append(write_settings(inner.settings, f"{prefix}{key}."))
    return "\n\n".join(parts) or "It has no settings."


def _write_levels(choice: Choice) -> str:
    """The strengths of a corruption, level by level."""
    inner = next((value for value in choice.values.values() if isinstance(value, dict)), {})
    facts = [f"Differs from the published one: {escape(str(inner['differs']))}." if inner.get("differs") else ""]
    facts.append("Pixels move: maps are moved back before they are compared." if inner.get("moves_pixels") else "")
    rows = []
    for key in ("levels", "small"):
        for number, level in enumerate(inner.get(key) or (), 1):
            steps = level if isinstance(level, list) else [level]
            rows.append(
                (f"{number}" if key == "levels" else f"{number}, up to 64 pixels", "; ".join(map(_write_step, steps)))
            )
    return "\n\n".join(each for each in (*facts, write_table(("level", "transform"), rows)) if each)


def _write_step(step: Any) -> str:
    if not isinstance(step, dict):
        return write_value(step)
    options = ", ".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in step.items()
        if key != "_target_"
    )
    return f"`{str(step.get('_target_', '')).rpartition('.')[2]}({options})`"


def write_settings_index() -> str:
    """Write the entry page of the reference."""
    rows = [
        (f"[`{group}`]({group}.md)" if group != "tasks" else "[the commands](tasks.md)", words)
        for group, words in GROUPS.items()
    ]
    rows += [
        ("[`explainer`](../methods/index.md)", "How to explain."),
        ("[`metric`](../metrics/index.md)", "What to measure."),
    ]
    sections = [
        WRITTEN,
        "# Configuration",
        "Every command is composed by [Hydra](https://hydra.cc) from the yaml files of `configs/`: one folder for "
        "each group, one "
        "file for each choice. A choice is `group=choice`, a key `group.key=value`, a key that the yaml does not have "
        "`+group.key=value`, a sweep `-m` with commas. `python src/explain.py --help` shows the same in the terminal, "
        "`--cfg job` the composed config. Defaults are those of the yaml; `takes` is what the class of the choice "
        "declares, and what a "
        "refused value is answered with.",
        write_table(("group", ""), rows),
        "\n".join(["```{toctree}", ":hidden:", "", *GROUPS, "```"]),
    ]
    return "\n\n".join(sections) + "\n"


def write_schema() -> str:
    """Write the JSON schema of what a run stores as JSON: its record, its plan and the entries of its journal."""
    from seewhy.runs.schemas import SCHEMAS

    places = {"record": "run.json", "plan": "journal/plan.json", "entry": "journal/<number>.json"}
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "JSON files of a seewhy run folder",
        "description": "Each member of `properties` is a file of the folder. Written by scripts/document.py.",
        "type": "object",
        "properties": {places[name]: {"$ref": f"#/$defs/{name}"} for name in SCHEMAS},
        "$defs": {},
    }
    for name, model in SCHEMAS.items():
        schema = model.model_json_schema(ref_template="#/$defs/{model}")
        document["$defs"] |= schema.pop("$defs", {})
        document["$defs"][name] = schema
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write_llms() -> str:
    """Write llms.txt: what the project is, and where each page of its documentation lies, for programs that read."""
    lines = [
        "# seewhy",
        "",
        "> Explains the decisions of image classifiers (PyTorch) with attribution methods, and measures how far the "
        "explanations can be "
        "trusted. One command line (Hydra), a Python function `seewhy.explain`, one run folder with tidy tables.",
        "",
        "Images are in [0, 1] outside of the network; maps are float32 [n, height, width], larger supports the "
        "target more. A bad "
        "setting is one sentence and exit code 2. `run.json`, `metrics.csv`, `summary.csv` and `predictions.csv` "
        "hold what a run found; "
        "docs/run.schema.json describes the JSON files.",
    ]
    for title, folder in (
        ("Guides", ""),
        ("How to", "howto"),
        ("Methods", "methods"),
        ("Metrics", "metrics"),
        ("Configuration", "settings"),
    ):
        lines += ["", f"## {title}", ""]
        for path in sorted((DOCS / folder).glob("*.md")):
            text = path.read_text()
            heading = re.search(r"^# (.+)$", text, re.MULTILINE)
            name = heading.group(1).strip("`") if heading else path.stem
            lines.append(f"- [{name}]({path.relative_to(ROOT)})" + _summarise(text, folder))
    return "\n".join(lines) + "\n"


def _summarise(text: str, folder: str) -> str:
    """The first sentence below the heading of a method or metric."""
    if folder not in ("methods", "metrics"):
        return ""
    paragraph = text.split("\n\n")[2].strip().replace("\n", " ").replace("\\", "")
    return f": {paragraph}" if len(paragraph) < 160 else ""
