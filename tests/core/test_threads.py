"""Work beside each other: the order of the results, the threads that are used, errors."""

import threading

import pytest
import torch

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
