"""Every writer of ours fulfils the contract that third-party writers prove themselves by."""

from __future__ import annotations

import functools
import io
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest

import keepfast
from keepfast.testing import WriterContract

Factory = Callable[[keepfast.WriterContext], keepfast.Writer]


def points(file: Path) -> dict[str, list[tuple[int, float]]]:
    found = keepfast.read_metrics(file)
    return {tag: list(zip(steps.tolist(), values.tolist(), strict=True)) for tag, (steps, values, _) in found.items()}


class TestJsonlWriter(WriterContract):
    precision = 0.0

    @pytest.fixture
    def factory(self) -> Factory:
        from keepfast_writers.jsonl import JsonlWriter

        return JsonlWriter

    def kept(self, directory: Path) -> dict[str, list[tuple[int, float]]]:
        return points(directory / "metrics.jsonl")


class TestConsoleWriter(WriterContract):
    @pytest.fixture
    def factory(self) -> Factory:
        from keepfast_writers.console import ConsoleWriter

        return functools.partial(ConsoleWriter, file=io.StringIO())


@pytest.mark.needs("torch", "tensorboard")
class TestTensorBoardWriterOverTorch(WriterContract):
    @pytest.fixture
    def factory(self) -> Factory:
        from keepfast_writers.tensorboard import TensorBoardWriter

        return functools.partial(TensorBoardWriter, library="torch")

    def kept(self, directory: Path) -> dict[str, list[tuple[int, float]]]:
        return points(directory)


@pytest.mark.needs("tensorboardX")
class TestTensorBoardWriterOverTensorboardX(WriterContract):
    @pytest.fixture
    def factory(self) -> Factory:
        from keepfast_writers.tensorboard import TensorBoardWriter

        return functools.partial(TensorBoardWriter, library="tensorboardX")

    def kept(self, directory: Path) -> dict[str, list[tuple[int, float]]]:
        return points(directory)


class TestCsvWriter(WriterContract):
    precision = 0.0

    @pytest.fixture
    def factory(self) -> Factory:
        from keepfast_writers.csv import CsvWriter

        return CsvWriter

    def kept(self, directory: Path) -> dict[str, list[tuple[int, float]]]:
        return points(directory / "metrics.csv")


WRITERS = {
    "jsonl": ("keepfast_writers.jsonl:JsonlWriter", {}),
    "csv": ("keepfast_writers.csv:CsvWriter", {}),
    "torch": ("keepfast_writers.tensorboard:TensorBoardWriter", {"library": "torch"}),
    "tensorboardX": ("keepfast_writers.tensorboard:TensorBoardWriter", {"library": "tensorboardX"}),
}
NEEDS = {"torch": ("torch", "tensorboard"), "tensorboardX": ("tensorboardX",)}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.needs(*NEEDS[name]) if name in NEEDS else ()) for name in WRITERS]
)
def test_a_flush_waits_for_the_disk(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before a flush is on the disk when it returns, whichever file a writer keeps."""
    durable: dict[str, bytes] = {}
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        durable.update((str(path), path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
        fsync(descriptor)

    place, options = WRITERS[name]
    with pkgutil.resolve_name(place)(keepfast.WriterContext(tmp_path, "run", {}), **options) as writer:
        for step in range(2):
            writer.write_scalars({"a": 1.0}, step, 1.0)
            monkeypatch.setattr(os, "fsync", spy)
            writer.flush()
            monkeypatch.setattr(os, "fsync", fsync)
            assert durable == {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} != {}
