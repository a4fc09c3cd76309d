"""The pages of the methods and metrics, and the two galleries, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from documentation.choices import Choice, Setting, list_choices
from documentation.measure import COMPARED, PHOTOGRAPHS

WRITTEN = "<!-- Written by scripts/document.py from code, docstrings and runs. -->"
FAMILIES = {
    "Gradients": "gradient noise_tunnel integrated_gradients gradient_shap",
    "Paths and regions": "path_integrals guided_ig xrai",
    "Modified backward passes": "deep_lift lrp libra_grad guided_backprop full_grad",
    "Class activation maps": "cam",
    "Perturbation": "occlusion rise surrogates hsic",
    "Inner units": "expert",
    "Attention": "attention le_grad",
    "Captum's algorithms": "captum_adapter captum_methods",
    "Controls: none of them saw the network": "controls",
}
"""Headings of the gallery with the modules of `seewhy.explainers`; what is in none stands under the last heading."""
OTHERS = "Others"
CONSTRUCTS = {
    "faithfulness": "Faithfulness: does the map say what the network used?",
    "randomisation": "Randomisation: does the map follow the network and the class?",
    "robustness": "Robustness: does the map survive a change that nobody sees?",
    "localisation": "Localisation: is the map on the object?",
    "complexity": "Complexity: how concentrated is the map?",
}


def escape(text: str) -> str:
    """Keep Markdown from reading signs of formulas, outside of code.

    Args:
        text: Prose with code in single backticks.

    Returns:
        The same with backslashes.
    """
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_|<>\[\]])", r"\\\1", part) for part in parts)


def write_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table.

    Args:
        head: The columns.
        rows: Their cells, escaped.

    Returns:
        The lines; empty without rows.
    """
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) if lines else ""


def write_value(value: Any) -> str:
    """Write a value as on the command line, as code; `${seed}` and the like as they are."""
    if isinstance(value, list):
        return "`[" + ",".join(write_value(each).strip("`") for each in value) + "]`"
    if isinstance(value, dict):
        return "a mapping" if value else "`{}`"
    words = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{words}`".replace("|", "\\|")


def write_settings(settings: Iterable[Setting], prefix: str) -> str:
    """Write the table of settings.

    Args:
        settings: Of a choice.
        prefix: What stands before each key on the command line, with its dot.

    Returns:
        A table, or a sentence where there are none.
    """
    rows = [
        (f"`{prefix}{each.key}`", write_value(each.value), escape(each.takes), escape(each.comment))
        for each in settings
    ]
    return write_table(("key", "default", "takes", "meaning"), rows) or "It has no settings of its own."


def find_family(choice: Choice) -> str:
    """Find the heading that a method stands under."""
    module = choice.target.__module__.rpartition(".")[2]
    if module == "integrated_gradients" and choice.name == "blur_ig":
        return "Paths and regions"
    return next((name for name, modules in FAMILIES.items() if module in modules.split()), OTHERS)


def describe_cost(facts: dict[str, Any]) -> str:
    """Describe the passes of an image, or of a map, in words: with the settings of the yaml where that is known."""
    if "passes" not in facts:
        return "not measured"
    fewer = "".join(f", with {key}={value}" for key, value in facts.get("fewer", {}).items())
    forward, backward = facts["passes"]
    if fewer and facts.get("expected"):
        (forward, backward), fewer = facts["expected"], ""
    if not forward and not backward:
        return "none"
    return f"{forward:.4g} forward" + (f" + {backward:.4g} backward" if backward else "") + fewer


def describe_sign(choice: Choice) -> str:
    """Describe what the values of a map mean."""
    if choice.instance.signed:
        return "signed: positive values support the target, negative ones oppose it"
    return (
        "evidence for the target alone" if choice.instance.rectified else "magnitudes: how much, not in which direction"
    )


def describe_needs(choice: Choice) -> str:
    """Describe what a method reads of a network beside its outputs."""
    inside = {"layers": "the layers of the network", "operations": "every operation of the network"}
    needs = [inside[choice.instance.looks_inside]] if choice.instance.looks_inside else []
    needs += ["gradients at the image itself"] if choice.instance.is_local else []
    return " and ".join(needs) or "nothing inside of it: outputs, and gradients where the cost has backward passes"


def write_method(choice: Choice, facts: dict[str, Any]) -> str:
    """Write the page of a method.

    Args:
        choice: Its yaml.
        facts: What was measured; empty where nothing was.

    Returns:
        Markdown.
    """
    rows = [
        ("values", describe_sign(choice)),
        ("reads", describe_needs(choice)),
        ("passes for an image", f"{describe_cost(facts)}{_name_network(facts)}"),
        ("adds up to the score", _describe_sum(choice, facts)),
        ("class", f"`{choice.target.__module__}.{choice.target.__name__}`"),
    ]
    picture = _write_pictures(choice, facts)
    refused = f"Refused on the networks of this gallery: {escape(facts['refused'])}." if facts.get("refused") else ""
    sections = [
        WRITTEN,
        f"# `{choice.name}`",
        f"{escape(choice.summary)}.",
        picture or refused,
        f"    python src/explain.py explainer={choice.name}",
        "## What it computes",
        f"> {escape(choice.formula)}",
        escape(choice.body),
        f"**Paper.** {escape(choice.paper)}" if choice.paper else "",
        "## Facts",
        write_table(("", ""), rows),
        _write_verdict(choice, facts.get("verdict", {})),
        "On other networks: [methods and networks](../../logbook/methods.md), [kinds of networks](../networks.md). "
        "Measured scores "
        "beside random maps: `python src/explain.py -m explainer=random,"
        f"{choice.name} 'metric=[deletion,insertion]'`, see [metrics](../metrics/index.md).",
        "## Settings",
        write_settings(choice.settings, "explainer."),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _list_lines(choice: Choice, verdict: dict[str, Any]) -> list[dict[str, str]]:
    """The six lines on a method, that of planted data from the certificate of the checkout; none where none is known."""
    from seewhy.analyses.ground_truth.certificate import read_certificate
    from seewhy.report.verdict import describe_cell, judge_certificate

    if "lines" not in verdict:
        return []
    planted = judge_certificate(verdict["network"], choice.name, read_certificate())
    row = {"line": planted.line, "light": planted.light, "verdict": describe_cell(planted), "meaning": planted.sentence}
    return [*verdict["lines"][:-1], row, verdict["lines"][-1]]


def _write_verdict(choice: Choice, verdict: dict[str, Any]) -> str:
    from seewhy.report.verdict import SHAPES

    lines = _list_lines(choice, verdict)
    if not lines:
        reason = verdict.get("refused")
        return f"## Verdict\n\nNot judged: {escape(reason)}." if reason else ""
    rows = [
        (
            escape(line["line"]),
            f"{SHAPES[line['light']]} {escape(line['verdict'])}",
            escape(re.sub(r"(python src/.*)", r"`\1`", line["meaning"])),
        )
        for line in lines
    ]
    fewer = "".join(f", `explainer.{key}={value}`" for key, value in verdict["fewer"].items())
    return (
        f"## Verdict\n\nOn `{verdict['network']}` and {verdict['images']} sample pictures of CIFAR-10{fewer}, beside "
        "the controls "
        "`random`, `edges` and `centre`; what a line means: [which map may be believed](../verdict.md). On another "
        "network it can be another one: measure it with "
        f"`metric=[verdict]`.\n\n{write_table(('line', 'verdict', 'meaning'), rows)}"
    )


def _write_lights(choice: Choice, verdict: dict[str, Any]) -> str:
    """The short form of a verdict: a shape per line, in their order."""
    from seewhy.report.verdict import SHAPES

    lines = _list_lines(choice, verdict)
    shapes = " ".join(SHAPES[line["light"]] for line in lines)
    return f"<br>{shapes} on {verdict['images']} images" if lines else ""


def _name_network(facts: dict[str, Any]) -> str:
    return f" (`{facts['network']}`)" if facts.get("passes") else ""


def _describe_sum(choice: Choice, facts: dict[str, Any]) -> str:
    from seewhy.explainers.completeness import CompleteExplainer

    if "gap" in facts:
        tolerance = choice.values.get("tolerance")
        over = tolerance is not None and facts["gap"] > tolerance
        within = f", {'over' if over else 'within'} its tolerance of {tolerance:.2g}" if tolerance else ""
        return f"measured for every map; here the largest gap is {facts['gap']:.2g} of the change of the score{within}"
    return "measured for every map" if issubclass(choice.target, CompleteExplainer) else "no promise"


def _write_pictures(choice: Choice, facts: dict[str, Any]) -> str:
    if "targets" not in facts:
        return ""
    targets = ", ".join(facts["targets"])
    fewer = "".join(f" Drawn with `explainer.{key}={value}`, to be quick." for key, value in facts["fewer"].items())
    return (
        f"![Three photographs](pictures/photographs.webp)\n\n![{choice.name} on the same "
        f"photographs](pictures/{choice.name}.webp)"
        f"\n\nThe prediction of `{facts['network']}` is explained: {targets}. Opacity shows magnitude, per map; "
        f"fine maps are "
        f"averaged over blocks.{fewer}"
    )


def write_methods_index(measured: dict[str, Any]) -> str:
    """Write the gallery of methods.

    Args:
        measured: Facts of each method.

    Returns:
        Markdown.
    """
    from seewhy.report.verdict import SHAPES
    from seewhy.statistics.verdict import LINES, WORDS

    sections = [
        WRITTEN,
        "# Methods",
        "Every method of `configs/explainer`, on the same three photographs with the settings of its yaml (fewer "
        "steps or samples where a page says so). All "
        "explain the "
        "prediction of EfficientNet-Lite0 or, where they need attention, of a small transformer. A page has the "
        "formula, the cost, what "
        "the method reads of a network, its settings and its paper. Which one is faithful *on your network* is a "
        "measurement: [metrics](../metrics/index.md), [compare methods](../howto/compare.md).",
        "Six signs are the [verdict](../verdict.md) on a method, on `cifar_cnn` or a small transformer and the sample "
        f"pictures of CIFAR-10: {', '.join(LINES)}; {', '.join(f'{SHAPES[light]} {WORDS[light]}' for light in WORDS)}; "
        "of the cost cheap, moderate, dear.",
        f"![{', '.join(PHOTOGRAPHS)}](pictures/photographs.webp)",
    ]
    choices = list_choices("explainer")
    for family in (*FAMILIES, OTHERS):
        members = [choice for choice in choices if find_family(choice) == family]
        rows = []
        for choice in members:
            facts = measured.get(choice.name, {})
            lacks = "refused on the networks of this gallery" if "refused" in facts else "not drawn yet"
            picture = f"![](pictures/{choice.name}.webp)" if "targets" in facts else lacks
            words = f"[`{choice.name}`]({choice.name}.md)<br>{escape(choice.summary)}<br>*{describe_cost(facts)}*"
            words += _write_lights(choice, facts.get("verdict", {}))
            rows.append((words, picture))
        if rows:
            sections += [f"## {family}", write_table(("method, and its passes for an image", "maps"), rows)]
    sections.append(_write_toctree(choice.name for choice in choices))
    return "\n\n".join(sections) + "\n"


def _write_toctree(names: Iterable[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", "", *names, "```"])


def describe_direction(choice: Choice) -> str:
    """Describe which end of a score is better."""
    better = choice.target.higher_is_better
    return "neither end is better" if better is None else "higher is better" if better else "lower is better"


def write_metric(choice: Choice, facts: dict[str, Any]) -> str:
    """Write the page of a metric.

    Args:
        choice: Its yaml.
        facts: What was measured; empty where it needs masks.

    Returns:
        Markdown.
    """
    target = choice.instance
    variant, ranked = target.variant_of, target.in_mean_rank
    is_form = variant and variant != choice.name
    rank = "no: shown beside it" if not ranked else f"as a form of [`{variant}`]({variant}.md)" if is_form else "yes"
    rows = [
        ("construct", target.construct),
        ("direction", describe_direction(choice)),
        ("counts in the mean rank", rank),
        ("columns beside the score", ", ".join(f"`{choice.name}_{column}`" for column in target.columns) or "none"),
        ("needs", "object masks (`data.masks=`)" if target.needs_masks else "nothing beside map, image and network"),
        ("passes for a map", _describe_passes(facts)),
        ("exact variant", escape(target.variant)),
        ("class", f"`{choice.target.__module__}.{choice.target.__name__}`"),
    ]
    sections = [
        WRITTEN,
        f"# `{choice.name}`",
        f"{escape(choice.summary)}.",
        f"    python src/explain.py 'metric=[{choice.name}]'" + (" data.masks=masks ..." if target.needs_masks else ""),
        "## What it measures",
        f"> {escape(choice.formula)}",
        escape(choice.body),
        f"**Paper.** {escape(choice.paper)}" if choice.paper else "",
        "## Facts",
        write_table(("", ""), rows),
        _write_scores(choice, facts),
        "## Settings",
        write_settings(choice.settings, f"metric.{choice.name}."),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _describe_passes(facts: dict[str, Any]) -> str:
    if "passes" not in facts:
        return "none"
    return describe_cost(facts).replace("none", "none beyond the prediction")


def _write_scores(choice: Choice, facts: dict[str, Any]) -> str:
    if "means" not in facts:
        return ""
    values = [("–" if facts["means"].get(name) is None else f"{facts['means'][name]:.3g}") for name in COMPARED]
    table = write_table([f"`{name}`" for name in COMPARED], [values])
    return (
        f"What real maps and controls score: means over the {facts['images']} sample pictures of CIFAR-10, "
        f"`{facts['network']}`, "
        f"{describe_direction(choice)}.\n\n{table}\n\nThese few images show the scale of the score, not an order of "
        f"methods."
    )


def write_metrics_index(measured: dict[str, Any]) -> str:
    """Write the gallery of metrics.

    Args:
        measured: Facts of each metric.

    Returns:
        Markdown.
    """
    sections = [
        WRITTEN,
        "# Metrics",
        "Every metric of `configs/metric`, by what it measures. The numbers are means over the sample pictures of "
        "CIFAR-10 with "
        "`cifar_cnn`: they show what the controls `edges` and `random` score, which is what a score has to be read "
        "against. Values of different constructs are never averaged or ranked together.",
    ]
    choices = list_choices("metric")
    for construct, heading in CONSTRUCTS.items():
        rows = []
        for choice in (each for each in choices if each.target.construct == construct):
            means = measured.get(choice.name, {}).get("means", {})
            values = ["–" if means.get(name) is None else f"{means[name]:.3g}" for name in COMPARED]
            rows.append(
                (
                    f"[`{choice.name}`]({choice.name}.md)",
                    escape(choice.summary),
                    describe_direction(choice).split()[0],
                    *values,
                )
            )
        sections += [f"## {heading}", write_table(("metric", "", "better", *(f"`{name}`" for name in COMPARED)), rows)]
    sections.append(_write_toctree(choice.name for choice in choices))
    return "\n\n".join(sections) + "\n"
