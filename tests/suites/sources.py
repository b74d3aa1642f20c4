"""The tests that peers ship with their sources: unpacked, imported, and run one by one."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import tarfile
import unittest
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.suites.conftest import SOURCES


def source(name: str) -> Path:
    """Return the folder of a peer's sources, which are unpacked beside what was downloaded."""
    folder = Path(SOURCES)
    pattern = re.compile(rf"{re.sub('[-_.]+', '[-_.]+', name)}-[0-9].*\.tar\.gz", re.IGNORECASE)
    (archive,) = (path for path in folder.iterdir() if pattern.fullmatch(path.name))
    unpacked = folder / "unpacked"
    with tarfile.open(archive) as file:
        root = file.getnames()[0].partition("/")[0]
        if not (unpacked / root).is_dir():
            file.extractall(unpacked, filter="data")
    return unpacked / root


def package(folder: Path, name: str) -> None:
    """Let the modules of a folder be imported as those of a package of another name."""
    spec = importlib.util.spec_from_loader(name, loader=None, is_package=True)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    made.__path__ = [str(folder)]
    sys.modules[name] = made


def cases(module: ModuleType) -> Iterator[tuple[type[unittest.TestCase], str]]:
    """Yield the cases of a module's TestCases, by class and method."""
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__module__ == module.__name__:
            for method in unittest.defaultTestLoader.getTestCaseNames(value):
                yield value, method


def parameters(modules: Mapping[str, ModuleType | str]) -> list[Any]:
    """Return all cases of some modules as parameters; a reason in the place of a module says why it does not apply."""
    return [
        pytest.param(case, method, id=f"{name}-{method}")
        for name, module in modules.items()
        if isinstance(module, ModuleType)
        for case, method in cases(module)
    ]


def run(case: type[unittest.TestCase], method: str) -> None:
    """Run one case as it is."""
    try:
        case(method).debug()
    except unittest.SkipTest as skipped:
        pytest.skip(f"the peer skips it itself: {skipped}")
