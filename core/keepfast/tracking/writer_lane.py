"""The lane a writer runs in, apart from training and from the other writers."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import final

from keepfast._system.lifetimes import at_exit, in_child
from keepfast.errors import WriterFailed
from keepfast.interfaces.writer import Writer
from keepfast.tracking.unstarted import Unstarted
from keepfast.tracking.writer_call import Call, WriterHealth, describe

QUEUE_BYTES = 64 * 2**20
"""How many bytes may wait for a writer: a hundred thousand values written one by one, or some videos."""

_SLOW_AVERAGE = 0.01
"""A writer whose calls take longer than these seconds on average is slow: training does not wait for it."""

SLOW_CALL = 0.25
"""Nor for one call that takes longer than these seconds."""

HANGING_CALL = 1.0
"""Behind training, a writer is not waited for that has been in one call for longer than these seconds."""

QUARANTINE_AFTER = 10
"""How many failures in a row send a writer into quarantine."""

QUARANTINE_SECONDS = 60.0
"""How long it stays there before it is tried again."""

_TIMED = frozenset(name for name in vars(Writer) if name.startswith("write_")) - {"write_artifact"}
"""The calls that tell a slow writer: a flush waits for a disk, and a file for a network, as they should."""

_EXIT_SECONDS = 10.0
"""How long the end of the interpreter waits for a writer that was not closed."""


@final
class DirectLane:
    """Calls a writer where training stands, so that its error stops training there.

    Args:
        name: the writer's name.
        writer: the writer.
        health: how it fared before; as one that was never called if None.
    """

    unstarted: None = None
    """Its error stops training: a writer that cannot start has no lane."""

    def __init__(self, name: str, writer: Writer, health: WriterHealth | None = None) -> None:
        self.name, self.writer = name, writer
        self.health = WriterHealth() if health is None else health
        self._late: WriterFailed | None = None
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        self._one_at_a_time = threading.RLock()

    def submit(self, call: Call) -> None:
        """Perform a call.

        Raises:
            WriterFailed: from what the writer raised, now or in a flush of `start_flush`.
        """
        with self._one_at_a_time:
            self._perform(call)
        if self._late is not None:
            late, self._late = self._late, None
            raise late

    def _perform(self, call: Call) -> None:
        self.health.calls += 1
        try:
            call.perform(self.writer)
        except Exception as error:
            self.health.failed += 1
            self.health.last_error = error
            raise WriterFailed(f"writer `{self.name}` failed in {call.method}: {describe(error)}") from error
        finally:
            call.finish()

    def ask(self, call: Call, timeout: float) -> bool:
        """Perform a call; it is done when this returns."""
        self.submit(call)
        return True

    def start_flush(self, patience: float) -> Call:
        """Flush, in whatever thread this is and for as long as it takes; an error is raised by the next `submit`."""
        call = Call("flush", awaited=True)
        self.submit_behind(call)
        return call

    def submit_behind(self, call: Call) -> None:
        """Perform a call, in whatever thread this is; an error is raised by the next `submit`."""
        try:
            self.submit(call)
        except WriterFailed as error:
            self._late = error

    def end(self) -> None:
        """Do nothing: there is no thread to end."""


@final
class QueueLane:
    """Calls a writer on a thread of its own, in order, and lets nothing it does reach training.

    What the writer raises is counted. Training waits for room in the queue only while the writer is quick, so that a
    burst of calls loses nothing; for a slow or blocked writer the newest calls are dropped and counted. In a forked
    child the queue starts empty: what was in it is the parent's. At interpreter exit the queue is worked off. Where
    no thread may be started, as at the very end of the interpreter, calls are performed by whoever makes them.

    A writer that could not start is tried again by a later write, with growing pauses. What is written before it
    starts is dropped and counted.

    Args:
        name: the writer's name.
        writer: the writer, or why it could not start.
        health: how it fared before; as one that was never called if None.
    """

    def __init__(self, name: str, writer: Writer | Unstarted, health: WriterHealth | None = None) -> None:
        self.name = name
        self.writer: Writer | None = None if isinstance(writer, Unstarted) else writer
        self.unstarted = writer if isinstance(writer, Unstarted) else None
        self.health = WriterHealth() if health is None else health
        if self.unstarted is not None:
            self.health.last_error = self.unstarted.error
        self._average = 0.0
        self._quarantined_until = 0.0
        self._ended = False
        self._reset()
        at_exit(self._work_off)
        in_child(self._reset)

    def _reset(self) -> None:
        self._calls: deque[Call] = deque()
        self._bytes = 0
        self._started: float | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def submit(self, call: Call) -> None:
        """Queue a call, or drop and count it where the writer is slow and its queue full, or in quarantine."""
        with self._changed:
            # A writer in quarantine is not even woken: that would cost training more than the call itself.
            if self._ended or self._is_left_alone() or not self._wait_for_room(call):
                self._drop(call)
                return
            behind = self._append(call)
        if not behind:
            self._run(in_line=True)

    def ask(self, call: Call, timeout: float) -> bool:
        """Queue an awaited call beyond all limits and wait until it is finished.

        Returns:
            Whether it was finished within `timeout` seconds.
        """
        with self._changed:
            if self._ended:
                self._drop(call)
                return True
            behind = self._append(call)
        if not behind:
            self._run(in_line=True)
        return call.wait(timeout)

    def start_flush(self, patience: float) -> Call | None:
        """Queue a flush and return it, or None where waiting for it is vain: the writer fails, hangs, or was closed.

        So it is, too, where what is queued takes longer than `patience` seconds, going by what took how long so far.
        """
        started = self._started
        hangs = started is not None and time.monotonic() - started > HANGING_CALL
        ill = self._ended or hangs or self.health.failed_in_row or self.unstarted is not None
        if ill or len(self._calls) * self._average > patience:
            return None
        call = Call("flush", awaited=True)
        self.ask(call, 0)
        return call

    def end(self) -> None:
        """End the thread after the call it is in; what still waits is dropped and counted."""
        with self._changed:
            self._ended = True
            self._thread = None
            while self._calls:
                self._drop(self._calls.popleft())
            self._changed.notify_all()

    def _work_off(self) -> None:
        if self.waiting:
            self.ask(Call("flush", awaited=True), _EXIT_SECONDS)

    @property
    def slow(self) -> bool:
        """Say whether the writer is too slow to be waited for."""
        started = self._started
        return self._average > _SLOW_AVERAGE or (started is not None and time.monotonic() - started > SLOW_CALL)

    def submit_behind(self, call: Call) -> None:
        """Queue a call, from whatever thread this is, or drop it as `submit` does."""
        self.submit(call)

    def _is_left_alone(self) -> bool:
        if (unstarted := self.unstarted) is not None:
            return unstarted.rests
        return self.health.quarantined and time.monotonic() < self._quarantined_until

    def _drop(self, call: Call) -> None:
        self.health.dropped += call.method.startswith("write_")
        call.finish()

    def _wait_for_room(self, call: Call) -> bool:
        while self._bytes and self._bytes + call.size > QUEUE_BYTES:
            if self.slow:
                return False
            self._changed.wait(_SLOW_AVERAGE)
        return True

    def _append(self, call: Call) -> bool:
        """Queue a call; says whether there is a thread to perform it, or the caller is to."""
        self._calls.append(call)
        self._bytes += call.size
        self._changed.notify_all()
        return (self._thread is not None and self._thread.is_alive()) or self._start()

    def _start(self) -> bool:
        self._thread = threading.Thread(target=self._run, name=f"writer {self.name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads: the interpreter is on its way out, or the system refuses
            self._thread = threading.current_thread()
            return False
        return True

    def _run(self, *, in_line: bool = False) -> None:
        """Perform what is queued, and what will be until the lane ends; `in_line` only until the queue is empty."""
        me = threading.current_thread()
        while True:
            with self._changed:
                if in_line and not self._calls:
                    self._thread = None
                    return
                self._changed.wait_for(lambda: bool(self._calls) or self._thread is not me)
                if not self._calls:
                    return
                call = self._calls.popleft()
                self._bytes -= call.size
                self._started = time.monotonic()
                self._changed.notify_all()
            self._perform(call)
            with self._changed:
                if self._thread is not me:
                    return
                self._note_time(call)
                self._changed.notify_all()
            del call  # it may hold megabytes of an image

    def _note_time(self, call: Call) -> None:
        if self._started is not None and call.method in _TIMED:
            self._average += 0.1 * (time.monotonic() - self._started - self._average)
        self._started = None

    def _perform(self, call: Call) -> None:
        health = self.health
        if (self._is_left_alone() and call.method not in ("close", "undo")) or (
            writer := self._started_for(call)
        ) is None:
            with self._changed:
                self._drop(call)
            return
        health.calls += 1
        try:
            call.perform(writer)
        except BaseException as error:  # noqa: BLE001  (counted, and told by the thread that trains)
            self._note_failure(error)
        else:
            health.failed_in_row, health.quarantined = 0, False
        call.finish()

    def _started_for(self, call: Call) -> Writer | None:
        """Return the writer, which a write tries to start where it could not; None where there is none."""
        if self.unstarted is not None and call.method.startswith("write_"):
            self.writer = self.unstarted.try_again()
            if self.writer is None:
                self.health.last_error = self.unstarted.error
            else:
                self.unstarted = None
        return self.writer

    def _note_failure(self, error: BaseException) -> None:
        health = self.health
        health.failed += 1
        health.failed_in_row += 1
        health.last_error = error
        if health.failed_in_row >= QUARANTINE_AFTER:
            health.quarantined = True
            self._quarantined_until = time.monotonic() + QUARANTINE_SECONDS

    @property
    def waiting(self) -> int:
        """Return how many calls are not done yet."""
        with self._changed:
            return len(self._calls) + (self._started is not None)


Lane = DirectLane | QueueLane
