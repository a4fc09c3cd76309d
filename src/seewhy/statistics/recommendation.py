"""The rule that recommends one method by the lines of its verdict, or none, and how often the rule is right."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from scipy import stats

from seewhy.core.errors import UserError
from seewhy.statistics.intervals import LEVEL
from seewhy.statistics.verdict import COST, LINES, MOST_REMOVERS, NETWORK, PANEL, PLANTED, REMOVERS, STABLE, TRUTH

RULE = (
    "The rule: a method qualifies if its map follows the network and beats random, edges and centre under at least "
    f"{MOST_REMOVERS} of {PANEL} removers, and none of its lines but cost is red. Of those that qualify comes first what is "
    "right on planted data, then what has the larger mean relevance gain over the removers (to two decimals), then what is "
    "stable, then what needs fewer passes, then the name."
)

DECIMALS = 2
"""Of relevance gains: a smaller difference decides nothing."""


class Recommendation(NamedTuple):
    """What the rule recommends."""

    name: str | None
    """The method; None where none may be believed."""
    reason: str
    """One sentence."""


def recommend(lines: pd.DataFrame) -> Recommendation:
    """Recommend one method for a network, or none, by one rule.

    A method qualifies if its map follows the network and beats every control under most removers (both green), and no
    line but its cost is red. Of those that qualify comes first: right on planted data (green before yellow before not
    tried), then the largest mean relevance gain over the removers, to `DECIMALS` decimals, then stable (green before
    yellow), then the fewest passes, then the name.

    Args:
        lines: `LINE_COLUMNS` of the methods of one network; controls are none of them.

    Returns:
        The method and the sentence that says why.
    """
    lights = lines.pivot(index="explainer", columns="line", values="light").astype(object)
    lights = lights.reindex(columns=list(LINES), fill_value="none")
    lights = lights.where(lights.notna(), "none")
    values = lines.pivot(index="explainer", columns="line", values="value").reindex(columns=list(LINES))
    needed = (lights[[NETWORK, REMOVERS]] == "green").all(axis=1)
    spoiled = (lights[[name for name in LINES if name != COST]] == "red").any(axis=1)
    qualified = sorted(str(name) for name in lights.index[needed & ~spoiled])
    if not qualified:
        return Recommendation(None, _explain_none(lights))
    shades = {"green": 0, "yellow": 1, "none": 2, "red": 3}
    passes = pd.to_numeric(values[COST], errors="coerce").fillna(math.inf)

    gains = pd.to_numeric(values[REMOVERS], errors="coerce").fillna(-math.inf).round(DECIMALS)

    def rate(name: str) -> tuple[float, float, float, float, str]:
        marks = shades[lights[PLANTED][name]], -float(gains[name]), shades[lights[STABLE][name]]
        return (*marks, float(passes[name]), name)

    best = min(qualified, key=rate)
    said = lines[lines["explainer"] == best].set_index("line")["sentence"]
    parts = [said[NETWORK], f"it is {said[REMOVERS].partition(';')[0]}"]
    parts += [said[STABLE]] if lights[STABLE][best] == "green" else []
    parts += [f"it is {said[PLANTED].partition(';')[0]}"] if lights[PLANTED][best] in ("green", "yellow") else []
    rivals = [name for name in qualified if name != best]
    ahead = _find_reason(best, rivals, rate)
    reason = f"use {best}, because {'; '.join(parts[:-1])}; and {parts[-1]}" + (f"; {ahead}" if ahead else "")
    return Recommendation(best, reason)


def _find_reason(
    best: str, rivals: Sequence[str], rate: Callable[[str], tuple[float, float, float, float, str]]
) -> str:
    """What put the best before the nearest of its rivals."""
    if not rivals:
        return ""
    second = min(rivals, key=rate)
    words = (
        "right on more planted data",
        "of a larger relevance gain over the removers",
        "more stable",
        "cheaper",
        "first by name alone",
    )
    position = next(place for place, (one, two) in enumerate(zip(rate(best), rate(second), strict=True)) if one != two)
    return f"{second} qualifies too, and {best} is {words[position]}"


def _explain_none(lights: pd.DataFrame) -> str:
    """Why no method qualifies: what most of them lack, or that it was not measured."""
    measured = (lights[[NETWORK, REMOVERS]] != "none").all(axis=1)
    if not measured.any():
        return (
            "no method can be recommended: whether a map follows the network and beats the controls was not measured or "
            "not tested for any (metric=[verdict] explainer=random,edges,centre,...)"
        )
    lacks = {
        "follow the network": (lights[NETWORK] == "green").sum(),
        f"beat random, edges and centre under {MOST_REMOVERS} of {PANEL} removers": (lights[REMOVERS] == "green").sum(),
    }
    counts = " and ".join(f"{count} of {len(lights)} {words}" for words, count in lacks.items())
    both = (lights[[NETWORK, REMOVERS]] == "green").all(axis=1)
    red = ""
    if both.any():
        spoiled = {
            str(name): [line for line in LINES if line != COST and lights[line][name] == "red"]
            for name in lights.index[both]
        }
        named = "; ".join(f"{name} is red on '{', '.join(names)}'" for name, names in spoiled.items())
        red = f", but {named}"
    return f"none may be believed here: {counts}, no method does all that is asked{red}"


@dataclass(frozen=True)
class RuleRecord:
    """How often the rule recommends the method that the truth prefers.

    Args:
        cells: Pairs of planted truth and architecture with both, a certificate and lines.
        right: How many of them the rule is right on.
        silent: On how many it recommends none, which count as not right.
        fixed: {method: on how many of them it is what the truth prefers}.
        interval: Of the rule's share, binomial (Wilson's with continuity correction, 95 %).
        gain: Mean truth score of what the rule recommends, less that of the best fixed method on the same cells; NaN where
            the rule is silent everywhere.
    """

    cells: int
    right: int
    silent: int
    fixed: dict[str, int]
    interval: tuple[float, float]
    gain: float

    @property
    def best_fixed(self) -> str:
        """The method that the truth prefers most often, chosen in hindsight; the first by name of several."""
        return min(self.fixed, key=lambda name: (-self.fixed[name], name))

    @property
    def beats_fixed(self) -> bool:
        """Whether the rule is right on more cells than the best fixed method."""
        return self.right > self.fixed[self.best_fixed]

    def describe(self) -> str:
        """Say it in a sentence.

        Returns:
            With both counts, the interval and the mean gain.
        """
        best, (low, high) = self.best_fixed, self.interval
        verb = (
            "more often than"
            if self.beats_fixed
            else "as often as"
            if self.right == self.fixed[best]
            else "less often than"
        )
        gain = (
            f"; where it recommends one, its truth score is {self.gain:+.3f} against {best}"
            if math.isfinite(self.gain)
            else ""
        )
        return (
            f"The rule recommends what the truth prefers on {self.right} of {self.cells} cells [{low:.2f}, {high:.2f}], "
            f"{verb} always taking {best} ({self.fixed[best]} of {self.cells}, chosen in hindsight); on {self.silent} it "
            f"recommends none{gain}."
        )


def measure_rule(certificate: pd.DataFrame, lines: pd.DataFrame, metric: str = TRUTH) -> RuleRecord:
    """Measure how often the rule recommends the method that the truth prefers, against always taking one method.

    A cell is one planted truth and one architecture whose network uses what was planted. The truth prefers the method with
    the largest score, all of several with the same. The line `right on planted data` is left out of the rule here: it is
    made of the truth. Controls are no methods.

    Args:
        certificate: Columns ground_truth, model, explainer, metric, value, used: one row a cell and method.
        lines: `LINE_COLUMNS` of the planted networks, with the columns ground_truth and model.
        metric: The truth score.

    Returns:
        The counts.

    Raises:
        UserError: If no cell has both.
    """
    keys = ["ground_truth", "model"]
    rows = certificate[(certificate["metric"] == metric) & certificate["used"].astype(bool)]
    counted = right = silent = 0
    fixed: dict[str, int] = {}
    scores: list[tuple[str, pd.Series]] = []
    for key, group in lines[lines["line"] != PLANTED].groupby(keys):
        truth = rows[(rows[keys] == list(key)).all(axis=1) & rows["explainer"].isin(set(group["explainer"]))]
        values = pd.to_numeric(truth.set_index("explainer")["value"], errors="coerce").dropna()
        if values.empty:
            continue
        counted += 1
        preferred = set(values.index[values == values.max()])
        for name in values.index:
            fixed[str(name)] = fixed.get(str(name), 0) + (name in preferred)
        choice = recommend(group).name
        right, silent = right + (choice in preferred), silent + (choice is None)
        if choice in values:
            scores.append((str(choice), values))
    if not counted:
        raise UserError(
            f"no planted network has both, {metric} in the certificate and lines of the verdict: run metric=[verdict] on "
            "the networks of the certificate"
        )
    best = min(fixed, key=lambda name: (-fixed[name], name))
    gains = [float(values[choice] - values[best]) for choice, values in scores if best in values]
    low, high = stats.binomtest(right, counted).proportion_ci(LEVEL, method="wilsoncc")
    gain = sum(gains) / len(gains) if gains else math.nan
    return RuleRecord(counted, right, silent, fixed, (float(low), float(high)), gain)
