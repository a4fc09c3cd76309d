"""A number of the documents that stands in a committed result equals it."""

import csv
import re
from collections.abc import Callable, Iterator

import pytest

from conftest import ROOT

BENCHMARK = (ROOT / "logbook" / "benchmark.md").read_text()
DOCUMENTS = {
    str(path.relative_to(ROOT)): " ".join(path.read_text().split())
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
}


def read_accuracy(model: str) -> str:
    """The accuracy on a card of weights, in percent."""
    (value,) = re.findall(r"Test accuracy: ([\d.]+)", (ROOT / "src/seewhy/weights" / f"{model}.md").read_text())
    return f"{100 * float(value):.1f}"


def read_goal(goal: str) -> tuple[str, str]:
    """The smallest and the largest ratio of a goal of the benchmark, as prose says them."""
    low, high = re.search(rf"\| {re.escape(goal)}[^|]* \| holds \| \d+ rows, ([\d.]+) to ([\d.]+)", BENCHMARK).groups()  # type: ignore[union-attr]
    return write(float(low)), write(float(high))


def write(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def read_adaptive() -> tuple[str, ...]:
    """Steps of adaptive integrated gradients over the fewest fixed ones, and Captum's time with those over ours."""
    rows = [row.split(" | ") for row in BENCHMARK.splitlines() if row.startswith("| adaptive |")]
    return rows[0][4].split()[0], write(float(rows[1][4].split()[0]))


def read_pace() -> tuple[int, int]:
    """Forward passes, and passes with gradient, a second: those of the methods' part."""
    forward, gradient = re.search(
        r"forward (\d+) images/s at batch 8, with gradient (\d+) images/s", BENCHMARK
    ).groups()  # type: ignore[union-attr]
    return int(forward), int(gradient)


def hours(forward: int, backward: int, threads: int = 2) -> str:
    """What a million images take on so many threads, where two have the benchmark's pace."""
    alone, gradient = read_pace()
    value = 1e6 * (max(forward - backward, 0) / alone + backward / gradient) / 3600 * 2 / threads
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.1f}"


def count_recommended() -> tuple[str, ...]:
    """Networks that the rule is right on, all of them, and those that the best fixed method is right on."""
    rows = list(csv.DictReader((ROOT / "logbook" / "recommendation.csv").read_text().splitlines()))
    preferred = [row["preferred"] for row in rows]
    right = sum(row["recommended"] == row["preferred"] for row in rows)
    return str(right), str(len(rows)), str(preferred.count("occlusion")), str(len(rows))


Claim = tuple[str, str, Callable[[], tuple[str, ...]]]
MODELS = ("cifar_cnn", "vgg16_cifar", "mobilenetv3", "vit_cifar")
RATIOS = {
    r"than Captum's with its defaults \(([\d.]+) to ([\d.]+) times as fast": "never slower than Captum's defaults",
    r"than Quantus' \(([\d.]+) to ([\d.]+) times\)": "faster than Quantus on every other metric",
}
HOURS = {
    r"\| predictions and saliency \| 1 \+ 1": (1, 1),
    r"50 steps \| 2 \+ 50": (2, 50),
    r"about 101 \+ 1": (101, 1),
    r"170 windows \| 171": (171, 0),
    r"4,000 masks \| 4,001": (4001, 0),
}


def list_claims() -> Iterator[Claim]:
    """(document, words with the numbers as groups, what gives the numbers)."""
    for model in MODELS:
        yield "README.md", rf"([\d.]+) % \(`{model}`\)", lambda model=model: (read_accuracy(model),)
        row = rf"\| `{model}`[^|]*\| CIFAR-10 \| ([\d.]+) %"
        yield "docs/howto/own_network.md", row, lambda model=model: (read_accuracy(model),)
    for words, goal in RATIOS.items():
        for document in ("README.md", "docs/benchmark.md"):
            yield document, words, lambda goal=goal: read_goal(goal)
    words = r"take ([\d.]+) times the steps .*? and are ([\d.]+) times as fast as Captum with those"
    yield "docs/benchmark.md", words, read_adaptive
    words = r"measured (\d+) forward passes .*? and (\d+) with the gradient"
    yield "docs/scale.md", words, lambda: tuple(map(str, read_pace()))
    for words, passes in HOURS.items():
        row = words + r" \| ([\d.,]+) \| ([\d.,]+)"
        yield "docs/scale.md", row, lambda passes=passes: (hours(*passes), hours(*passes, threads=64))
    words = r"average precision on (\d+) of (\d+) \(95 % interval .*?always taking `occlusion` on (\d+) of (\d+)"
    yield "docs/verdict.md", words, count_recommended


CLAIMS = list(list_claims())


@pytest.mark.parametrize(
    ("document", "words", "read"), CLAIMS, ids=[f"{name}: {words[:40]}" for name, words, _ in CLAIMS]
)
def test_a_number_is_that_of_the_result(document: str, words: str, read: Callable[[], tuple[str, ...]]) -> None:
    stated = re.findall(words, DOCUMENTS[document])
    assert len(stated) == 1, f"{document} says {words!r} {len(stated)} times"
    assert (stated[0] if isinstance(stated[0], tuple) else stated) == (
        read() if isinstance(stated[0], tuple) else list(read())
    )


def test_every_method_in_a_shorter_time_means_every_row() -> None:
    """The sentence says `every method`: the goal holds in all of its rows."""
    assert re.search(r"never slower than Captum's defaults \| holds \|", BENCHMARK)
    assert re.search(r"faster than Quantus on every other metric that both have \| holds \|", BENCHMARK)
