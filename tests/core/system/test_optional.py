"""What a file system lacks is not a failure: every optional feature is refused wherever it is used, and told once."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast._system import lock
from keepfast._system.commit import commit_directory, link
from keepfast._system.disk import mapping, optional
from keepfast._system.disk.directories import is_copy_of
from keepfast._system.memory.spacious import spacious_zeros
from tests.core.formats import shard_store


def is_directory(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


PLACES: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "fsync of directories": (os, "fsync", is_directory),
    "fsync of files": (os, "fsync", lambda descriptor: not is_directory(descriptor)),
    "hard links": (os, "link", lambda *_: True),
    "locks": (lock, "lock_descriptor", lambda *_: True),
    "renaming of directories": (os, "rename", lambda source, _: Path(source).is_dir()),
    "file modes": (os, "chmod", lambda *_: True),
}
"""The system's call behind each feature, and which of its calls are refused."""

CODES = ["EINVAL", "ENOTSUP", "EACCES", "EPERM", "ENOSYS"]
ANSWERS = {
    "fsync of directories": [*CODES, "EBADF"],
    "fsync of files": ["EINVAL", "ENOTSUP", "ENOSYS"],
    "hard links": [*CODES, "EXDEV", "EMLINK"],
    "locks": ["EINVAL", "ENOTSUP", "ENOSYS", "ENOLCK"],
    "renaming of directories": ["EINVAL", "ENOTSUP", "EPERM", "EXDEV"],
    "file modes": CODES,
}
FILES, DIRECTORIES = {"store_separately": True}, {"checkpoint_format": "shards"}
REFUSED = [(feature, code, FILES) for feature, codes in ANSWERS.items() for code in codes] + [
    (feature, code, DIRECTORIES) for feature, codes in ANSWERS.items() for code in (codes[0], codes[-1])
]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], list[str]]:
    """Return what has the system refuse a feature from then on; it returns the list of what was refused."""

    def begin(feature: str, code: str) -> list[str]:
        owner, name, when = PLACES[feature]
        original, number = getattr(owner, name), getattr(errno, code)
        refused: list[str] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                refused.append(name)
                raise OSError(number, os.strerror(number))
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)
        return refused

    return begin


@pytest.fixture
def shards() -> Iterator[None]:
    """Provide the format whose checkpoints are directories."""
    keepfast.plugins.registry().register(shard_store.plugin, "shards")
    yield
    keepfast.plugins.registry().unregister(shard_store.plugin)


def train(directory: Path, policy: Any, until: int, **settings: Any) -> int:
    """Run to a timestep, and save the last state twice; return where it began."""
    cfg = {"directory": directory, "experiment_name": "run", "checkpoint_interval": 10, "write_interval": 5}
    with keepfast.Experiment({**cfg, "writers": ["jsonl", "csv"], **settings}, timesteps=40) as experiment:
        experiment.register(policy=policy)
        begin = experiment.resume()
        for timestep in range(begin, until):
            experiment.track_data("Reward / Total reward (mean)", float(timestep))
            experiment.step(timestep)
        experiment.write_checkpoint(until)
        experiment.write_checkpoint(until)
    return begin


def told(caught: list[warnings.WarningMessage]) -> list[str]:
    return [str(each.message) for each in caught if "lacks" in str(each.message)]


@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize(("feature", "code", "settings"), REFUSED)
def test_a_run_starts_saves_and_resumes_without_a_feature(
    feature: str,
    code: str,
    settings: dict[str, Any],
    tmp_path: Path,
    net: Callable[..., Any],
    refuse: Callable[[str, str], list[str]],
) -> None:
    """Whichever is lacking and however the system says so: nothing is lost, and it is told once, by name."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").touch(mode=0o600)
    refused = refuse(feature, code)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policy, other = net(0), net(1)
        assert train(tmp_path, policy, 20, **settings) == 0
        assert train(tmp_path, other, 30, **settings) == 20
    np.testing.assert_array_equal(other.arrays["body"]["weight"], policy.arrays["body"]["weight"])
    series = keepfast.read_metrics(tmp_path / "run")["Reward / Total reward (mean)"]
    assert list(series.steps) == [5, 10, 15, 20, 25, 30]
    used = feature != "renaming of directories" or settings == DIRECTORIES
    assert bool(refused) == used
    expected = f"the file system lacks {feature} ({os.strerror(getattr(errno, code))})"
    assert [text.partition(":")[0] for text in told(caught)] == [expected] * used
    if feature != "locks":  # without locks nobody can tell that what lies there is litter
        assert list((tmp_path / "run").rglob("*keepfast-*")) == []


@pytest.mark.parametrize("code", ["ENODEV", "EINVAL", "EACCES", "EPERM", "ENOSYS", "ENOTSUP"])
def test_files_are_read_where_they_cannot_be_mapped(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memories in csv, large arrays of checkpoints, and those that are larger than memory."""
    original = mmap.mmap

    def mapped(descriptor: int, *args: Any, **kwargs: Any) -> Any:
        if descriptor != -1:
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))
        return original(descriptor, *args, **kwargs)

    monkeypatch.setattr(mmap, "mmap", mapped)
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\n")
    with path.open("rb") as file:
        whole = mapping.mapped_file(file)
        assert mapping.mapped_array(file, 0, 4) is None
    assert (whole.readline(), whole[4:], whole.find(b"w")) == (b"one\n", b"two\n", 5)
    assert spacious_zeros((3, 4), np.dtype("f4"), large=1).tolist() == [[0.0] * 4] * 3
    with pytest.warns(keepfast.KeepfastWarning, match="lacks memory maps") as caught:
        optional.tell_lacking()
    assert len(caught) == 1


@pytest.mark.parametrize("code", ["EINVAL", "ENOTSUP", "ENOSYS"])
def test_room_that_cannot_be_reserved_is_taken_as_it_is_needed(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without `posix_fallocate` has memories that are larger than the machine's all the same."""

    def reserve(*_: int) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(os, "posix_fallocate", reserve)
    assert spacious_zeros((3, 4), np.dtype("f4"), large=1).tolist() == [[0.0] * 4] * 3
    with pytest.warns(keepfast.KeepfastWarning, match="lacks reserved space"):
        optional.tell_lacking()


@pytest.mark.parametrize("feature", PLACES)
def test_a_broken_disk_is_no_missing_feature(
    feature: str, tmp_path: Path, refuse: Callable[[str, str], list[str]]
) -> None:
    """What else the system answers is an error as before."""
    path = tmp_path / "directory.d"
    path.mkdir(mode=0o700)
    link_of = tmp_path / "file"
    link_of.touch()
    assert refuse(feature, "EIO") == []
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):  # noqa: PT012  (whichever of them uses it)
        commit_directory(path, lambda inner: (inner / "file").touch())
        link(link_of, tmp_path / "other")


def test_a_copy_stands_for_a_link(tmp_path: Path, refuse: Callable[[str, str], list[str]]) -> None:
    """It has the same bytes, and a sweep after a kill takes it for what it is."""
    (tmp_path / "file").write_bytes(b"bytes")
    refuse("hard links", "EPERM")
    link(tmp_path / "file", tmp_path / "other")
    assert is_copy_of(tmp_path / "file", tmp_path / "other")
    (tmp_path / "file").write_bytes(b"BYTES")
    assert not is_copy_of(tmp_path / "file", tmp_path / "other")
