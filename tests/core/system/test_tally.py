"""What goes wrong again and again is told once, counted, and told in sum."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping

import pytest

import keepfast
from keepfast._system.tally import Count, Tally


def first(name: str, count: Count) -> str:
    return f"{count.number} {name}: {count.first}, {count.last}"


def summed(counts: Mapping[str, Count]) -> str:
    return "; ".join(first(name, count) for name, count in counts.items() if count.number != count.told)


def told(ask: Callable[[], object]) -> list[str]:
    """Return what is warned of."""
    with warnings.catch_warnings(record=True, action="always") as warned:
        ask()
    assert {warning.category for warning in warned} <= {keepfast.KeepfastWarning}
    return [str(warning.message) for warning in warned]


def test_the_first_time_is_told_once_and_the_sum_at_the_end() -> None:
    """Whatever was counted until then is in the first warning, all of it in the last."""
    tally = Tally()
    tally.count("file", "full")
    tally.count("file", "broken")
    assert told(lambda: tally.tell(first)) == ["2 file: full, broken"]
    tally.count("file", "gone", 3)
    assert told(lambda: tally.tell(first)) == []
    assert tally.numbers == {"file": 5}
    assert told(lambda: tally.tell_sum(summed)) == ["5 file: full, gone"]


def test_each_name_is_told_of_by_itself() -> None:
    """One that comes later is news too, and one message at the end holds them all."""
    tally = Tally()
    tally.count("a", "full")
    assert told(lambda: tally.tell(first)) == ["1 a: full, full"]
    tally.count("b", "gone")
    assert ("a" in tally, "b" in tally, "c" in tally) == (True, True, False)
    assert told(lambda: tally.tell(first)) == ["1 b: gone, gone"]
    tally.count("a", "broken")
    tally.count("b", "broken")
    assert told(lambda: tally.tell_sum(summed)) == ["2 a: full, broken; 2 b: gone, broken"]


def test_what_an_earlier_time_told_is_no_news() -> None:
    """A tally that goes on from another's numbers tells of more only in its sum."""
    tally = Tally()
    tally.resume({"file": 3})
    tally.count("file", "full")
    assert told(lambda: tally.tell(first)) == []
    assert tally.numbers == {"file": 4}


@pytest.mark.parametrize("ask", [lambda tally: tally.tell(first), lambda tally: tally.tell_sum(summed)])
def test_where_nothing_went_wrong_nothing_is_told(ask: Callable[[Tally], object]) -> None:
    """Neither in between nor at the end."""
    assert told(lambda: ask(Tally())) == []


def test_what_was_told_is_not_told_again() -> None:
    """A second sum adds nothing, and what came only after the first is in it."""
    tally = Tally()
    tally.count("file", "full")
    assert told(lambda: tally.tell_sum(summed)) == ["1 file: full, full"]
    assert told(lambda: tally.tell_sum(summed)) == []
    assert told(lambda: tally.tell(first)) == []
    tally.count("file", "gone")
    assert told(lambda: tally.tell(first)) == []
    assert told(lambda: tally.tell_sum(summed)) == ["2 file: full, gone"]


def test_counting_can_begin_anew_after_the_sum() -> None:
    """Numbers and reasons are then of what came since; what was told as the first stays told."""
    tally = Tally()
    tally.count("known", "full")
    tally.tell_sum(lambda _: "")
    tally.count("known", "full")
    tally.count("new", "full")
    assert told(lambda: tally.tell_sum(summed, clear=True)) == ["2 known: full, full; 1 new: full, full"]
    assert tally.numbers == {"known": 0, "new": 0}
    tally.count("known", "gone")
    tally.count("new", "gone")
    assert told(lambda: tally.tell(first)) == ["1 new: gone, gone"]
    assert tally.numbers == {"known": 1, "new": 1}


def test_a_tally_goes_on_from_the_numbers_of_another() -> None:
    """They are no news, but part of the sum, all but what this one told itself."""
    tally = Tally()
    tally.count("a", "full")
    tally.count("b", "full")
    assert len(told(lambda: tally.tell(first))) == 2
    tally.resume({"a": 1, "c": 4})
    assert told(lambda: tally.tell(first)) == []
    assert told(lambda: tally.tell_sum(summed)) == ["4 c: , "]
    tally.count("b", "gone")
    assert told(lambda: tally.tell(first)) == ["1 b: gone, gone"]


def test_a_warning_that_is_turned_into_an_error_keeps_no_other_from_being_told() -> None:
    """The first is raised and names the others, and none of them is told again."""
    tally = Tally()
    tally.count("a", "full")
    tally.count("b", "gone")
    with pytest.raises(keepfast.KeepfastWarning, match="1 a: full") as raised:
        tally.tell(first)
    assert raised.value.__notes__ == ["and then: KeepfastWarning: 1 b: gone, gone"]
    assert told(lambda: tally.tell(first)) == []


def test_many_threads_count_without_losing_one() -> None:
    """Any thread may count while another tells."""
    tally = Tally()
    begin = threading.Barrier(5)

    def count() -> None:
        begin.wait()
        for _ in range(2_000):
            tally.count("file", "full")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    begin.wait()
    messages = [message for _ in range(200) for message in told(lambda: tally.tell(first))]
    for thread in threads:
        thread.join()
    messages += told(lambda: tally.tell(first))
    assert len(messages) == 1
    assert tally.numbers == {"file": 8_000}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_counts_whatever_a_thread_was_at() -> None:
    """A thread in the midst of counting stays with the parent, and keeps no child waiting."""
    program = """
import os, signal, threading
from keepfast._system.tally import Tally

tally, ended = Tally(), threading.Event()

def count():
    while not ended.is_set():
        tally.count("file", "full")

thread = threading.Thread(target=count, daemon=True)
thread.start()
for _ in range(100):
    if not (child := os.fork()):
        signal.alarm(10)
        tally.count("file", "full")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
ended.set()
thread.join()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)
