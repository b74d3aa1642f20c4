"""What is done at the end of a process and in its forked children, in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

PREPARED = """
import gc, os, sys
from keepfast._system.lifetimes import at_exit, in_child

class Thing:
    def __init__(self, name):
        self.name = name

    def tell(self):
        print(self.name, os.getpid() == first, flush=True)

    def fail(self):
        raise ValueError(self.name)

    def ignore(self):
        pass

first = os.getpid()
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, to its end."""
    whole = PREPARED + textwrap.dedent(program)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", whole], capture_output=True, text=True, timeout=60, check=False
    )


def told(program: str) -> list[str]:
    """Return the lines that a program prints which ends well."""
    ended = run(program)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def test_what_was_named_last_is_done_first_at_exit() -> None:
    """Methods and functions are done in the reverse of the order in which they were named."""
    lines = told("""
        one, two = Thing("one"), Thing("two")
        at_exit(one.tell)
        at_exit(lambda: print("between", flush=True))
        at_exit(two.tell)
        print("end of the program", flush=True)
    """)
    assert lines == ["end of the program", "two True", "between", "one True"]


def test_an_object_that_is_gone_is_not_kept_for_it() -> None:
    """A method goes with its object, which nobody here keeps alive; a function stays."""
    lines = told("""
        gone, alive = Thing("gone"), Thing("alive")
        at_exit(gone.tell), at_exit(alive.tell), at_exit(Thing("nobody's").tell)
        in_child(gone.tell), in_child(alive.tell)
        at_exit(lambda: print("function", flush=True))
        del gone
        gc.collect()
        if hasattr(os, "fork"):
            child = os.fork() or os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        else:
            print("alive False")
    """)
    assert lines == ["alive False", "function", "alive True"]


def test_one_that_raises_at_exit_keeps_no_other_from_being_done() -> None:
    """All are done, and every error is told."""
    ended = run("""
        things = [Thing("one"), Thing("two"), Thing("three")]
        at_exit(things[0].tell), at_exit(things[1].fail), at_exit(things[2].fail), at_exit(things[2].tell)
    """)
    assert ended.stdout.splitlines() == ["three True", "one True"]
    assert "ValueError: two" in ended.stderr
    assert "ValueError: three" in ended.stderr


def test_an_end_without_order_does_nothing() -> None:
    """Where Python itself is not told of the end, nothing is done."""
    assert told("thing = Thing('one'); at_exit(thing.tell); os._exit(0)") == []


@needs_fork
def test_a_child_does_its_part_before_anything_else() -> None:
    """In the order they were named, once in each child and in a child's child, and never in the parent."""
    lines = told("""
        one, two = Thing("one"), Thing("two")
        in_child(one.tell)
        in_child(lambda: print("between", flush=True))
        in_child(two.tell)
        if not (child := os.fork()):
            print("child", flush=True)
            if not (grandchild := os.fork()):
                os._exit(0)
            os._exit(os.waitpid(grandchild, 0)[1])
        assert os.waitpid(child, 0)[1] == 0
        print("parent", flush=True)
    """)
    once = ["one False", "between", "two False"]
    assert lines == [*once, "child", *once, "parent"]


@needs_fork
def test_one_that_raises_in_a_child_keeps_no_other_from_being_done() -> None:
    """The child is made, all are done, and the error is told."""
    ended = run("""
        one, two, three = Thing("one"), Thing("two"), Thing("three")
        in_child(one.tell), in_child(two.fail), in_child(three.tell)
        child = os.fork() or os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """)
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == ["one False", "three False"]
    assert "ValueError: two" in ended.stderr


@needs_fork
def test_a_child_that_ends_in_order_does_what_is_to_be_done_at_exit() -> None:
    """What a child must not finish for its parent, it was told to forget when it was forked."""
    lines = told("""
        one, held = Thing("one"), [Thing("the parent's")]
        at_exit(one.tell), at_exit(held[0].tell), in_child(held.clear)
        if child := os.fork():
            assert os.waitpid(child, 0)[1] == 0
    """)
    assert lines == ["one False", "the parent's True", "one True"]


@needs_fork
def test_naming_in_one_thread_while_another_forks_does_no_harm() -> None:
    """Objects come and go in several threads without a lock that a child could find taken."""
    lines = told("""
        import threading, time
        ended = threading.Event()

        def name():
            while not ended.is_set():
                thing = Thing("passing")
                at_exit(thing.fail), in_child(thing.ignore)
                time.sleep(0)

        threads = [threading.Thread(target=name) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            if not (child := os.fork()):
                in_child(print), at_exit(print)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        ended.set()
        for thread in threads:
            thread.join()
        print("done")
    """)
    assert lines == ["done"]
