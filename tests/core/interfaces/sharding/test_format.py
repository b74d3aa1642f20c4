"""A directory that several processes write is sealed by the first, or absent; threads stand for processes here."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
from numpy.typing import NDArray

import keepfast
from keepfast._system import commit
from keepfast.interfaces.sharding import format as format_
from keepfast.interfaces.sharding import seal
from keepfast.interfaces.sharding.arrays import holds_shards
from keepfast.interfaces.sharding.format import key_of, save_together
from keepfast.interfaces.sharding.seal import SEAL, digest_of, read_seal, write_seal

SIZE = 3


@final
class Threads(keepfast.Peers):
    """A conversation of threads, each of which says what it has to in its turn."""

    def __init__(self, rank: int, barrier: threading.Barrier, said: list[Any]) -> None:
        self.rank, self.size, self.met = rank, SIZE, 0
        self._barrier, self._said = barrier, said

    def share(self, value: Any) -> Any:
        return self._all(value)[0]

    def gather(self, value: Any) -> list[Any] | None:
        said = self._all(value)
        return said if self.first else None

    def _all(self, value: Any) -> list[Any]:
        self.met += 1
        try:
            self._said[self.rank] = value
            self._barrier.wait(timeout=10)
            said = list(self._said)
            self._barrier.wait(timeout=10)
        except threading.BrokenBarrierError as error:
            raise keepfast.WriteFailed("one is gone") from error
        return said


class RowsStore(keepfast.ShardedFormat):
    """Writes a file for what each process has of an array: some of its rows."""

    extension = ".rows"
    parts = (SEAL, "*.npy")
    fails = False

    def write_arrays(self, arrays: Mapping[str, Any], directory: Path) -> keepfast.Written:
        if self.fails:
            raise OSError(28, "No space left on device")
        rank = self.peers.rank if self.peers else 0
        for path, array in arrays.items():
            if isinstance(array, keepfast.ShardedArray):
                np.save(directory / f"{path}_{rank}.npy", array.held)
            elif rank == 0:
                np.save(directory / f"{path}_0.npy", array)
        return keepfast.Written()

    def read_arrays(
        self, directory: Path, told: Any, outlines: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
    ) -> Mapping[str, NDArray[Any]]:
        found = {path: [np.load(file) for file in sorted(directory.glob(f"{path}_*.npy"))] for path in outlines}
        return {path: np.concatenate(parts) for path, parts in found.items()}


@pytest.mark.needs("ml_dtypes")
class TestContract(keepfast.testing.CheckpointStoreContract):
    """A process by itself keeps the contract of formats where its library takes nothing."""

    plain_arrays = False

    @pytest.fixture
    def store(self) -> keepfast.CheckpointStore:
        return SealStore()


@final
class SealStore(keepfast.ShardedFormat):
    """Leaves all arrays to the seal."""

    extension = ".seal"

    def takes(self, dtype: np.dtype[Any]) -> bool:
        return False

    def write_arrays(self, arrays: Mapping[str, Any], directory: Path) -> keepfast.Written:
        return keepfast.Written()

    def read_arrays(self, directory: Path, told: Any, outlines: Any) -> Mapping[str, NDArray[Any]]:
        return {}


WHOLE = np.arange(24.0).reshape(6, 4)


def checkpoint(rank: int) -> keepfast.Checkpoint:
    """Return what a process has of a checkpoint: two rows of a weight, and all of a bias."""
    part = keepfast.ShardedArray(WHOLE.shape, WHOLE.dtype, WHOLE[2 * rank : 2 * rank + 2])
    about = {"keepfast": "1", "timestep": 5, "module": "policy"}
    return keepfast.Checkpoint({"weight": part, "bias": np.ones(4), "name": "x"}, about)


@final
class ApartStore(RowsStore):
    """Has each process write by itself, and know what it wrote."""

    apart = True
    unfinished = unseen = False

    def write_arrays(self, arrays: Mapping[str, Any], directory: Path) -> keepfast.Written:
        before = set(directory.iterdir())
        super().write_arrays(arrays, directory)
        rank = self.peers.rank if self.peers else 0
        own = [file.name for file in set(directory.iterdir()) - before if file.stem.endswith(f"_{rank}")]
        written = keepfast.Written(sorted(own), {name: digest_of(directory / name) for name in own})
        for name in own if self.unseen else ():
            (directory / name).unlink()
        return written

    def finish_arrays(self, directory: Path, told: Sequence[Any]) -> Any:
        if self.unfinished:
            raise OSError(28, "No space left on device")
        (directory / "names.npy").write_bytes(b"of all")
        return told


def together(
    path: Path,
    prepare: Callable[[int, Any], object] = lambda _rank, _store: None,
    kind: type[keepfast.ShardedFormat] = RowsStore,
    met: set[int] | None = None,
) -> list[str | None]:
    """Save in three threads, and return what each was told, and how often they met."""
    barrier, said = threading.Barrier(SIZE), [None] * SIZE
    told: list[str | None] = [None] * SIZE

    def work(rank: int) -> None:
        store, peers = kind(), Threads(rank, barrier, said)
        try:
            prepare(rank, store)
            save_together(store, checkpoint(rank), path, peers)
        except keepfast.WriteFailed as error:
            told[rank] = str(error)
        except ZeroDivisionError:
            barrier.abort()
        if met is not None:
            met.add(peers.met)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(SIZE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return told


def test_all_write_and_one_reads_the_whole(tmp_path: Path) -> None:
    """Each writes what it has of an array, the first what all have; one by itself reads it all."""
    path = tmp_path / "agent_5.rows"
    assert together(path) == [None] * SIZE
    names = {file.name for file in path.iterdir()}
    assert names == {SEAL, "bias_0.npy", *(f"weight_{rank}.npy" for rank in range(SIZE))}
    found = RowsStore().load(path)
    assert np.array_equal(found.modules["policy"]["weight"], WHOLE)
    assert np.array_equal(found.modules["policy"]["bias"], np.ones(4))
    assert found.about.timestep == 5


@pytest.mark.parametrize(("kind", "most"), [(RowsStore, 5), (ApartStore, 3)])
def test_processes_meet_few_times(tmp_path: Path, kind: type[RowsStore], most: int) -> None:
    """Where to, what each wrote, and that all is through; a library that meets by itself wants them agreed before."""
    met = set[int]()
    assert together(tmp_path / "agent_5.rows", kind=kind, met=met) == [None] * SIZE
    assert met == {most}
    found = kind().load(tmp_path / "agent_5.rows")
    assert np.array_equal(found.modules["policy"]["weight"], WHOLE)


def test_what_a_process_knows_of_its_files_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor fsynced: the first does both to what none tells of; what `finish_arrays` returns stands in the seal."""
    read, synced = list[str](), list[str]()
    monkeypatch.setattr(commit, "sync_named", lambda path: synced.append(path.name))
    monkeypatch.setattr(format_, "digest_of", lambda path: [read.append(path.name), digest_of(path)][1])
    path = tmp_path / "agent_5.rows"
    assert together(path, kind=ApartStore) == [None] * SIZE
    assert (read, sorted(synced)) == (["names.npy"], [SEAL, "names.npy"])
    told = read_seal(path)
    assert told["arrays"] == [["bias_0.npy", "weight_0.npy"], ["weight_1.npy"], ["weight_2.npy"]]
    assert set(told["files"]) == {"bias_0.npy", "names.npy", *(f"weight_{rank}.npy" for rank in range(SIZE))}


def test_processes_settle_what_a_library_wrote_in_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is made durable, and read for its digest, by one process."""
    (tmp_path / "below").mkdir()
    names = ["a", "b", "below/c", "below/d"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    synced = list[Path]()
    monkeypatch.setattr(seal, "sync_named", synced.append)
    shares = [seal.settled(tmp_path, rank, SIZE) for rank in range(SIZE)]
    assert [list(share) for share in shares] == [["a", "below/d"], ["b"], ["below/c"]]
    assert {name: digest for share in shares for name, digest in share.items()} == {
        name: digest_of(tmp_path / name) for name in names
    }
    assert sorted(synced) == [tmp_path / name for name in names]


FAULTS = [*((kind, "fails", rank) for kind in (RowsStore, ApartStore) for rank in range(SIZE))]


@pytest.mark.parametrize(("kind", "attribute", "failing"), [*FAULTS, (ApartStore, "unfinished", 0)])
def test_a_fault_of_any_is_told_to_all(tmp_path: Path, kind: type[RowsStore], attribute: str, failing: int) -> None:
    """Whether in writing or in what the first does at the end; nobody waits, and nothing is there."""
    told = together(tmp_path / "agent_5.rows", lambda rank, store: setattr(store, attribute, rank == failing), kind)
    assert all(f"process {failing}: OSError" in (each or "") for each in told), told
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_first_does_not_see_fails_the_checkpoint(tmp_path: Path) -> None:
    """As where processes on two machines have no disk in common."""
    told = together(tmp_path / "agent_5.rows", lambda rank, store: setattr(store, "unseen", rank == 2), ApartStore)
    assert all("`weight_2.npy` was written, and is not in" in (each or "") for each in told), told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", range(SIZE))
def test_where_one_cannot_write_nothing_is_there_and_all_are_told(tmp_path: Path, failing: int) -> None:
    """A disk that is full under one process fails the checkpoint of all; what was there before stays."""
    together(path := tmp_path / "agent_5.rows")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    told = together(path, lambda rank, store: setattr(store, "fails", rank == failing))
    assert all(f"process {failing}: OSError" in (each or "") for each in told), told
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert [each.name for each in tmp_path.iterdir()] == ["agent_5.rows"]


def test_where_one_is_gone_nothing_is_there_and_the_others_are_told(tmp_path: Path) -> None:
    """Nobody waits for ever, and no directory gets its name."""

    def go(rank: int, _store: RowsStore) -> None:
        if rank == 2:
            raise ZeroDivisionError

    told = together(tmp_path / "agent_5.rows", go)
    assert [each is not None and "one is gone" in each for each in told] == [True, True, False]
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_first_reaches_those_who_follow(tmp_path: Path) -> None:
    """Also one from before anything was to be written, so that they do not wait."""
    (tmp_path / "file").write_text("in the way")
    told = together(tmp_path / "file" / "agent_5.rows")
    assert all(each is not None for each in told)
    assert "the first process could not store a checkpoint" in (told[1] or "")


def test_one_that_has_nothing_to_write_fails_the_checkpoint_before_it_is_begun(tmp_path: Path) -> None:
    """Nobody waits within a library for one that took another turn; the reason is told to all."""
    barrier, said, told = threading.Barrier(SIZE), [None] * SIZE, list[str]()

    def follow(rank: int) -> None:
        store = RowsStore()
        store.peers = Threads(rank, barrier, said)
        told.extend(store.follow({} if rank == 1 else {key_of(checkpoint(rank)): checkpoint(rank)}).reasons)

    threads = [threading.Thread(target=follow, args=(rank,)) for rank in range(1, SIZE)]
    for thread in threads:
        thread.start()
    store = RowsStore()
    store.peers = Threads(0, barrier, said)
    with (
        pytest.raises(keepfast.WriteFailed, match="process 1: InvalidValue: it has no such checkpoint"),
        store.leading(),
    ):
        store.save(checkpoint(0), tmp_path / "agent_5.rows")
    for thread in threads:
        thread.join(30)
    assert len(told) == SIZE - 1
    assert list(tmp_path.iterdir()) == []


def test_a_format_of_one_process_is_refused(tmp_path: Path) -> None:
    """Where an array is spread over processes, a file that one of them writes would hold a part of it."""
    store = keepfast.plugins.registry().get("checkpoint format", "safetensors")()
    with pytest.raises(keepfast.InvalidValue, match=r"ends in \.dcp \(PyTorch\) or \.orbax"):
        save_together(store, checkpoint(0), tmp_path / "x.safetensors", None)
    assert holds_shards(checkpoint(0).state)
    assert not holds_shards({"weight": WHOLE})


def test_checkpoints_of_one_moment_are_told_apart() -> None:
    """By timestep, by whether it is the best, and by module where each has a file."""
    about = [{"timestep": 5}, {"timestep": 6}, {"timestep": 5, "metric": {"tag": "x", "value": 1.0}}]
    keys = {key_of(keepfast.Checkpoint({}, each)) for each in [*about, {"timestep": 5, "module": "policy"}]}
    assert len(keys) == 4


def test_what_is_no_part_of_what_was_written_is_damage(tmp_path: Path) -> None:
    """A file that is missing, changed, cut, or was never there: each is told by its name."""
    together(path := tmp_path / "agent_5.rows")
    file = path / "weight_1.npy"
    content = file.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"\1", b""):
        file.write_bytes(damaged)
        with pytest.raises(keepfast.CorruptCheckpoint, match=r"weight_1\.npy` is damaged"):
            RowsStore().load(path)
    file.unlink()
    with pytest.raises(keepfast.CorruptCheckpoint, match=r"weight_1\.npy` is missing"):
        RowsStore().load(path)
    file.write_bytes(content)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(keepfast.CorruptCheckpoint, match=r"notes\.txt` is no part"):
        RowsStore().load(path)


def test_a_seal_of_a_later_version_is_told(tmp_path: Path) -> None:
    """It is no damage: a later Keepfast reads it."""
    together(path := tmp_path / "agent_5.rows")
    write_seal(path, {**read_seal(path), "version": 2})
    with pytest.raises(keepfast.NewerFormat, match="of the version 2"):
        RowsStore().read(path)


FOREIGN_SEALS: dict[str, bytes | None] = {
    "none": None,
    "of another tool": b'{"files": {}}',
    "empty": b"",
    "short": b"\n01234567\n",
    "no line of its own": b'{"files":{}}01234567\n',
}


@pytest.mark.parametrize("content", FOREIGN_SEALS.values(), ids=FOREIGN_SEALS)
def test_a_directory_without_our_seal_is_not_ours(tmp_path: Path, content: bytes | None) -> None:
    """What another tool wrote under such a name, nobody removes; what is damaged is still ours."""
    store, path = SealStore(), tmp_path / "agent_5.seal"
    store.save(keepfast.Checkpoint({"policy": {"w": WHOLE}}, {"timestep": 5}), path)
    assert store.wrote(path)
    sealed = (path / SEAL).read_bytes()
    (path / SEAL).write_bytes(sealed[:5] + b"~" + sealed[6:])
    assert store.wrote(path)
    (path / SEAL).unlink()
    if content is not None:
        (path / SEAL).write_bytes(content)
    assert not store.wrote(path)


@pytest.mark.skipif(os.name == "nt", reason="links need a right of their own there")
def test_a_link_to_a_seal_is_none(tmp_path: Path) -> None:
    """Whoever made it may have linked any file of ours."""
    store = SealStore()
    store.save(keepfast.Checkpoint({"policy": {"w": WHOLE}}, {"timestep": 5}), tmp_path / "agent_5.seal")
    (tmp_path / "agent_6.seal").mkdir()
    (tmp_path / "agent_6.seal" / SEAL).symlink_to(tmp_path / "agent_5.seal" / SEAL)
    assert not store.wrote(tmp_path / "agent_6.seal")
