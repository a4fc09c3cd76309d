"""The verdict on a method in six lines, the rule that recommends one, and how often the rule is right.

A line has a value, what it was held against, a light and a sentence. There is no sum: the rule is lexicographic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import pandas as pd

Light: TypeAlias = Literal["green", "yellow", "red", "none"]
"""`green`: shown. `yellow`: partly, or not told apart. `red`: the opposite is shown. `none`: not measured, not promised."""
LINES = ("complete", "follows the network", "beats the controls", "stable", "right on planted data", "cost")
COMPLETE, NETWORK, REMOVERS, STABLE, PLANTED, COST = LINES
LINE_COLUMNS = ("explainer", "line", "value", "low", "high", "shown", "held_against", "light", "sentence")
WORDS: dict[Light, str] = {"green": "yes", "yellow": "unclear", "red": "no", "none": "open"}
COST_WORDS: dict[Light, str] = {"green": "cheap", "yellow": "moderate", "red": "dear", "none": "open"}
INCOMPLETE = 0.1
"""A mean relative gap above this share of the change is red; up to the tolerance of the method it is green."""
ALIKE = 0.5
"""Absolute rank correlation of maps: below it the random network's map is another one, above it a stable map is the same."""
MOST_REMOVERS = 4
"""Removers of six, more than half, under which a method beats every control."""
PANEL = 6
CHEAP, DEAR = 10, 1000
"""Passes per image: up to the first a method is cheap, above the second it is dear."""
TRUTH = "average_precision"
"""The score of planted data that decides: it depends on the whole order of a map, not on its unit or largest value."""


class Estimate(NamedTuple):
    """A mean with its 95 % interval; NaN where there is none.

    Attributes:
        mean: The value.
        low: The lower end.
        high: The upper end.
        images: That it was measured on.
        of: Images that were explained; more than `images` where not all were measured.
    """

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    images: int = 0
    of: int = 0

    def __str__(self) -> str:
        ends = f" [{self.low:.2f}, {self.high:.2f}]" if math.isfinite(self.low) else ""
        return f"{self.mean:.2f}{ends}{self.describe_images()}"

    def describe_images(self) -> str:
        """Say on how many images it was measured.

        Returns:
            A phrase; empty where it was on all.
        """
        return f" on {self.images} of {self.of} images" if self.images < self.of else ""


@dataclass(frozen=True)
class Line:
    """One line of the verdict on a method.

    Args:
        line: One of `LINES`.
        light: Its traffic light.
        sentence: What it means.
        estimate: The value with its interval.
        held_against: The control or limit that it was held against.
        shown: The value in words; empty where there is none.
    """

    line: str
    light: Light
    sentence: str
    estimate: Estimate = field(default_factory=Estimate)
    held_against: str = ""
    shown: str = ""

    @property
    def word(self) -> str:
        """The light in a word, so that no line depends on colours."""
        return (COST_WORDS if self.line == COST else WORDS)[self.light]

    def to_row(self, explainer: str) -> dict[str, object]:
        """Write the line as a row of a table.

        Args:
            explainer: The method that it is about.

        Returns:
            `LINE_COLUMNS`.
        """
        shown = self.shown or (str(self.estimate) if math.isfinite(self.estimate.mean) else "")
        values = (explainer, self.line, *self.estimate[:3], shown, self.held_against, self.light, self.sentence)
        return dict(zip(LINE_COLUMNS, values, strict=True))


def judge_completeness(gap: Estimate, tolerance: float | None) -> Line:
    """Judge whether the sum of a map is the change of the score.

    Args:
        gap: Mean relative gap, a share of the change of the score; NaN where it was not measured.
        tolerance: Up to which the method needs no warning; None: it promises no sum.

    Returns:
        Green up to the tolerance, red above `INCOMPLETE` with the whole interval, yellow between.
    """
    shown = _write_gap(gap) if _is(gap.mean) else ""
    if tolerance is None:
        misses = f"; its sum misses the change of the score by {_write_share(gap.mean)}" if _is(gap.mean) else ""
        return Line(
            COMPLETE, "none", f"promises no sum, so there is no gap to hold it to{misses}", gap, "", "not promised"
        )
    limit = f"the tolerance of {_write_share(tolerance)}"
    if not _is(gap.mean):
        return Line(COMPLETE, "none", "its gap was not measured", gap, limit)
    if gap.mean <= tolerance:
        return Line(COMPLETE, "green", f"its map adds up to the change of the score, within {limit}", gap, limit, shown)
    above = _is(gap.low) and gap.low > INCOMPLETE
    words = f"its map misses the change of the score by {_write_share(gap.mean)} on average"
    return Line(COMPLETE, "red" if above else "yellow", words, gap, limit, shown)


def judge_network(similarity: Estimate, control: str = "", control_mean: float = math.nan, beaten: bool = True) -> Line:
    """Judge whether the map depends on what the network learned.

    Args:
        similarity: Mean absolute rank correlation with the maps of fully random networks, with the spread of these.
        control: A control that sees no network; empty where none was run.
        control_mean: Its similarity.
        beaten: Whether the method is significantly less similar than the control.

    Returns:
        Green where the whole interval is below `ALIKE` and the control is beaten, red where it is above, yellow between.
    """
    against = f"{control} {control_mean:.2f}, which sees no network" if control else "1, a map that ignores the network"
    if not _is(similarity.mean):
        return Line(NETWORK, "none", "not measured: metric=[model_randomization]", similarity, against)
    if not _is(similarity.low):
        words = f"similarity {similarity} with maps of random networks; too few images for an interval"
        return Line(NETWORK, "none", words, similarity, against)
    if similarity.high < ALIKE and beaten:
        return Line(NETWORK, "green", "its map is another one when all weights are random", similarity, against)
    if similarity.low > ALIKE:
        return Line(NETWORK, "red", "its map stays much the same when all weights are random", similarity, against)
    unlike = f"not told apart from {control}" if control and not beaten else f"not told apart from {ALIKE:g}"
    return Line(NETWORK, "yellow", f"its similarity with maps of random networks is {unlike}", similarity, against)


def judge_removers(outcomes: Mapping[str, Mapping[str, str]], controls: Sequence[str], gain: float = math.nan) -> Line:
    """Judge under how many removers the symmetric relevance gain is significantly above that of every control.

    Args:
        outcomes: {remover: {control: `better`, `worse`, `n.s.` or `untested`}}.
        controls: That must be beaten.
        gain: The mean symmetric relevance gain over the removers.

    Returns:
        Green from `MOST_REMOVERS` of six; red where a control is significantly better under as many; else yellow. Its value
        is the gain; `shown` has the number of removers.
    """
    against = " and ".join(filter(None, (", ".join(controls[:-1]), controls[-1])))
    if not outcomes:
        return Line(REMOVERS, "none", "not measured: metric=[removers]", held_against=against)
    missing = [name for name in controls if any(name not in each for each in outcomes.values())]
    if missing:
        words = f"not held against {' and '.join(missing)}: run explainer={','.join(missing)} on the same images"
        return Line(REMOVERS, "none", words, held_against=against)
    won = [name for name, each in outcomes.items() if all(each[control] == "better" for control in controls)]
    count, value = f"{len(won)} of {len(outcomes)} removers", Estimate(gain)
    shown = f"{len(won)} of {len(outcomes)}"
    untested = sum("untested" in each.values() for each in outcomes.values())
    if not won and untested == len(outcomes):
        return Line(REMOVERS, "none", "too few images for a test against the controls", value, against, shown)
    if len(won) >= MOST_REMOVERS:
        rest = _list_failures(outcomes, controls, won)
        return Line(REMOVERS, "green", f"better than {against} under {count}{rest}", value, against, shown)
    lost = sum("worse" in each.values() for each in outcomes.values())
    light: Light = "red" if lost >= MOST_REMOVERS else "yellow"
    words = f"better than {against} under {count}{_list_failures(outcomes, controls, won)}"
    return Line(REMOVERS, light, words, value, against, shown)


def _list_failures(outcomes: Mapping[str, Mapping[str, str]], controls: Sequence[str], won: Sequence[str]) -> str:
    """Which controls are not beaten under how many of the other removers."""
    others = [each for name, each in outcomes.items() if name not in won]
    parts = []
    for outcome, words in (
        ("n.s.", "not told apart from"),
        ("worse", "worse than"),
        ("untested", "not tested against"),
    ):
        counts = {name: sum(each[name] == outcome for each in others) for name in controls}
        named = [f"{name} ({count})" for name, count in counts.items() if count]
        parts += [f"{words} {', '.join(named)}"] if named else []
    return f"; {'; '.join(parts)}" if parts else ""


def judge_stability(
    similarity: Estimate, control: str = "", control_mean: float = math.nan, beaten: bool = True
) -> Line:
    """Judge whether the map outlives noise that does not change the prediction.

    Args:
        similarity: Mean rank correlation with the maps of noisy images.
        control: A control that is drawn anew for each image; empty where it was not run.
        control_mean: Its similarity.
        beaten: Whether the method is significantly more similar than the control.

    Returns:
        Green where the whole interval is above `ALIKE` and the control is beaten, red where it is below, yellow between.
    """
    against = f"{control} {control_mean:.2f}" if control else "0, a map that is drawn anew"
    if not _is(similarity.mean):
        return Line(STABLE, "none", "not measured: metric=[stability]", similarity, against)
    if not _is(similarity.low):
        words = f"similarity {similarity} with maps of noisy images; too few images for an interval"
        return Line(STABLE, "none", words, similarity, against)
    if similarity.low > ALIKE and beaten:
        return Line(STABLE, "green", "noise that keeps the prediction keeps the map", similarity, against)
    if similarity.high < ALIKE:
        return Line(STABLE, "red", "noise that keeps the prediction changes most of the map", similarity, against)
    unlike = f"not told apart from {control}" if control and not beaten else f"not told apart from {ALIKE:g}"
    return Line(
        STABLE, "yellow", f"its similarity under noise that keeps the prediction is {unlike}", similarity, against
    )


def judge_planted(cells: pd.DataFrame, command: str) -> Line:
    """Judge whether a method finds what was planted for networks of the same architecture.

    Args:
        cells: Rows of the certificate of one architecture and method with the score `TRUTH`.
        command: That makes a certificate, for the sentence where there is none.

    Returns:
        Green where it beats chance and `edges` on every kind of truth that has a score, red where it is significantly worse
        than one of them on more than half of the kinds, else yellow; by the certificate's own `beats_chance` and
        `beats_edges`, for new images and new networks.
    """
    against = "chance, edges"
    used = cells[cells["used"].astype(bool) & pd.to_numeric(cells["value"]).notna()] if len(cells) else cells
    if not len(used):
        reasons = sorted({str(reason) for reason in cells["reason"]} - {"", "nan"}) if len(cells) else []
        why = f"no kind of planted truth has a score ({'; '.join(reasons)})" if reasons else "not tried"
        return Line(PLANTED, "none", f"{why}: {command}", held_against=against)
    beats = used[["beats_chance", "beats_edges"]]
    won, kinds = (beats == "yes").all(axis=1), used["ground_truth"].astype(str)
    count = f"{int(won.sum())} of {len(used)} kinds of planted truth"
    failed = ", ".join(kinds[~won])
    words = f"better than chance and edges on {count}" + (f"; not on {failed}" if failed else "")
    below = (beats == "worse").any(axis=1)
    light: Light = "green" if won.all() else "red" if below.sum() > len(used) / 2 else "yellow"
    return Line(PLANTED, light, words, Estimate(float(won.sum())), against, f"{int(won.sum())} of {len(used)}")


def judge_cost(passes: float, seconds: float, cheapest: str = "", least: float = math.nan) -> Line:
    """Judge what a map costs.

    Args:
        passes: Forward and backward passes per image.
        seconds: Per image, on the machine of the run.
        cheapest: The method with the fewest passes.
        least: Its passes.

    Returns:
        Green up to `CHEAP` passes, red above `DEAR`, yellow between.
    """
    if not _is(passes):
        return Line(COST, "none", "its passes were not recorded")
    against = f"{least:,.0f} passes of {cheapest}, the cheapest" if cheapest else ""
    time = f" and {seconds:.3g} s" if _is(seconds) else ""
    light: Light = "green" if passes <= CHEAP else "red" if passes > DEAR else "yellow"
    shown = f"{passes:,.0f} pass{'es' if round(passes) != 1 else ''}{time}"
    return Line(COST, light, f"{shown} per image", Estimate(passes), against, shown)


def _is(value: float) -> bool:
    return math.isfinite(value)


def _write_gap(gap: Estimate) -> str:
    ends = f" [{_write_share(gap.low)}, {_write_share(gap.high)}]" if _is(gap.low) else ""
    return f"gap {_write_share(gap.mean)}{ends}{gap.describe_images()}"


def _write_share(share: float) -> str:
    percent = 100 * share
    return f"{percent:,.0f} %" if percent >= 1000 else f"{percent:.3g} %"
