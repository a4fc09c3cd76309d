"""The goals, and what the rows say of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarking.below import GOALS
from benchmarking.row import DIFFER, Row

Rows = Sequence[Row]


@dataclass(frozen=True)
class Goal:
    """What is wanted, and what was found: `verdict` is `holds`, `misses` or `not measured`."""

    wanted: str
    verdict: str
    found: str


def goals(rows: Rows, device: str) -> list[Goal]:
    """Every goal in the order of the page."""
    limit = 1.15 if device.startswith("cuda") else 1.10
    captum, noise = _peers(rows, "captum", "default"), _peers(rows, "captum", "NoiseTunnel of IntegratedGradients")
    adaptive = _part(rows, "adaptive")
    beside_captum = [row for row in adaptive if row.setting.startswith("captum")]
    steps = [row for row in adaptive if row not in beside_captum]
    quantus = [row for row in _peers(rows, "quantus") if row.name != "deletion"]
    data = [row for row in rows if row.part == "data" and row.name == "whole run"]
    start = [row for row in rows if row.part == "start" and row.name == "to the first pass"]
    return [
        *_over_floor(rows, limit),
        *_each("never slower than Captum's defaults", captum, lambda r: r >= 1),
        *_each("integrated gradients at least 5 x Captum's", _named(captum, "integrated_gradients"), lambda r: r >= 5),
        _all("... and to 1 % completeness at least 5 x Captum's fewest fixed steps", beside_captum, lambda r: r >= 5),
        _tunnel([row for row in noise if "defaults" in row.setting], rows),
        *_each("pixel flipping at least 2.5 x Quantus", _named(_peers(rows, "quantus"), "deletion"), lambda r: r >= 2.5),
        *_each("faster than Quantus on every other metric that both have", quantus, lambda r: r > 1),
        _all("IG to 1 %: at most half the smallest fixed number of steps", steps, lambda r: r <= 0.5),
        *_below(rows),
        _all("start to first pass at most 1.3 x the imports alone", start, lambda r: r <= 1.3),
        _all("peak memory over settings flat within 10 %", _part(rows, "memory"), lambda r: r <= 1.1),
        _all("a run takes at most 1.15 x its network time", data, lambda r: r <= 1.15),
        _all("less time than a plain script of Captum and matplotlib", _part(rows, "script"), lambda r: r > 1),
    ]  # fmt: skip


def _over_floor(rows: Rows, limit: float) -> list[Goal]:
    """The goals of methods and metrics, network by network."""
    listed: list[Goal] = []
    for where, of_model in _by_network([row for row in rows if row.part in ("method", "metric")]):
        methods, metrics = _part(of_model, "method"), _part(of_model, "metric")
        listed += [
            _all(f"every attribution method at most {limit:.2f} x its floor{where}", methods, limit.__ge__),
            _all(f"... and at most {limit:.2f} x what its rules compute{where}", _by_work(methods), limit.__ge__),
            _all(f"every metric and set at most 1.15 x the floor of its passes{where}", metrics, (1.15).__ge__),
        ]
    return listed


def _each(wanted: str, rows: Rows, holds: Callable[[float], bool]) -> list[Goal]:
    """A goal beside a peer, network by network where there are several."""
    return [_all(f"{wanted}{where}", of_model, holds) for where, of_model in _by_network(rows)]


def _by_network(rows: Rows) -> list[tuple[str, Rows]]:
    """(` on <network>`, its rows) of each network; nothing is said where there are not several."""
    models = list(dict.fromkeys(row.model for row in rows))
    if len(models) < 2:
        return [("", rows)]
    return [(f" on {model}", [row for row in rows if row.model == model]) for model in models]


def _part(rows: Rows, part: str) -> Rows:
    return [row for row in rows if row.part == part]


def _by_work(rows: Rows) -> Rows:
    """Methods whose rules compute more than their passes, beside what they compute."""
    more = [row for row in _part(rows, "method") if row.work and row.work > 1.03 and row.ratio]
    return [replace(row, ratio=row.ratio / row.work) for row in more if row.ratio and row.work]


def _named(rows: Rows, name: str) -> Rows:
    return [row for row in rows if row.name == name]


def _peers(rows: Rows, library: str, setting: str = "") -> Rows:
    return [row for row in _part(rows, "peer") if row.setting.startswith(library) and setting in row.setting]


def _all(wanted: str, rows: Rows, holds: Callable[[float], bool]) -> Goal:
    measured = [row for row in rows if row.ratio is not None]
    if not measured:
        needs = [f"{row.name}: {row.note}" for row in rows if row.megabytes]
        return Goal(wanted, "not measured", "; ".join(needs))
    missed = [
        f"`{row.name}` {row.ratio:.2f}" + (" with other values" if DIFFER in row.note else "")
        for row in measured
        if row.ratio is not None and (DIFFER in row.note or not holds(row.ratio))
    ]
    if missed:
        found = f"{len(measured) - len(missed)} of {len(measured)} hold; not: {', '.join(missed)}"
        return Goal(wanted, "misses", found)
    worst = sorted(measured, key=lambda row: row.ratio or 0)
    return Goal(wanted, "holds", f"{len(measured)} rows, {worst[0].ratio:.2f} to {worst[-1].ratio:.2f}")


def _below(rows: Rows) -> list[Goal]:
    wanted = "below the floor: occlusion on {} at least {} x as fast as full passes"
    return [
        _all(wanted.format(model, goal), [row for row in _part(rows, "below") if row.model == model], goal.__le__)
        for model, goal in GOALS.items()
    ]


def _tunnel(theirs: Rows, rows: Rows) -> Goal:
    wanted = "noise tunnel over IG in 2 GB, where Captum's defaults keep tens"
    ours = [row for row in _part(rows, "memory") if row.name.startswith("ig_") and row.megabytes]
    needs = max((row.megabytes or 0 for row in theirs), default=0)
    if not ours:
        return Goal(wanted, "not measured", f"theirs would keep {needs / 1e3:.1f} GB for {_count(theirs)} images")
    peak = max(row.megabytes or 0 for row in ours)
    found = f"ours {peak / 1024:.1f} GB; theirs would keep {needs / 1e3:.1f} GB for {_count(theirs)} images"
    return Goal(wanted, "holds" if peak <= 2048 else "misses", found)


def _count(rows: Rows) -> int:
    return max((row.images or 0 for row in rows), default=0)
