"""Puts one fault at a time into a copy of the packages, and runs the tests that must notice."""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from mutants.table import Mutant, replaced

PACKAGES = ("core", "backends/torch", "backends/jax", "writers")
"""The folders that the packages are in."""

SECONDS = 180.0
"""How long the tests of one fault may take; beyond that they hang, which nobody overlooks."""

PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=short")
_EXAMPLES = ("-p", "mutants.examples", "--hypothesis-seed=0", "--hypothesis-profile=mutants")
"""The same examples for every fault, and the first that fails is enough."""

FAILED = 1
"""How pytest ends where a test failed. Any other end but success says that the tests could not be run."""

_NOT_COLLECTED = "ERROR collecting"
"""What pytest says where a file of tests cannot even be imported, and ends as if a test had failed."""

Outcome = Literal["killed", "hung", "survived", "broken"]


@final
@dataclass(frozen=True)
class Verdict:
    """What became of one fault.

    Attributes:
        mutant: the fault.
        outcome: ``killed`` by a test; ``hung``, so that everybody would notice; ``survived``; or ``broken``, where the
            tests could not be run.
        output: what pytest said.
    """

    mutant: Mutant
    outcome: Outcome
    output: str

    @property
    def noticed(self) -> bool:
        """Say whether the suite notices the fault."""
        return self.outcome in ("killed", "hung")


@final
class Workshop:
    """A copy of the packages, and beside it copies of the copy, each with one fault.

    Args:
        project: the root of the checkout; tests run there, on the copies.
        directory: an empty directory for the copies.
        packages: the folders that are copied, and that come first where Python looks for modules.
        seconds: how long the tests of one fault may take.
    """

    def __init__(
        self,
        project: Path,
        directory: Path,
        packages: Sequence[str] = PACKAGES,
        seconds: float = SECONDS,
    ) -> None:
        self._project, self._directory, self._packages, self._seconds = project, directory, packages, seconds
        self._sound = directory / "sound"
        for folder in packages:
            shutil.copytree(project / folder, self._sound / folder, ignore=shutil.ignore_patterns("__pycache__"))
        # Compiled once: what is the same in all copies is the same file, with the time that its bytecode is of.
        compileall.compile_dir(self._sound, quiet=2)

    def try_out(self, mutant: Mutant) -> Verdict:
        """Run the tests of a fault with it, and say what became of it.

        Raises:
            TableError: if the fault does not fit the file.
        """
        with self._copy_with(mutant) as copy:
            ended, output = self._run(copy, mutant.tests, self._seconds)
        outcomes: dict[int | None, Outcome] = {None: "hung", 0: "survived", FAILED: "killed"}
        if _NOT_COLLECTED in output:
            return Verdict(mutant, "broken", output)
        return Verdict(mutant, outcomes.get(ended, "broken"), output)

    def failing(self, tests: Sequence[str]) -> str:
        """Run tests without any fault; return what pytest said where they do not all pass, else nothing."""
        ended, output = self._run(self._sound, tests, self._seconds * len(tests))  # what each fault has, for all
        return "" if ended == 0 else output or "they take too long"

    @contextlib.contextmanager
    def _copy_with(self, mutant: Mutant) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._directory) as directory:
            copy = Path(shutil.copytree(self._sound, Path(directory) / "faulty", copy_function=os.link))
            path = copy / mutant.file
            changed = replaced(mutant, path.read_text(encoding="utf-8"))
            for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
                cached.unlink()
            path.unlink()  # it is the sound one's file
            path.write_text(changed, encoding="utf-8")
            yield copy

    def _run(self, copy: Path, tests: Sequence[str], seconds: float) -> tuple[int | None, str]:
        """Return how pytest ended, None where it did not in time, and what it said."""
        with tempfile.TemporaryDirectory(dir=self._directory) as scratch:
            process = subprocess.Popen(
                [*PYTEST, *_EXAMPLES, f"--basetemp={scratch}/tests", *tests],
                cwd=self._project,
                env={**os.environ, **self._environment(copy, Path(scratch))},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                _end(process)
                return None, ""
            return process.returncode, output

    def _environment(self, copy: Path, scratch: Path) -> dict[str, str]:
        folders = [*(str(copy / folder) for folder in self._packages), str(Path(__file__).parent.parent)]
        return {
            "PYTHONPATH": os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(scratch / "hypothesis"),  # no fault leaves its examples behind
            "WANDB_MODE": "offline",
        }


def _end(process: subprocess.Popen[str]) -> None:
    """End a run and whatever it started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def try_all(mutants: Sequence[Mutant], workshop: Workshop, workers: int) -> Iterator[Verdict]:
    """Yield the verdict on each fault, in order, several tried out at a time."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(workshop.try_out, mutants)


def unsound(mutants: Sequence[Mutant], workshop: Workshop, workers: int) -> Iterator[tuple[str, str]]:
    """Yield each file of tests that fail without any fault, which then notice none, with what pytest said."""
    files: dict[str, dict[str, None]] = {}
    for mutant in mutants:
        for test in mutant.tests:
            files.setdefault(test.partition("::")[0], {})[test] = None
    with ThreadPoolExecutor(workers) as pool:
        for path, output in zip(files, pool.map(workshop.failing, map(list, files.values())), strict=True):
            if output:
                yield path, output
