"""Work beside each other: the order of the results, the threads that are used, errors."""

import multiprocessing
import threading

import pytest
import torch

from seewhy.core import tensors
from seewhy.core.tensors import map_in_threads


@pytest.mark.parametrize("threads", [1, 2])
def test_results_come_in_the_order_of_the_items(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    late = threading.Event()

    def slow_first(item: int) -> int:
        if item == 0 and threads > 1:
            assert late.wait(10)
        late.set()
        return item**2

    assert map_in_threads(slow_first, range(5)) == [0, 1, 4, 9, 16]
    assert map_in_threads(slow_first, []) == []


def test_one_thread_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert set(map_in_threads(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}


def test_an_error_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        map_in_threads(lambda item: 1 // item, [1, 0, 2])


def test_a_call_inside_of_another_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    nested = map_in_threads(lambda outer: map_in_threads(lambda inner: outer * inner, range(3)), range(5))
    assert nested == [[outer * inner for inner in range(3)] for outer in range(5)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_threads_are_kept_and_a_forked_process_begins_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    map_in_threads(abs, range(4))
    pool = tensors._find_pool(2)
    assert tensors._find_pool(2) is pool
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as children:
        assert children.apply_async(map_in_threads, (abs, [-1, -2, -3])).get(60) == [1, 2, 3]
