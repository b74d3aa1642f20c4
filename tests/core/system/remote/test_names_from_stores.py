"""What a store, or what is kept here of one, names: nothing outside the spool is written or removed, whatever it is."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

import keepfast
from keepfast._system.remote.addresses import Address, is_below
from keepfast._system.remote.elsewhere import bring
from keepfast._system.remote.lease import leased_until
from keepfast._system.remote.record import Part, Record
from keepfast._system.remote.spool import claim, directory_of, within
from keepfast._system.remote.store import Store
from keepfast.checkpoints.index import IndexedCheckpoint, IndexedFile, index_of
from keepfast.errors import KeepfastError, RemoteError
from keepfast.runs.listing.index import INDEX, entries_of
from keepfast.runs.uploading.listing import list_remote_runs, unfinished
from tests.core.stores import Bucket, cfg, telling

pytestmark = pytest.mark.needs("fsspec")

CONFIG = b'{"agent": "PPO", "timesteps": 10, "config": {}}'

OUTSIDE = [*(f"{'../' * depth}victim" for depth in range(2, 7)), "a/../../../../../../victim", "{tmp}/victim"]
"""Names that lead out of the spool, from one directory of it or another, and to what lies beside it."""

LEADING = [*OUTSIDE, "..", "../", ".", "./x", "a//b", "/", "a/", "a/..", "\0", "a\0b", "a\\..\\b", "\\victim"]
"""Names of which nothing is taken."""

ODD = ["n" * 300, f"x/{'n' * 300}/y", "...", "..x", "\x1b[2J", "x\ny", "é"]
"""Names that stand for something below, whether or not a file can be named so."""


def line(name: str, *, latest: Any = "{}", **other: Any) -> str:
    """Return the line of a run that was killed, with other values at some places."""
    about: list[Any] = [name, "PPO", 3, 10, "", None, "max", 1.0, 5, "killed", None, 1.0, 1.0, "", []]
    for place, value in other.items():
        about[int(place[1:])] = value
    return f'"{"-" * 16}"\t{json.dumps(about)}\t{{}}\t{latest}'


def index(*names: str) -> bytes:
    """Return an index of checkpoints, each a directory of a name."""
    file = BytesIO()
    rows = [IndexedCheckpoint(5, False, {"agent": IndexedFile(name, 10, "")}, ("policy",)) for name in names]
    index_of(rows)(file)
    return file.getvalue()


def started(resume: str = "latest") -> None:
    """Start a run, which resumes, and end it."""
    with keepfast.Experiment(cfg(upload_patience=0.2), name="PPO", timesteps=10) as experiment:
        experiment.register(policy={"w": np.zeros(1)})
        experiment.resume(resume)


def listed(bucket: Bucket, name: str) -> None:
    """Lines and an index of runs, and runs themselves."""
    bucket.write(f"bucket/runs/.keepfast.lines/{quote(name, safe='')}", line(name).encode())
    bucket.write(f"bucket/runs/{INDEX}", f'{{"keepfast.runs": 1}}\n{line(name)}\n'.encode())
    bucket.write(f"bucket/runs/{name}/config.json", CONFIG)
    bucket.write(f"bucket/runs/{name}/checkpoints/index.json", index())
    bucket.write(f"bucket/runs/{name}/owned.txt", b"owned")
    runs = Address("memory", "bucket/runs")
    with contextlib.suppress(KeepfastError):
        assert all(is_below(found) for found in unfinished(runs, "own", "PPO", 10))
    for rebuild in (False, True):
        with contextlib.suppress(KeepfastError):
            list_remote_runs(runs, lambda path, error: None, rebuild=rebuild)
    started("last")


def of_a_run(bucket: Bucket, name: str) -> None:
    """Files of a run, and its lease."""
    bucket.write("bucket/runs/run/config.json", CONFIG)
    bucket.write(f"bucket/runs/run/{name}/owned.txt", b"owned")
    with contextlib.suppress(KeepfastError):
        keepfast.read_metrics("memory://bucket/runs/run")
    started()


def of_a_directory(bucket: Bucket, name: str) -> None:
    """Files of a directory that is no run."""
    bucket.write("bucket/mem/metadata.json", b"{}")
    bucket.write(f"bucket/mem/{name}/owned.txt", b"owned")
    keepfast.read_memory("memory://bucket/mem")


def of_a_checkpoint(bucket: Bucket, name: str) -> None:
    """Files of a checkpoint that is a directory, and the name of such a one."""
    bucket.write("bucket/runs/run/config.json", CONFIG)
    bucket.write("bucket/runs/run/checkpoints/agent_5.dcp/keepfast.json", b"{}")
    bucket.write(f"bucket/runs/run/checkpoints/agent_5.dcp/{name}/owned.txt", b"owned")
    bucket.write(f"bucket/runs/run/checkpoints/{name}/owned.txt", b"owned")
    for names in (["agent_5.dcp"], ["agent_5.dcp", name]):
        bucket.write("bucket/runs/run/checkpoints/index.json", index(*names))
        with contextlib.suppress(KeepfastError):
            keepfast.load({"policy": {"w": np.zeros(1)}}, "memory://bucket/runs/run/checkpoints/agent_5.dcp")
    started()


def of_a_record(bucket: Bucket, name: str) -> None:
    """Names of what is kept on this machine of a copy."""
    bucket.write("bucket/runs/run/config.json", CONFIG)
    directory = directory_of(Address("memory", "bucket/runs"), copy=True) / "run"
    for parts in ({name: Part()}, {"checkpoints/agent_5.dcp": Part(inner=[name, f"{name}/owned.txt"])}):
        for each in parts:
            for key in parts[each].names(each):
                bucket.write(f"bucket/runs/run/{key}", b"owned")
        Record("memory://bucket/runs/run", parts, tags={name: "1", f"{name}/owned.txt": "1"}).store(directory)
        with contextlib.suppress(KeepfastError):
            bring(directory)
        with contextlib.suppress(KeepfastError):
            keepfast.read_metrics("memory://bucket/runs/run")


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """Return what lies beside the spool; nothing there, and nothing else beside, may change."""
    for place in ("victim", "other"):
        (tmp_path / place / "sub").mkdir(parents=True)
        (tmp_path / place / "owned.txt").write_text("precious")
    before = _beside(tmp_path)
    yield tmp_path
    assert _beside(tmp_path) == before


def _beside(root: Path) -> dict[str, bytes | None]:
    found = [path for path in root.rglob("*") if root / "spool" not in (path, *path.parents)]
    return {path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None for path in found}


@pytest.mark.parametrize("door", [listed, of_a_run, of_a_directory, of_a_checkpoint, of_a_record])
def test_no_name_leads_out_of_the_spool(bucket: Bucket, victim: Path, door: Callable[[Bucket, str], None]) -> None:
    """Wherever it comes in; and whatever fails is told as an error of Keepfast."""
    for name in (*LEADING, *ODD):
        import fsspec

        fsspec.filesystem("memory").store.clear()
        with warnings.catch_warnings(), contextlib.suppress(KeepfastError):
            warnings.simplefilter("ignore")
            door(bucket, name.format(tmp=victim))


def test_what_a_store_lists_is_below_it(bucket: Bucket) -> None:
    """At any depth, and right below."""
    names = [name.format(tmp="/tmp") for name in (*LEADING, *ODD)]
    for name in names:
        bucket.write(f"bucket/runs/{name}", b"")
    store = Store(Address("memory", "bucket/runs"))
    assert set(ODD) <= store.listed().keys() <= {*ODD, "a"}  # fsspec takes slashes off the ends
    assert {"..x", "x"} <= store.children().keys() <= {*(name.partition("/")[0] for name in ODD), "a"}
    assert [name for name in names if is_below(name)] == ODD


def test_nothing_is_written_elsewhere_on_behalf_of_a_name(bucket: Bucket, tmp_path: Path) -> None:
    """The last check before a directory is made."""
    runs = claim(Address("memory", "bucket/runs"))
    assert within(runs / "a" / "b") == runs / "a" / "b"
    for name in ("..", "../x", "a/../../x", str(tmp_path / "x")):
        with pytest.raises(RemoteError, match="leads out of"):
            within(runs / name)


def test_names_that_no_files_can_have_are_told(bucket: Bucket) -> None:
    """At once, by their addresses, and so that no terminal is commanded."""
    for names in (["x", "x/y"], [f"\x1b[2J{'n' * 300}"]):
        bucket.write("bucket/runs/run/config.json", CONFIG)
        for name in names:
            bucket.write(f"bucket/runs/run/{name}", b"1")
        with pytest.raises(RemoteError, match="cannot be a file on this machine") as told:
            keepfast.read_metrics("memory://bucket/runs/run")
        assert "memory://bucket/runs/run/" in str(told.value)
        assert "\x1b" not in str(told.value)
        with pytest.raises(RemoteError, match="cannot be a file on this machine"):
            started()
        for name in names:
            Store(Address("memory", "bucket/runs/run")).remove([name])


def test_what_lies_here_of_an_unknown_run_is_put_aside(bucket: Bucket, tmp_path: Path) -> None:
    """Nobody knows whether it was uploaded, so that nothing of it is removed; what is tried again is not put aside."""
    bucket.write("bucket/runs/run/config.json", CONFIG)
    bucket.write("bucket/runs/run/checkpoints/index.json", index())
    bucket.write("bucket/runs/run/notes.txt", b"theirs")
    directory = claim(Address("memory", "bucket/runs")) / "run"
    directory.mkdir()
    (directory / "notes.txt").write_text("ours")
    refused: list[str] = []

    def refuses(_: int, operation: str, name: str) -> bool:
        if is_refused := operation == "cat_file" and name.endswith("notes.txt") and not refused:
            refused.append(name)
        return is_refused

    bucket.refuses = refuses
    with telling() as told:
        started()
    assert refused
    assert sum("nothing here says were ever uploaded" in each for each in told()) == 1
    assert (directory / "notes.txt").read_text() == "theirs"
    assert [path.read_text() for path in directory.parent.glob("run.not-uploaded-*/*")] == ["ours"]


def test_numbers_that_no_float_has_are_passed_over() -> None:
    """In a lease, in a line of a run and in its latest values; so is JSON of too many levels."""
    big = 10**400
    for content in (f'{{"time": {big}}}', "[" * 100_000, '{"time": NaN}', '{"time": "x"}'):
        assert not leased_until(content.encode()) > 1000
    lines = [line("x", **{place: value}) for place in ("_2", "_3", "_5", "_7", "_8", "_11") for value in (big, -big)]
    lines += [line("x", **{place: float(value)}) for place in ("_7", "_11", "_12") for value in ("inf", "nan")]
    assert list(entries_of(lines)) == []
    for latest in ('{"a": [Infinity, 1]}', f'{{"a": [1, {big}]}}', '{"a": [NaN, 1]}', "[1]"):
        ((_, (_, make)),) = entries_of([line("x", latest=latest)])
        assert dict(make(Path("x")).latest) == {}
    ((_, (_, make)),) = entries_of([line("x", _5=float("inf"), latest='{"a": [1, Infinity]}')])
    assert make(Path("x")).latest["a"].value == float("inf")
