"""A number of the documents that stands in a committed result equals it."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain

import pytest
from scipy.stats import binomtest

from conftest import ROOT
from seewhy.analyses.audit.groups import ALIKE as SAME
from seewhy.analyses.audit.proof import SCREENED
from seewhy.analyses.compare.measure import MARGIN
from seewhy.analyses.ground_truth.networks import BATCH
from seewhy.analyses.ground_truth.pool import LARGEST as LARGEST_POOL
from seewhy.data.loading import LARGEST_BATCH
from seewhy.explainers.batch import DECIDED
from seewhy.runs.precision import LEAST
from seewhy.runs.scores import DRAWN
from seewhy.statistics.intervals import RESAMPLES
from seewhy.statistics.verdict import ALIKE, CHEAP, DEAR, INCOMPLETE, MOST_REMOVERS, PANEL

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


def read_peer(model: str, library: str) -> tuple[str, str]:
    """The smallest and the largest ratio of a library on a network; pixel flipping has a goal of its own."""
    rows = csv.DictReader((ROOT / "logbook" / "benchmark.csv").read_text().splitlines())
    found = [row for row in rows if (row["part"], row["model"]) == ("peer", model) and row["ratio"]]
    ratios = [float(row["ratio"]) for row in found if row["setting"].startswith(library) and row["name"] != "deletion"]
    return f"{min(ratios):.2f}", f"{max(ratios):.2f}"


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


def hours(forward: int, backward: int, threads: int = 2, share: float = 1) -> str:
    """What a share of a million images takes on so many threads, where two have the benchmark's pace."""
    alone, gradient = read_pace()
    value = share * 1e6 * (max(forward - backward, 0) / alone + backward / gradient) / 3600 * 2 / threads
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.1f}"


def count_recommended(model: str) -> tuple[str, ...]:
    """Of the networks of a model: those that the rule is right on and all of them, the interval of the share in percent, the
    best fixed method with those that it is right on, and those without an answer."""
    rows = list(csv.DictReader((ROOT / "logbook" / "recommendation.csv").read_text().splitlines()))
    rows = [row for row in rows if row["model"].startswith(model)]
    preferred = [row["preferred"].split(" or ") for row in rows]
    right, total = sum(row["recommended"] in each for row, each in zip(rows, preferred, strict=True)), len(rows)
    (best, count), *_ = sorted(Counter(chain.from_iterable(preferred)).items(), key=lambda each: (-each[1], each[0]))
    low, high = binomtest(right, total).proportion_ci(0.95, method="wilsoncc")
    silent = sum(row["recommended"] == "none" for row in rows)
    numbers = f"{right} {total} {100 * low:.0f} {100 * high:.0f} {best} {count} {total} {silent}"
    return tuple(numbers.split())


def read_training(model: str) -> tuple[str, str]:
    """Minutes and threads of a training, as its card has them."""
    card = (ROOT / "src/seewhy/weights" / f"{model}.md").read_text()
    minutes, threads = re.search(r"- Training: (\d+) minutes on cpu with (\d) thread", card).groups()  # type: ignore[union-attr]
    return minutes, {"1": "one thread", "2": "two threads"}[threads]


def read_setting(choice: str, key: str) -> float:
    """A number of a yaml file, wherever it stands in it."""
    return float(re.search(rf"^ *{key}: ([\d._]+)", (ROOT / "configs" / choice).read_text(), re.MULTILINE)[1])  # type: ignore[index]


Claim = tuple[str, str, Callable[[], tuple[str, ...]]]
MODELS = ("cifar_cnn", "vgg16_cifar", "mobilenetv3", "vit_cifar")
LITE = "on efficientnet_lite0"
RATIOS = {
    r"its defaults \(([\d.]+) to ([\d.]+) times as fast": f"never slower than Captum's defaults {LITE}",
    r"than Quantus' \(([\d.]+) to ([\d.]+) times\)": f"faster than Quantus on every other metric that both have {LITE}",
}
ELSEWHERE = {
    r"on VGG16 Captum takes ([\d.]+) to ([\d.]+) times": ("vgg16", "captum"),
    r"our time, Quantus ([\d.]+) to ([\d.]+) times; on the": ("vgg16", "quantus"),
    r"transformer Captum takes ([\d.]+) to ([\d.]+) times": ("vit_tiny_patch16_224", "captum"),
    r"and Quantus ([\d.]+) to ([\d.]+) times\. So": ("vit_tiny_patch16_224", "quantus"),
}
"""A peer on networks without normalisations to fold."""
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
    for words, peer in ELSEWHERE.items():
        yield "docs/benchmark.md", words, lambda peer=peer: read_peer(*peer)
    words = r"take ([\d.]+) times the steps .*? and are ([\d.]+) times as fast as Captum with those"
    yield "docs/benchmark.md", words, read_adaptive
    words = r"measured (\d+) forward passes .*? and (\d+) with the gradient"
    yield "docs/scale.md", words, lambda: tuple(map(str, read_pace()))
    for words, passes in HOURS.items():
        row = words + r" \| ([\d.,]+) \| ([\d.,]+)"
        yield "docs/scale.md", row, lambda passes=passes: (hours(*passes), hours(*passes, threads=64))
    for label, model in {"both": "", "`cifar_cnn`": "cifar_cnn", "`test_resnet`": "test_resnet"}.items():
        row = label + r" \| (\d+) of (\d+) \[(\d+), (\d+)\] % \| `(\w+)`, (\d+) of (\d+) \| (\d+) \|"
        yield "docs/verdict.md", row, lambda model=model: count_recommended(model)
    for cost, passes in {r"hours of two threads: saliency": (1, 1), r"insertion at 50 steps": (101, 1)}.items():
        row = cost + r" \| ([\d.,]+) \| ([\d.,]+) \| \|"
        yield "docs/scale.md", row, lambda passes=passes: (hours(*passes, share=0.1), hours(*passes, share=100))
    for experiment, model in {"cnn": "cifar_cnn", "vgg16": "vgg16_cifar"}.items():
        row = rf"experiment=cifar10_{experiment} data.root=FOLDER # (\d+) minutes on (\w+ threads?)"
        yield "docs/howto/train.md", row, lambda model=model: read_training(model)
    yield "docs/howto/inner.md", r"([\d,]+) training and 1,000 test images", read_training_images
    yield from list_limits()


def read_training_images() -> tuple[str, ...]:
    return tuple(re.findall(r"([\d,]+) training and", (ROOT / "src/seewhy/weights/cifar_cnn.md").read_text()))


def list_limits() -> Iterator[Claim]:
    """What prose says of limits that the code holds."""
    gap, alike, most = f"{100 * INCOMPLETE:.0f}", f"{ALIKE:g}", str(MOST_REMOVERS)
    limits: dict[str, dict[str, tuple[str, ...]]] = {
        "docs/verdict.md": {
            r"whole interval above (\d+) %": (gap,),
            r"interval below ([\d.]+), and significantly below the control \| whole interval above ([\d.]+)": (
                alike,
                alike,
            ),
            r"interval above ([\d.]+), and significantly above the control \| whole interval below ([\d.]+)": (
                alike,
                alike,
            ),
            r"at least (\d) of (\d) \| a control significantly better under at least (\d)": (most, str(PANEL), most),
            r"up to (\d+) passes \| above ([\d,]+) passes": (str(CHEAP), f"{DEAR:,}"),
        },
        "docs/trust.md": {r"say where more than (\d+) % of the map changes": (f"{100 * DECIDED:.0f}",)},
        "docs/compare.md": {r"lies wholly below -([\d.]+),": (f"{MARGIN:g}",)},
        "docs/precision.md": {r"where one agrees by less than ([\d.]+)": (f"{LEAST:g}",)},
        "docs/audit.md": {
            r"Jaccard index of ([\d.]+) are one": (f"{SAME:g}",),
            r"a first look at (\d+) images": (str(SCREENED),),
        },
        "docs/ground_truth.md": {
            r"at most ([\d,]+) of each part": (f"{LARGEST_POOL:,}",),
            r"At most (\d+) images are in a network at once": (str(BATCH),),
        },
        "docs/scale.md": {
            r"cut by position in the data set \(at most (\d+) images\)": (str(LARGEST_BATCH),),
            r"at most (\d+)\), a map under each name": (str(LARGEST_BATCH),),
            r"\(([\d,]+) resamples\)": (f"{RESAMPLES:,}",),
            r"and the curves of the first ([\d,]+) images for `curves.png`": (f"{DRAWN:,}",),
        },
        "docs/run_folder.md": {
            r"each of the first (\d+) explanations .* and the first (\d+) at a glance": tuple(
                f"{read_setting('callbacks/figures.yaml', key):.0f}" for key in ("limit", "maximum")
            )
        },
        "docs/howto/train.md": {
            r"Of each class (\d+) % choose the best weights and (\d+) %": tuple(
                f"{100 * read_setting('data/folder.yaml', key):.0f}" for key in ("validation", "test")
            )
        },
    }
    for document, claims in limits.items():
        for words, stated in claims.items():
            yield document, words, lambda stated=stated: stated


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
    where = r"on efficientnet_lite0 \| holds \|"
    assert re.search(rf"never slower than Captum's defaults {where}", BENCHMARK)
    assert re.search(rf"faster than Quantus on every other metric that both have {where}", BENCHMARK)


TRAINED = {
    re.search(r"experiment=(\w+)", path.read_text())[1]: path.stem  # type: ignore[index]
    for path in sorted((ROOT / "src/seewhy/weights").glob("*.md"))
    if "experiment=" in path.read_text()
}


@pytest.mark.parametrize("experiment", sorted(TRAINED))
def test_the_cost_and_accuracy_of_an_experiment_are_those_of_its_card(experiment: str) -> None:
    text = (ROOT / "configs" / "experiment" / f"{experiment}.yaml").read_text()
    minutes, threads = read_training(TRAINED[experiment])
    assert f"# cost:     {minutes} minutes on {threads}\n" in text
    (accuracy,) = re.findall(r"# expected: test accuracy ([\d.]+)", text)
    assert float(accuracy) == round(float(read_accuracy(TRAINED[experiment])) / 100, 2)


def test_what_an_installation_takes_is_said_once() -> None:
    """Minutes and gigabytes of the first command: README, getting started, Makefile."""
    texts = [DOCUMENTS["README.md"], DOCUMENTS["docs/start.md"], (ROOT / "Makefile").read_text()]
    for words in (r"(\d+ to \d+ minutes)", r"about ([\d.]+ GB)"):
        stated = [set(re.findall(words, text)) for text in texts]
        assert all(len(each) == 1 for each in stated), stated
        assert len(set.union(*stated)) == 1, stated
