"""What has the name of a file and is none: pipes, sockets, devices, files of the kernel; neither replaced nor read."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import keepfast
from keepfast._system.commit import Filling, commit_directory, commit_own, commit_together
from keepfast._system.disk.special import is_plain_file, require_own, special_kind
from keepfast._system.lock import holding_file
from keepfast.runs.processes.ownership import LOCK, is_owned

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are none of these on Windows")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # the whole path may be longer than the name of a socket


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only the superuser makes devices")


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("target"))
    path.symlink_to("target")


def link_to_the_kernel(path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("Linux shows what it knows as files")
    path.symlink_to("/proc/kmsg")


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe": (pipe, "a pipe"),
    "a socket": (bound_socket, "a socket"),
    "a device": (device, "a device"),
    "a link to a pipe": (link_to_a_pipe, "a pipe"),
    "a file of the kernel": (link_to_the_kernel, "a file of the kernel"),
}

WRITES: dict[str, Callable[[Path], object]] = {
    "commit": lambda path: keepfast.commit(path, lambda file: file.write(b"x")),
    "commit of a directory": lambda path: commit_directory(path, lambda _: None),
    "save": lambda path: keepfast.save({"a": np.zeros(2)}, path),
}

READS: dict[str, Callable[[Path], object]] = {
    "load": lambda path: keepfast.load({"a": np.zeros(2)}, path),
    "read_checkpoint": keepfast.read_checkpoint,
    "read_memory": keepfast.read_memory,
}


def made(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """Return the path of one, and what errors call it."""
    monkeypatch.chdir(folder)
    path = folder / "x.safetensors"
    KINDS[kind][0](path)
    return path, KINDS[kind][1]


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_put_in_its_place(kind: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may replace it is kept from it; nothing is left beside it."""
    path, name = made(kind, tmp_path, monkeypatch)
    before, names = path.stat(), sorted(tmp_path.iterdir())
    with pytest.raises(keepfast.WriteFailed, match=f"it is {name}, and only files are replaced"):
        WRITES[call](path)
    assert os.path.samestat(path.stat(), before)
    assert sorted(tmp_path.iterdir()) == names


@pytest.mark.timeout(20)
@pytest.mark.parametrize("call", READS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_not_waited_for(kind: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused when it is read, rather than read without an end."""
    path, name = made(kind, tmp_path, monkeypatch)
    with pytest.raises(keepfast.Unreadable, match=f"is {name}, which Keepfast does not read"):
        READS[call](path)


@pytest.mark.timeout(20)
def test_a_configuration_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe for a TOML file is told."""
    os.mkfifo(tmp_path / "run.toml")
    with pytest.raises(keepfast.ConfigError, match="a pipe"):
        keepfast.ExperimentConfig.of(tmp_path / "run.toml")


@pytest.mark.needs("polars")
@pytest.mark.timeout(20)
def test_a_companion_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe beside a csv is not ours, so that the csv is read by itself."""
    (tmp_path / "samples.csv").write_text("states\n1.0\n2.0\n")
    os.mkfifo(tmp_path / "samples.csv.json")
    with pytest.warns(keepfast.KeepfastWarning, match="passed over"):
        assert keepfast.read_memory(tmp_path / "samples.csv").tensors["states"].size == 2


@pytest.mark.timeout(20)
def test_a_pipe_among_metrics_is_passed_over(tmp_path: Path) -> None:
    """It is no file of a writer, and by itself no run."""
    os.mkfifo(tmp_path / "metrics.jsonl")
    for path in (tmp_path, tmp_path / "metrics.jsonl"):
        with pytest.raises(keepfast.NotFound):
            keepfast.read_metrics(path)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux shows what it knows as files")
@pytest.mark.parametrize("place", ["/proc/kmsg", "/proc/self/maps", "/sys/kernel/uevent_seqnum"])
def test_files_of_the_kernel_are_no_files(place: str, tmp_path: Path) -> None:
    """Some never end; those of disks are files, empty or not."""
    if not (kernels := Path(place)).exists():
        pytest.skip(f"there is no {place}")
    for content in (b"", b"x"):
        (path := tmp_path / "own").write_bytes(content)
        assert (is_plain_file(path), special_kind(path)) == (True, "")
    assert (is_plain_file(kernels), special_kind(kernels)) == (False, "a file of the kernel")
    assert not is_plain_file(tmp_path)


@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
def test_a_link_is_no_file_of_a_run(tmp_path: Path, there: bool) -> None:
    """It is refused where files are added to, replaced where they are committed, and no lock is made through it."""
    outside, link = tmp_path / "outside", tmp_path / "link"
    if there:
        outside.write_bytes(b"of somebody else")
    link.symlink_to(outside)
    with pytest.raises(OSError, match="is a symbolic link, where a file of the run belongs; remove it"):
        require_own(link)
    with holding_file(link):
        assert outside.exists() == there
    commit_own(link, lambda file: file.write(b"ours"))
    assert (link.is_symlink(), link.read_bytes()) == (False, b"ours")
    link.unlink()
    link.symlink_to(outside)
    commit_together({link: Filling(lambda path: (path / "data").write_bytes(b"ours"))}, follow=False)
    assert (link.is_symlink(), (link / "data").read_bytes()) == (False, b"ours")
    assert outside.exists() == there
    assert not there or outside.read_bytes() == b"of somebody else"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["a pipe", "a file of the kernel"])
def test_a_lock_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    """A run whose lock it would be is nobody's, and nobody starts there."""
    (run := tmp_path / "run").mkdir()
    KINDS[kind][0](run / LOCK)
    assert not is_owned(run)
    with pytest.raises(keepfast.KeepfastError, match=f"{LOCK}` is {kind}, where a file"):
        keepfast.Experiment({"directory": str(tmp_path), "experiment_name": "run", "writers": []})
