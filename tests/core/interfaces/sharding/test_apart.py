"""A format whose processes write before they meet: three messages a checkpoint; threads stand for processes here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
from numpy.typing import NDArray

import keepfast
from keepfast.interfaces.sharding.format import save_together
from keepfast.interfaces.sharding.seal import SEAL, digest_of, read_seal

SIZE = 3
WHOLE = np.arange(24.0).reshape(6, 4)


@final
class Counted(keepfast.Peers):
    """A conversation of threads that counts what is said."""

    def __init__(self, rank: int, barrier: threading.Barrier, said: list[Any]) -> None:
        self.rank, self.size, self.meetings = rank, SIZE, 0
        self._barrier, self._said = barrier, said

    def share(self, value: Any) -> Any:
        return self._all(value)[0]

    def gather(self, value: Any) -> list[Any] | None:
        said = self._all(value)
        return said if self.first else None

    def _all(self, value: Any) -> list[Any]:
        self.meetings += 1
        self._said[self.rank] = value
        self._barrier.wait(timeout=10)
        said = list(self._said)
        self._barrier.wait(timeout=10)
        return said


@final
class ApartStore(keepfast.ShardedFormat):
    """Writes a file for each process, which says of it what `finish_arrays` and the seal are to know."""

    extension = ".apart"
    parts = (SEAL, "*.npy")
    apart = True
    fails = unfinished = unseen = False

    def write_arrays(self, arrays: Mapping[str, Any], directory: Path) -> keepfast.Written:
        if self.fails:
            raise OSError(28, "No space left on device")
        rank = self.peers.rank if self.peers else 0
        np.save(file := directory / f"{rank}.npy", next(iter(arrays.values())).held)
        digest = digest_of(file)
        if self.unseen:
            file.unlink()
        return keepfast.Written(rank, {file.name: digest})

    def finish_arrays(self, directory: Path, told: Sequence[Any]) -> Any:
        if self.unfinished:
            raise OSError(28, "No space left on device")
        np.save(directory / "all.npy", np.zeros(1))
        return list(told)

    def read_arrays(self, directory: Path, told: Any, outlines: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        return {path: np.concatenate([np.load(directory / f"{rank}.npy") for rank in told]) for path in outlines}


def together(path: Path, **faults: Sequence[int]) -> tuple[list[str | None], list[int]]:
    """Save in three threads, of which some have faults; return what each was told, and how often each met."""
    barrier, said = threading.Barrier(SIZE), [None] * SIZE
    told: list[str | None] = [None] * SIZE
    peers = [Counted(rank, barrier, said) for rank in range(SIZE)]

    def work(rank: int) -> None:
        store = ApartStore()
        for fault, ranks in faults.items():
            setattr(store, fault, rank in ranks)
        part = keepfast.ShardedArray(WHOLE.shape, WHOLE.dtype, WHOLE[2 * rank : 2 * rank + 2])
        try:
            about = {"keepfast": "1", "timestep": 5}
            save_together(store, keepfast.Checkpoint({"policy": {"weight": part}}, about), path, peers[rank])
        except keepfast.WriteFailed as error:
            told[rank] = str(error)

    run(work)
    return told, [each.meetings for each in peers]


def run(work: Callable[[int], None]) -> None:
    """Run it in threads, and wait for them."""
    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(SIZE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_they_meet_three_times_and_the_seal_has_every_file(tmp_path: Path) -> None:
    """Where to, what each wrote, and that the first is through; a file of the first's own is read for its digest."""
    path = tmp_path / "agent_5.apart"
    assert together(path) == ([None] * SIZE, [3] * SIZE)
    files = read_seal(path)["files"]
    assert files == {name: digest_of(path / name) for name in ("0.npy", "1.npy", "2.npy", "all.npy")}
    assert np.array_equal(ApartStore().load(path).modules["policy"]["weight"], WHOLE)


@pytest.mark.parametrize("failing", range(SIZE))
def test_a_fault_of_one_is_told_to_all(tmp_path: Path, failing: int) -> None:
    """A checkpoint that one could not write its part of is not there, and the one before is as it was."""
    together(path := tmp_path / "agent_5.apart")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    told, _ = together(path, fails=[failing])
    assert all(f"process {failing}: OSError" in (each or "") for each in told), told
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_a_fault_behind_the_writing_is_told_to_all(tmp_path: Path) -> None:
    """The first alone finishes, when the others wait for its word."""
    told, _ = together(tmp_path / "agent_5.apart", unfinished=[0])
    assert all("process 0: OSError" in (each or "") for each in told), told
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_first_does_not_see_fails_the_checkpoint(tmp_path: Path) -> None:
    """As where processes on two machines have no disk in common."""
    told, _ = together(tmp_path / "agent_5.apart", unseen=[2])
    assert all("`2.npy` was written, and is not in" in (each or "") for each in told), told
    assert list(tmp_path.iterdir()) == []
