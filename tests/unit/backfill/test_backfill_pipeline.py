"""Reading ahead and doing in order: bounded, in order, each failure once, nothing after it."""

from __future__ import annotations

import threading

import pytest

from xbtmigrate.backfill.pipeline import WorkQueue, read_ahead

SECONDS = 10.0


def test_reads_everything_in_order() -> None:
    assert list(read_ahead(iter(range(100)))) == list(range(100))
    assert list(read_ahead([])) == []
    assert list(read_ahead([None, 0, ""])) == [None, 0, ""]


def test_the_next_item_is_fetched_while_the_caller_works_and_no_more() -> None:
    fetched = [threading.Event() for _ in range(4)]

    def source():
        for number, event in enumerate(fetched):
            event.set()
            yield number

    items = read_ahead(source())
    assert next(items) == 0
    assert fetched[1].wait(SECONDS)
    assert not fetched[2].wait(0.05)
    assert next(items) == 1
    assert fetched[2].wait(SECONDS)
    items.close()
    assert not fetched[3].wait(0.05)


def test_a_failure_comes_after_what_was_read_before_it() -> None:
    def source():
        yield 1
        raise LookupError("gone")

    items = read_ahead(source())
    assert next(items) == 1
    with pytest.raises(LookupError, match="gone"):
        next(items)


def test_work_is_done_in_order_and_waited_for() -> None:
    done: list[int] = []
    with WorkQueue() as later:
        for number in range(50):
            later.do(lambda number=number: done.append(number))
        later.wait()
        assert done == list(range(50))
        later.do(lambda: done.append(50))
    assert done == list(range(51))


def test_what_may_run_beside_does_and_the_rest_waits_for_it() -> None:
    done: list[str] = []
    free = threading.Event()
    with WorkQueue() as later:
        slow = later.begin(lambda: free.wait(SECONDS))
        later.do(lambda: done.append("after the slow one"))
        assert later.begin(lambda: "beside").result(SECONDS) == "beside"
        later.do(lambda: done.append("after both"))
        assert done == []
        free.set()
        later.wait()
        assert slow.result() is True
    assert done == ["after the slow one", "after both"]


def test_what_is_under_way_ends_when_something_else_fails() -> None:
    free, done = threading.Event(), []

    def fail() -> None:
        free.set()
        raise LookupError("gone")

    def finish() -> None:
        free.wait(SECONDS)
        done.append("under way")

    with pytest.raises(LookupError, match="gone"), WorkQueue() as later:  # noqa: PT012
        later.begin(finish)
        later.begin(fail)
    assert done == ["under way"]


def test_the_number_of_what_waits_is_bounded() -> None:
    free, full = threading.Event(), threading.Event()
    with WorkQueue() as later:
        later.begin(lambda: free.wait(SECONDS))
        later.wait_below(2)
        later.begin(lambda: free.wait(SECONDS))
        threading.Thread(target=lambda: (later.wait_below(2), full.set())).start()
        assert not full.wait(0.05)
        free.set()
        assert full.wait(SECONDS)
        free.clear()
        full.clear()
        many = threading.Thread(
            target=lambda: [later.do(lambda: free.wait(SECONDS)) for _ in range(20)] and full.set()
        )
        many.start()
        assert not full.wait(0.05)
        free.set()
        assert full.wait(SECONDS)
        many.join()


def test_nothing_is_done_after_a_failure_which_is_raised_at_the_next_wait() -> None:
    done: list[int] = []

    def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"), WorkQueue() as later:  # noqa: PT012
        later.do(fail)
        with pytest.raises(LookupError):
            later.wait()
        later.do(lambda: done.append(1))
    assert done == []


def test_an_error_outside_lets_the_work_finish() -> None:
    done: list[int] = []
    free = threading.Event()
    with pytest.raises(ValueError, match="outside"), WorkQueue() as later:  # noqa: PT012
        later.do(lambda: free.wait(SECONDS))
        later.do(lambda: done.append(1))
        free.set()
        raise ValueError("outside")
    assert done == [1]


def test_an_interrupt_does_not_wait_and_drops_what_has_not_begun() -> None:
    done: list[int] = []
    begun, free, over = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        free.wait(SECONDS)
        over.set()

    with pytest.raises(KeyboardInterrupt), WorkQueue() as later:  # noqa: PT012
        later.do(slow)
        later.do(lambda: done.append(1))
        assert begun.wait(SECONDS)
        raise KeyboardInterrupt
    assert not over.is_set()
    free.set()
    for thread in later._threads:
        thread.join(SECONDS)
    assert over.is_set()
    assert done == []
