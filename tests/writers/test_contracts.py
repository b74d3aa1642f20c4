"""Every writer of ours fulfils the contract that third-party writers prove themselves by."""

from __future__ import annotations

import functools
import io
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
