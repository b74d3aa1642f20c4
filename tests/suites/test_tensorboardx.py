"""tensorboardX's own tests of its SummaryWriter, with Keepfast's writer of TensorBoard's files in its place."""

from __future__ import annotations

import importlib
import itertools
import sys
import unittest
import unittest.mock
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, final

import pytest

import keepfast
from keepfast_writers.tensorboard import TensorBoardWriter
from tests.suites import sources

FOLDER = sources.source("tensorboardx") / "tests"
sources.package(FOLDER, "tensorboardx_tests")
NUMBERS = itertools.count()


@final
class SummaryWriter:
    """A writer of ours, made as SummaryWriter is made, with the few parts of tensorboardX that its tests look at."""

    def __init__(self, logdir: Any = None, *_args: Any, log_dir: Any = None, **_options: Any) -> None:
        directory = Path(logdir or log_dir or f"runs/{next(NUMBERS)}")
        directory.mkdir(parents=True, exist_ok=True)
        self._writer = TensorBoardWriter(keepfast.WriterContext(directory, directory.name))
        file = SimpleNamespace(_file_name=str(self._writer.path))
        self.file_writer: Any = SimpleNamespace(event_writer=SimpleNamespace(_ev_writer=file))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._writer.close()
        self.file_writer = None

    def add_hparams(self, *arguments: Any, name: str | None = None, **options: Any) -> None:
        self._writer.add_hparams(*arguments, run_name=name, **options)  # as torch's SummaryWriter calls it

    def export_scalars_to_json(self, path: str) -> None:
        """Write a file, as tensorboardX alone does, so that the case that calls this goes on."""
        Path(path).write_text("{}", encoding="utf-8")


for missing in ("boto3", "moto"):
    sys.modules.setdefault(missing, unittest.mock.MagicMock())  # of Amazon's storage, which one case is about

OWN = "about functions and files of tensorboardX itself, of which the product has none"
MODULES = {
    path.stem: importlib.import_module(f"tensorboardx_tests.{path.stem}")
    for path in sorted(FOLDER.glob("*test*.py"))
    if path.stem not in {"test_onnx_graph", "test_openvino_graph", "test_lint"}
}
INTERNAL = {
    *("record_writer_test", "event_file_writer_test", "test_crc32c", "test_record_writer", "test_summary", "test_utils")
}
NOT_APPLICABLE = {
    "test_embedding_fail": "expects that images must be square, which torch's and ours need not be",
    "test_flush_timer_is_long_so_data_is_not_there": "expects that data are not on disk yet, which ours are sooner",
    "test_writer_with_default_metadata": "is about `use_metadata`, which torch's SummaryWriter has not",
    "test_write_to_disk_false": "is about `write_to_disk=False`; a run without a writer has `writers: []`",
    "test_reuse_writer_after_closed": "ours says that it was closed, where tensorboardX makes another file",
    "test_writer": "its last lines give `add_images` a list with the letters of one image, which torch's takes not",
    "test_embedding_s3_mock": "is about a bucket of Amazon's as a directory",
}
"""By the name of a case, why it cannot be asked of the product."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("case", "method"), sources.parameters(MODULES))
def test_tensorboardx(case: type[unittest.TestCase], method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each case as it is, over our writer."""
    module = importlib.import_module(case.__module__)
    if case.__module__.rpartition(".")[2] in INTERNAL or not hasattr(module, "SummaryWriter"):
        pytest.skip(OWN)
    if method in NOT_APPLICABLE:
        pytest.skip(NOT_APPLICABLE[method])
    monkeypatch.setattr(module, "SummaryWriter", SummaryWriter)
    sources.run(case, method)
