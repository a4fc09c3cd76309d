"""Runs of one model joined into one comparison of explainers, after a check that they can be compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from seewhy.core.errors import UserError
from seewhy.report.constructs import ConstructRanks, rank_by_construct
from seewhy.report.runs import Run, find_model_settings
from seewhy.statistics.ranks import Ranks, rank_explainers
from seewhy.statistics.schema import Direction, MetricFact
from seewhy.statistics.summary import check_table, pivot_by_image, pivot_draws, summarise_metrics
from seewhy.statistics.tests import ALPHA, compare_pairs, compare_with_control

TOLERANCE = 0.02
"""Largest difference of a probability that another device or number of threads may make."""
CONTROL = "random"
CONTROLS = (CONTROL, "edges", "centre")


@dataclass(frozen=True)
class JoinedRuns:
    """The runs of one model on the same images.

    Args:
        model: Label of the model.
        images: Number of images that every run explained, of one or several targets.
        target: The target policy.
        table: Columns image, explainer (the label of its run), metric and value.
        explainers: A row per label, sorted: method, parameters, control (whether it is one), tolerance (of the gap of a
            complete method, else NaN), passes and seconds per image, device, folder.
        facts: Of the metrics that were measured.
        network: The name of the architecture, as run.json has it.
        chosen: The settings that chose it, as they were typed, such as `model=timm model.name=resnet18`.
    """

    model: str
    images: int
    target: str
    table: pd.DataFrame
    explainers: pd.DataFrame
    facts: dict[str, MetricFact]
    network: str = ""
    chosen: str = ""

    @property
    def control(self) -> str | None:
        """The label of the explainer `random`, the first of several; None where it was not run."""
        names = self.explainers.index[self.explainers["method"] == CONTROL]
        return str(names[0]) if len(names) else None


def join_runs(runs: Sequence[Run]) -> list[JoinedRuns]:
    """Join the runs of each model.

    Args:
        runs: Of any number of models and explainers.

    Returns:
        One `JoinedRuns` per model, sorted by its label.

    Raises:
        UserError: If the runs cannot be compared.
    """
    ordered = sorted(runs, key=lambda run: str(run.folder))
    check_same_data(ordered)
    facts = collect_facts(ordered)
    models = sorted({run.model for run in ordered})
    groups = [[run for run in ordered if run.model == model] for model in models]
    labels = label_models([group[0] for group in groups])
    joined = [_join_group(label, group, facts) for label, group in zip(labels, groups, strict=True)]
    return sorted(joined, key=lambda group: group.model)


def _join_group(model: str, runs: Sequence[Run], facts: dict[str, MetricFact]) -> JoinedRuns:
    check_same_answers(runs)
    labels = label_explainers(runs)
    tables = [run.metrics.assign(explainer=label) for run, label in zip(runs, labels, strict=True)]
    table = pd.concat(tables, ignore_index=True)
    explainers = pd.DataFrame([_describe_run(run) for run in runs], index=pd.Index(labels, name="explainer"))
    measured = set(table["metric"])
    return JoinedRuns(
        model,
        len(runs[0].images),
        str(runs[0].record["explainer"].get("target", "")),
        table,
        explainers.sort_index(),
        {metric: fact for metric, fact in facts.items() if metric in measured},
        runs[0].model[0],
        find_model_settings(runs[0].record.get("overrides") or (), runs[0].model[0]),
    )


def _describe_run(run: Run) -> dict[str, object]:
    passes, seconds = run.record.get("passes_per_image"), run.record.get("attribution_seconds")
    images = run.record["images_explained"]
    return {
        "method": run.explainer,
        "parameters": run.record["explainer"].get("parameters", ""),
        "control": run.explainer in CONTROLS,
        "tolerance": float("nan") if (tolerance := run.record["explainer"].get("tolerance")) is None else tolerance,
        "passes": float(sum(passes.values())) if passes else float("nan"),
        "seconds": seconds / images if seconds is not None else float("nan"),
        "device": str(run.record.get("device", "")),
        "folder": str(run.folder),
    }


def label_explainers(runs: Sequence[Run]) -> list[str]:
    """Label the runs of one model as briefly as no two are alike.

    Args:
        runs: In any order, on which the labels do not depend.

    Returns:
        The name of each explainer; where it is shared with the parameters that differ, the seed or the folder.
    """
    details = [_list_parameters, lambda run: {f"seed={run.record.get('seed')}"}, lambda run: {run.folder.name}]
    return _tell_apart(runs, lambda run: run.explainer, [*details, lambda run: {str(run.folder)}])


def label_models(runs: Sequence[Run]) -> list[str]:
    """Label models.

    Args:
        runs: One of each model.

    Returns:
        The name of each model; where it is shared with the start of the hash of its weights.
    """
    return _tell_apart(runs, lambda run: run.model[0], [lambda run: {run.model[1][:8]}])


def _list_parameters(run: Run) -> set[str]:
    text = str(run.record["explainer"].get("parameters", ""))
    return set(re.split(r", (?=\w+=)", text)) if text else set()


def _tell_apart(
    runs: Sequence[Run], name: Callable[[Run], str], details: Sequence[Callable[[Run], set[str]]]
) -> list[str]:
    """Names with the first of `details` that tells all runs of a name apart, reduced to what they do not share."""
    labels = []
    for run in runs:
        alike = [other for other in runs if name(other) == name(run)]
        label = name(run)
        if len(alike) > 1:
            for detail in details:
                sets = [frozenset(detail(other)) for other in alike]
                if len(set(sets)) == len(sets):
                    break
            own = detail(run) - frozenset.intersection(*sets)
            label = f"{label} ({', '.join(sorted(own)) or 'default'})"
        labels.append(label)
    return labels


def check_same_data(runs: Sequence[Run]) -> None:
    """Check that all runs explained the same images with the same target policy.

    Args:
        runs: Of any models.

    Raises:
        UserError: If they did not.
    """
    first = runs[0]
    for run in runs[1:]:
        pair = f"{first.folder} and {run.folder}"
        policies = [each.record["explainer"].get("target") for each in (first, run)]
        if policies[0] != policies[1]:
            raise UserError(
                f"{pair} have different target policies, {policies[0]} and {policies[1]}; compare runs of one policy"
            )
        left, right = set(first.images.index), set(run.images.index)
        if left != right:
            lone = sorted(left ^ right)
            where = first.folder if lone[0] in left else run.folder
            counts = f"{len(left)} and {len(right)} images; {lone[0]} is only in {where}"
            raise UserError(f"{pair} explained different images ({counts}); compare runs of the same data and limit")
        _check_column(first.images, run.images, (first, run), "label", "labels", "compare runs of the same data")


def check_same_answers(runs: Sequence[Run]) -> None:
    """Check that every image has the same target in all runs of a model, and a like probability.

    The probability tells files of the same name with different pixels apart.

    Args:
        runs: Of one model on the same images.

    Raises:
        UserError: If they differ.
    """
    first = runs[0]
    for run in runs[1:]:
        tables = first.predictions, run.predictions
        lone = sorted(set(tables[0].index) ^ set(tables[1].index))
        if lone:
            where = first.folder if lone[0] in tables[0].index else run.folder
            raise UserError(f"{lone[0]} was explained in {where} alone; compare runs of the same data and precision")
        fix = "compare runs of the same data and target policy"
        _check_column(tables[0], tables[1].loc[tables[0].index], (first, run), "target", "targets", fix)
        left, right = (pd.to_numeric(table["target_probability"]) for table in tables)
        gaps = (left - right).abs()
        if gaps.max() > TOLERANCE:
            image = str(gaps.idxmax())
            values = f"p={left[image]:.3f} in {first.folder} and p={right[image]:.3f} in {run.folder}"
            raise UserError(
                f"one model gives the target of image {image} {values}: "
                f"its pixels or the precision differ; compare runs of the same data and precision"
            )


def _check_column(
    one: pd.DataFrame, other: pd.DataFrame, runs: tuple[Run, Run], column: str, words: str, fix: str
) -> None:
    left, right = one[column], other[column]
    different = left[left != right]
    if len(different):
        image = str(different.index[0])
        values = " and ".join(
            f"{column[image] or 'none'!r} in {run.folder}" for column, run in zip((left, right), runs, strict=True)
        )
        raise UserError(f"image {image} has different {words}, {values}; {fix}")


def collect_facts(runs: Sequence[Run]) -> dict[str, MetricFact]:
    """Collect the definitions of the metrics of all runs.

    Args:
        runs: Of any models.

    Returns:
        {metric: fact}, sorted by name.

    Raises:
        UserError: If a metric has two definitions or directions.
    """
    sources: dict[str, tuple[MetricFact, Run]] = {}
    for run in runs:
        for metric, fact in run.facts.items():
            before, source = sources.setdefault(metric, (fact, run))
            if _rate_fact(fact) > _rate_fact(before):  # a run of an earlier version says less
                sources[metric] = (fact, source)
            if (before.better, before.variant) != (fact.better, fact.variant):
                left, right = (f"{each.variant!r} ({each.better or 'no'} better)" for each in (before, fact))
                raise UserError(
                    f"{metric} is defined differently in {source.folder} and {run.folder}: {left} and {right}; "
                    "compare runs with the same metric settings"
                )
    return {metric: fact for metric, (fact, _) in sorted(sources.items())}


def _rate_fact(fact: MetricFact) -> tuple[bool, bool]:
    return fact.construct != "", fact.bounds is not None


@dataclass(frozen=True)
class Comparison:
    """What the runs of one model say about its explainers, which stand in the order of `leaderboard`.

    Args:
        joined: The runs.
        summary: `summarise_metrics` of every metric, also of those without a direction.
        pairwise: `compare_pairs` of every metric with a direction, named in the column metric.
        verdicts: `compare_with_control` of every metric with a direction, named in the column metric; empty without a
            control.
        ranks: Of every metric with a direction, in the order of the constructs.
        constructs: Mean ranks inside each construct.
        leaderboard: By explainer, in the order of the first construct's mean rank; columns as in leaderboard.csv.
    """

    joined: JoinedRuns
    summary: pd.DataFrame
    pairwise: pd.DataFrame
    verdicts: pd.DataFrame
    ranks: dict[str, Ranks]
    constructs: list[ConstructRanks]
    leaderboard: pd.DataFrame

    @property
    def explainers(self) -> list[str]:
        """Their labels, in the order of the first construct's mean rank."""
        return [str(name) for name in self.leaderboard.index]

    def get_mean(self, explainer: str, metric: str) -> tuple[float, float, float]:
        """Return the mean and both ends of its interval; NaN where there is none."""
        mean, low, high = (float(self.leaderboard[f"{metric}{end}"][explainer]) for end in ("", "_low", "_high"))
        return mean, low, high

    def get_verdict(self, explainer: str, metric: str) -> str:
        """Return yes, no (n.s.), worse, untested, control, or nothing: whether the explainer beats random."""
        verdict = str(self.leaderboard.loc[explainer, f"{metric}_beats_random"])
        worse = verdict == "no" and float(self.leaderboard[f"{metric}_p_random"][explainer]) < ALPHA
        return "worse" if worse else verdict

    def list_leaders(self, metric: str) -> list[str]:
        """List the explainers that evidence puts first; often none.

        Args:
            metric: With a direction.

        Returns:
            Those that are no control, that no other explainer is significantly better than, and that are themselves
            significantly better than random or, where it was not run, than any other explainer.
        """
        pairs = self.pairwise[(self.pairwise["metric"] == metric) & (self.pairwise["winner"] != "")]
        losers = set(pairs["explainer"].where(pairs["explainer"] != pairs["winner"], pairs["other"]))
        if self.joined.control is not None:
            pairs = pairs[(pairs["explainer"] == self.joined.control) | (pairs["other"] == self.joined.control)]
        winners = set(pairs["winner"]) - losers - set(self.leaderboard.index[self.leaderboard["control"]])
        return [name for name in self.explainers if name in winners]

    def list_rivals(self, explainer: str, metric: str) -> list[str]:
        """List the controls but random that an explainer is not significantly better than, which see no network at all."""
        pairs = self.pairwise[(self.pairwise["metric"] == metric) & (self.pairwise["winner"] != explainer)]
        near = {
            *pairs.loc[pairs["explainer"] == explainer, "other"],
            *pairs.loc[pairs["other"] == explainer, "explainer"],
        }
        controls = self.leaderboard.index[self.leaderboard["control"]]
        return [str(name) for name in controls if name in near and name != self.joined.control]

    def list_families(self, metric: str) -> list[str]:
        """List the families of tests of a metric, such as `5 comparisons with random`."""
        families = self.pairwise.loc[self.pairwise["metric"] == metric, "family"]
        return [
            str(name) for name in dict.fromkeys(families.sort_values(key=lambda names: ~names.str.contains("with")))
        ]

    def find_ties(self, metric: str) -> list[list[str]]:
        """Find the largest groups of explainers of which no two differ significantly.

        Args:
            metric: With a direction.

        Returns:
            Groups of two or more, each in the order of the average ranks; a pair is in one of them exactly where its test
            has no winner.
        """
        order = list(self.ranks[metric].explainers)
        pairs = self.pairwise[(self.pairwise["metric"] == metric) & (self.pairwise["winner"] == "")]
        near: dict[str, set[str]] = {name: set() for name in order}
        for first, other in zip(pairs["explainer"], pairs["other"], strict=True):
            if first in near and other in near:
                near[first].add(other)
                near[other].add(first)
        groups = [sorted(group, key=order.index) for group in _list_cliques(set(), set(order), set(), near)]
        return sorted((group for group in groups if len(group) > 1), key=lambda group: [order.index(n) for n in group])

    def describe_evidence(self, construct: ConstructRanks) -> str:
        """Say what the order of a construct rests on.

        Args:
            construct: One of the comparison.

        Returns:
            A sentence where it rests on nothing: no explainer is significantly better than random; empty otherwise.
        """
        if self.joined.control is None or not construct.metrics:
            return ""
        verdicts = [self.get_verdict(name, metric) for metric in construct.metrics for name in construct.explainers]
        if "yes" in verdicts or set(verdicts) <= {"control", ""}:
            return ""
        if set(verdicts) <= {"control", "", "untested"}:
            return "Too few images for a test against random: the order is no evidence."
        return "No method is significantly better than random on any of these scores: the order is no evidence."


def _list_cliques(
    group: set[str], candidates: set[str], seen: set[str], near: Mapping[str, set[str]]
) -> Iterator[set[str]]:
    """The maximal cliques of a graph (Bron and Kerbosch, Algorithm 457, Communications of the ACM 1973, with pivot)."""
    if not candidates and not seen:
        yield group
        return
    pivot = max(sorted(candidates | seen), key=lambda name: len(near[name] & candidates))
    for name in sorted(candidates - near[pivot]):
        yield from _list_cliques(group | {name}, candidates & near[name], seen & near[name], near)
        candidates, seen = candidates - {name}, seen | {name}


def compare_runs(joined: JoinedRuns, seed: int = 0) -> Comparison:
    """Compare the explainers of one model by every metric.

    Args:
        joined: The runs.
        seed: Of the bootstrap.

    Returns:
        Summary, paired comparisons, ranks, verdicts against the control, and the leaderboard that they give.
    """
    table = check_table(joined.table)
    directions: dict[str, Direction] = {name: fact.better for name, fact in joined.facts.items() if fact.better}
    pairs, verdicts, ranks = [], [], {}
    for metric, better in directions.items():
        assert better is not None
        values = pivot_by_image(table, metric)
        fact = joined.facts[metric]
        control = joined.control if joined.control in values else None
        pair = compare_pairs(values, better, seed, pivot_draws(table, fact), control, fact.bounds)
        pairs.append(pair.assign(metric=metric))
        ranks[metric] = rank_explainers(values, better)
        if control is not None:
            verdict = compare_with_control(values, better, control, seed)
            verdicts.append(verdict.assign(metric=metric))
    summary = summarise_metrics(joined.table, joined.facts, seed)
    pairwise, judged = _stack(pairs), _stack(verdicts)
    constructs = rank_by_construct(ranks, joined.facts, [str(name) for name in joined.explainers.index], seed)
    ranks = {metric: ranks[metric] for construct in constructs for metric in construct.metrics}
    board = _build_leaderboard(joined, summary, judged, ranks, constructs)
    return Comparison(joined, summary, pairwise, judged, ranks, constructs, board)


def _stack(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One table with the column metric first; without rows where there is none."""
    if not tables:
        return pd.DataFrame(columns=["metric", "explainer", "p", "beats", "test"])
    stacked = pd.concat(tables, ignore_index=True)
    return stacked[["metric", *stacked.columns.drop("metric")]]


def _build_leaderboard(
    joined: JoinedRuns,
    summary: pd.DataFrame,
    verdicts: pd.DataFrame,
    ranks: dict[str, Ranks],
    constructs: list[ConstructRanks],
) -> pd.DataFrame:
    """A row per explainer: its mean rank in each construct, cost, and per metric its mean, interval, rank and verdict."""
    ranked = [construct for construct in constructs if construct.is_ranked]
    labels = pd.Index(ranked[0].explainers if ranked else sorted(joined.explainers.index), name="explainer")
    columns: dict[str, pd.Series] = {
        construct.column: pd.Series(construct.mean_ranks, dtype=float) for construct in ranked
    } | {column: joined.explainers[column] for column in ("control", "passes", "seconds")}
    for metric, each in ranks.items():
        cells = summary[summary["metric"] == metric].set_index("explainer")
        verdict = verdicts[verdicts["metric"] == metric].set_index("explainer")
        columns[metric] = cells["mean"]
        columns[f"{metric}_low"], columns[f"{metric}_high"] = cells["low"], cells["high"]
        columns[f"{metric}_rank"] = pd.Series(dict(zip(each.explainers, each.average, strict=True)), dtype=float)
        columns[f"{metric}_p_random"] = verdict["p"].astype(float)
        columns[f"{metric}_beats_random"] = verdict["beats"].astype(object).reindex(labels).fillna("")
        columns[f"{metric}_test_random"] = verdict["test"].astype(object).reindex(labels).fillna("")
    return pd.DataFrame(columns, index=labels)
