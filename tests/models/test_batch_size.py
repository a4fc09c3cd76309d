"""Choosing the batch size: from timings that are given, kept in a cache that may be missing or broken."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seewhy.core.tensors import is_out_of_memory
from seewhy.models import batched
from seewhy.models.batched import BatchedEvaluator, estimate_batch_size, find_batch_size
from seewhy.models.classifier import Classifier, Passes
from tiny import classifier_of, random_images, small_cnn

IMAGE = random_images(1, 32)[0]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "seewhy" / "batch_sizes.json"


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float | list[float] | None]], list[int]]:
    """Replace the clock: seconds of one pass for each size (a list: one after the other; None: out of memory)."""

    def install(table: dict[int, float | list[float] | None]) -> list[int]:
        calls: list[int] = []

        def seconds(classifier: Classifier, image: torch.Tensor, size: int, gradient: bool) -> float | None:
            calls.append(size)
            entry = table.get(size)
            return entry.pop(0) if isinstance(entry, list) else entry

        monkeypatch.setattr(batched, "_time_pass", seconds)
        return calls

    return install


PER_IMAGE = {1: 0.02, 2: 0.024, 4: 0.028, 8: 0.04, 16: 0.1, 32: 0.3, 64: 0.7}


def test_the_size_with_the_most_images_a_second_wins(cache: Path, timings: Callable[..., list[int]]) -> None:
    timings(dict(PER_IMAGE))
    assert find_batch_size(small_cnn(), IMAGE, gradient=False) == 8


def test_a_larger_size_must_gain_more_than_three_percent(cache: Path, timings: Callable[..., list[int]]) -> None:
    timings({1: 0.010, 2: 0.010, 4: 0.0197, 8: 0.039})
    assert find_batch_size(small_cnn(), IMAGE, gradient=False) == 2


def test_sizes_that_do_not_fit_or_last_too_long_are_not_tried_again(
    cache: Path, timings: Callable[..., list[int]]
) -> None:
    calls = timings({1: 0.1, 2: 0.1, 4: None, 8: 0.001})
    assert find_batch_size(small_cnn(), IMAGE, gradient=False) == 2
    assert max(calls) == 4
    assert calls.count(4) == 1
    calls = timings({1: 0.1, 2: 0.6, 4: 0.001})
    find_batch_size(small_cnn(), IMAGE, gradient=True)
    assert max(calls) == 2


def test_a_long_pass_that_gains_much_is_followed_by_a_longer_one(
    cache: Path, timings: Callable[..., list[int]]
) -> None:
    """As transformers do, which read their weights once a pass: half a second an image, then a quarter."""
    calls = timings({1: 0.52, 2: 0.7, 4: 1.01, 8: 2.0})
    assert find_batch_size(small_cnn(), IMAGE, gradient=False) == 4
    assert set(calls) == {1, 2, 4}
    calls = timings({1: 0.3, 2: 0.56, 4: 0.001})
    assert find_batch_size(small_cnn(), IMAGE, gradient=True) == 2
    assert set(calls) == {1, 2}


def test_a_size_that_stops_fitting_is_left_out(cache: Path, timings: Callable[..., list[int]]) -> None:
    """8 would win; memory runs out when it is timed for the second time, and 4 is next."""
    calls = timings({1: 0.1, 2: 0.1, 4: 0.1, 8: [0.1, 0.1, None], 16: None})
    assert find_batch_size(small_cnn(), IMAGE, gradient=False) == 4
    assert calls.count(8) == 3


def test_the_size_is_kept_and_read_again(cache: Path, timings: Callable[..., list[int]]) -> None:
    timings(dict(PER_IMAGE))
    assert find_batch_size(small_cnn(), IMAGE, gradient=False) == 8
    assert list(json.loads(cache.read_text()).values()) == [8]
    calls = timings({1: 0.1, 2: 0.1})
    assert find_batch_size(small_cnn(seed=1), IMAGE, gradient=False) == 8
    assert calls == []


def test_each_kind_of_pass_image_size_and_number_of_threads_has_its_own_entry(
    cache: Path, timings: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = timings(dict(PER_IMAGE))
    for image, gradient in ((IMAGE, False), (IMAGE, True), (IMAGE[:, :16], False)):
        calls.clear()
        find_batch_size(small_cnn(), image, gradient)
        assert calls
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    calls.clear()
    find_batch_size(small_cnn(), IMAGE, gradient=False)
    assert calls
    assert len(json.loads(cache.read_text())) == 4


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null", '"text"'])
def test_a_broken_cache_is_measured_anew_and_mended(
    cache: Path, timings: Callable[..., list[int]], content: str
) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    timings(dict(PER_IMAGE))
    assert find_batch_size(small_cnn(), IMAGE, gradient=False) == 8
    assert list(json.loads(cache.read_text()).values()) == [8]


@pytest.mark.parametrize("value", ["many", None, 0, -4, 2.5, True, [8]])
def test_an_entry_that_is_no_size_is_measured_anew(
    cache: Path, timings: Callable[..., list[int]], value: object
) -> None:
    timings(dict(PER_IMAGE))
    find_batch_size(small_cnn(), IMAGE, gradient=False)
    cache.write_text(json.dumps(dict.fromkeys(json.loads(cache.read_text()), value)))
    assert find_batch_size(small_cnn(), IMAGE, gradient=False) == 8
    assert list(json.loads(cache.read_text()).values()) == [8]


def test_a_cache_that_cannot_be_written_does_not_matter(
    tmp_path: Path, timings: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    timings(dict(PER_IMAGE))
    assert find_batch_size(small_cnn(), IMAGE, gradient=False) == 8


def test_on_a_busy_machine_the_usual_size_is_taken_and_kept_for_the_same_command(
    cache: Path, timings: Callable[..., list[int]]
) -> None:
    timings({1: 0.1, 2: [0.1, 0.1, 0.2, 0.4]})
    assert find_batch_size(small_cnn(), IMAGE, gradient=False) == estimate_batch_size(IMAGE)
    timings(dict(PER_IMAGE))
    assert find_batch_size(small_cnn(), IMAGE, gradient=False) == estimate_batch_size(IMAGE)
    assert list(json.loads(cache.read_text()).values()) == [estimate_batch_size(IMAGE)]


def test_a_classifier_keeps_the_size_that_it_began_with(
    tmp_path: Path, timings: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing can be kept on disk, and where the number of threads changes on the way."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    classifier = small_cnn()
    timings(dict(PER_IMAGE))
    assert find_batch_size(classifier, IMAGE, gradient=False) == 8
    calls = timings({1: 0.1, 2: 0.1})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert BatchedEvaluator(classifier, IMAGE).find_limit(gradient=False) == 8
    assert calls == []
    assert find_batch_size(classifier, IMAGE, gradient=True) == 2
    assert classifier.batch_sizes == {"forward 3x32x32": 8, "gradient 3x32x32": 2}


def test_a_size_that_did_not_fit_is_not_tried_again(cache: Path, timings: Callable[..., list[int]]) -> None:
    class Crowded(torch.nn.Flatten):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 4:
                raise torch.OutOfMemoryError
            return super().forward(images)[:, :4]

    classifier = classifier_of(Crowded(), 32, 4)
    timings(dict(PER_IMAGE))
    BatchedEvaluator(classifier, IMAGE).compute_logits(random_images(8, 32))
    assert classifier.batch_sizes == {"forward 3x32x32": 4}
    assert BatchedEvaluator(classifier, IMAGE).find_limit(gradient=False) == 4


@pytest.mark.parametrize(("side", "size"), [(224, 8), (32, 256), (448, 2), (2000, 1), (300, 4)])
def test_the_usual_size_keeps_the_number_of_pixels(side: int, size: int) -> None:
    assert estimate_batch_size(torch.empty(3, side, side, device="meta")) == size


def test_measuring_really_runs_and_counts_no_passes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "CANDIDATES", {"cpu": (1, 2)})
    monkeypatch.setattr(batched, "LARGEST_SPREAD", float("inf"))
    classifier = small_cnn()
    classifier(IMAGE[None])
    before = classifier.passes.forward, classifier.passes.backward
    with classifier.frozen():
        evaluator = BatchedEvaluator(classifier, IMAGE, "auto")
        assert evaluator.find_limit(True) in (1, 2)
        assert evaluator.find_limit(False) in (1, 2)
    assert (classifier.passes.forward, classifier.passes.backward) == before == (1, 0)
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_memory_that_runs_out_while_measuring_ends_it(cache: Path) -> None:
    class Crowded(torch.nn.Flatten):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 2:
                raise torch.OutOfMemoryError
            return super().forward(images)[:, :4]

    classifier = classifier_of(Crowded(), 32, 4)
    assert find_batch_size(classifier, IMAGE, gradient=False) in (1, 2, estimate_batch_size(IMAGE))
    assert classifier.passes == Passes()


def test_an_error_of_the_network_is_not_hidden_by_measuring(cache: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        find_batch_size(classifier_of(Broken(), 32, 4), IMAGE, gradient=False)


def test_what_counts_as_out_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert is_out_of_memory(RuntimeError("MPS backend out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("expected scalar type Float"))
    assert not is_out_of_memory(ValueError("memory"))
