"""The contract of writers accepts a complete one, and catches each way of getting it wrong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast.testing import WriterContract


class LineWriter(keepfast.Writer):
    """A complete writer: a line a value, in the file when the write returns."""

    def __init__(self, context: keepfast.WriterContext) -> None:
        self.path = context.directory / "lines"
        if context.resume_step is not None and self.path.exists():
            kept = [line for line in self.path.read_text().splitlines() if json.loads(line)[0] <= context.resume_step]
            self.path.write_text("".join(f"{line}\n" for line in kept))

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps([step, tag, value]) + "\n" for tag, value in scalars.items())


class LineContract(WriterContract):
    """The contract with a reader of lines; not collected, since its name does not say Test."""

    def kept(self, directory: Path) -> dict[str, list[tuple[int, float]]]:
        found: dict[str, list[tuple[int, float]]] = {}
        path = directory / "lines"
        for line in path.read_text().splitlines() if path.exists() else ():
            step, tag, value = json.loads(line)
            found.setdefault(tag, []).append((step, value))
        return found


class TestLineWriter(LineContract):
    @pytest.fixture
    def factory(self) -> Callable[[keepfast.WriterContext], keepfast.Writer]:
        return LineWriter


class TestMultiWriter(LineContract):
    """Several writers behind one are a writer too."""

    @pytest.fixture
    def factory(self) -> Callable[[keepfast.WriterContext], keepfast.Writer]:
        def make(context: keepfast.WriterContext) -> keepfast.Writer:
            return keepfast.MultiWriter({"line": LineWriter(context)})

        return make


class RewritesTags(LineWriter):
    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        super().write_scalars({tag.replace(" ", "_"): value for tag, value in scalars.items()}, step, wall_time)


class DropsNan(LineWriter):
    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        super().write_scalars({tag: value for tag, value in scalars.items() if value == value}, step, wall_time)


class KeepsFirstTagsOnly(LineWriter):
    columns: set[str] | None = None

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self.columns = set(scalars) if self.columns is None else self.columns
        super().write_scalars({tag: value for tag, value in scalars.items() if tag in self.columns}, step, wall_time)


class WritesAtClose(LineWriter):
    """Keeps everything back until it is closed, whatever flush was asked for."""

    def __init__(self, context: keepfast.WriterContext) -> None:
        super().__init__(context)
        self.held: list[tuple[dict[str, float], int, float]] = []

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self.held.append((dict(scalars), step, wall_time))

    def close(self) -> None:
        for held in self.held:
            super().write_scalars(*held)
        self.held.clear()


class ClosesOnce(LineWriter):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise ValueError("closed already")
        self.closed = True


class IgnoresResume(LineWriter):
    def __init__(self, context: keepfast.WriterContext) -> None:
        super().__init__(keepfast.WriterContext(context.directory, context.experiment_name))


class HasAStateOfObjects(LineWriter):
    def state_dict(self) -> dict[str, Any]:
        return {"writer": self}


class IsSlow(LineWriter):
    """Sorts all that it ever wrote at every write."""

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        super().write_scalars(scalars, step, wall_time)
        lines = self.path.read_text().splitlines()
        self.path.write_text("".join(f"{line}\n" for line in sorted(lines, key=lambda line: json.loads(line)[0])))


class RoundsValues(LineWriter):
    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        super().write_scalars({tag: float(f"{value:.6g}") for tag, value in scalars.items()}, step, wall_time)


class FailsOnTexts(LineWriter):
    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        raise NotImplementedError


class ExpectsWhatItWrote(LineWriter):
    def __init__(self, context: keepfast.WriterContext) -> None:
        super().__init__(context)
        if context.resume_step is not None:
            self.path.read_text()


class KeepsToItsThread(LineWriter):
    """Uses a connection that, as SQLite's by default, serves the thread alone that made it."""

    def __init__(self, context: keepfast.WriterContext) -> None:
        super().__init__(context)
        self.connection = sqlite3.connect(context.directory / "lines.db")

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self.connection.execute("select 1")
        super().write_scalars(scalars, step, wall_time)

    def close(self) -> None:
        self.connection.close()


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (RewritesTags, "test_every_value_is_kept_under_its_tag_and_step"),
        (RoundsValues, "test_values_have_the_precision_that_is_promised"),
        (DropsNan, "test_values_that_are_not_finite_are_kept"),
        (KeepsFirstTagsOnly, "test_tags_may_come_and_go"),
        (WritesAtClose, "test_what_was_flushed_survives_a_kill"),
        (ClosesOnce, "test_closing_twice_is_harmless"),
        (IgnoresResume, "test_a_resumed_run_overlaps_nothing"),
        (HasAStateOfObjects, "test_its_state_travels_with_checkpoints"),
        (IsSlow, "test_writing_stays_within_its_budget"),
        (ExpectsWhatItWrote, "test_a_resumed_run_may_begin_with_it"),
        (KeepsToItsThread, "test_it_may_be_called_from_another_thread_than_made_it"),
        (FailsOnTexts, "test_other_kinds_are_kept_or_declined"),
    ],
)
def test_a_broken_writer_is_caught(broken: type[LineWriter], test: str, tmp_path: Path) -> None:
    """Each way of getting a writer wrong fails the test of that promise."""
    contract = TestLineWriter()
    context = keepfast.WriterContext(tmp_path, "run")
    with pytest.raises((AssertionError, ValueError, TypeError, NotImplementedError, OSError, sqlite3.Error)):
        getattr(contract, test)(broken, context)
    intact = tmp_path / "intact"
    intact.mkdir()
    getattr(contract, test)(LineWriter, keepfast.WriterContext(intact, "run"))
