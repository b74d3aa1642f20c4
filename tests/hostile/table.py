"""Files made by hand to hurt, of every format, each with the doors that it is brought to: a row each."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np

from keepfast.formats.checkpoints.pt import PtStore
from keepfast.interfaces.checkpoint_store import Checkpoint
from tests.hostile.doors import OF_CHECKPOINTS, OF_MEMORIES, OF_METRICS, OF_RUNS
from tests.hostile.episodes import METADATA, hostile, parts, placed
from tests.hostile.events import EVENTS
from tests.hostile.hdf5 import DATASETS, TABLES, dataset
from tests.hostile.making import archive, number, safetensors, tensor, text

ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b1m\u202e"
"""A name that commands a terminal."""

Make = Callable[[Path], Path]


@final
@dataclass(frozen=True)
class Row:
    """A file.

    Attributes:
        name: what hurts.
        doors: where it is brought to, by names of `tests.hostile.doors`.
        make: makes it in an empty directory.
    """

    name: str
    doors: tuple[str, ...]
    make: Make


def file(name: str, content: bytes) -> Make:
    """Return what writes a file, and the folders that it lies in; of a run, the whole run is read."""

    def make(directory: Path) -> Path:
        (path := directory / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return directory / name.partition("/")[0]

    return make


_MASK, _FIRST, _SECOND, _START = (1 << 64) - 1, 11400714785074694791, 14029467366897019727, 2870177450012600261


def pairs_of_one_hash(count: int) -> list[tuple[int, int]]:
    """Return pairs of numbers whose hash is the same: that of tuples is no secret, and can be turned round."""
    found: list[tuple[int, int]] = []
    for first in range(1 << 40):
        if len(found) == count:
            break
        rotated = (_START + first * _SECOND) & _MASK
        rotated = ((rotated << 31) | (rotated >> 33)) & _MASK
        second = (((1 << 53) - rotated * _FIRST) * pow(_SECOND, -1, 1 << 64)) & _MASK
        second -= (1 << 64) * (second >> 63)
        if abs(second) < 2**61 - 1 and second != -1:
            found.append((first, second))
    return found


def pickles() -> Iterator[Row]:
    """Yield rows of pickles, in each file that has one."""
    tuples = b"".join(number(one) + number(other) + b"\x86N" for one, other in pairs_of_one_hash(60_000))
    numbers = [(float(10**15 - 1000003 * each), float(each)) for each in range(40_000)]  # 1000003 is of their hash
    parts = (b"h\0G" + struct.pack(">d", real) + b"G" + struct.pack(">d", part) + b"\x86RN" for real, part in numbers)
    complexes = b"c__builtin__\ncomplex\nq\x000}(" + b"".join(parts) + b"u."
    wide = b"\x8b" + struct.pack("<i", 1 << 20) + b"\1" * (1 << 20) + b"q\x000(" + b"}h\0Ns" * 100_000 + b"l."
    yield Row("keys of one hash.pt", ("checkpoint",), lambda at: archive(at / "x.pt", b"}(" + tuples + b"u."))
    yield Row("keys of one hash.pickle", ("checkpoint",), file("x.pickle", b"\x80\x04}(" + tuples + b"u."))
    yield Row("keys of one hash.pkl", ("foreign",), file("x.pkl", b"\x80\x04}(" + tuples + b"u."))
    endless = b"\x80\x04}" + text("mean") + b"cnumpy\ndtype\n" + b"K\1" + b"2\x86" * 45 + b"\x89\x88\x87Rs."
    yield Row("tuples without end.pkl", ("foreign",), file("x.pkl", endless))
    yield Row("complex keys.pt", ("checkpoint",), lambda at: archive(at / "x.pt", complexes))
    yield Row("wide keys.pt", ("checkpoint",), lambda at: archive(at / "x.pt", wide))
    long = b"}(" + text("n") + number(1 << 40_000) + text("w") + tensor((1,), (1,)) + b"u."
    yield Row("a long number.pt", OF_CHECKPOINTS, lambda at: archive(at / "x.pt", long))
    named = b"}(" + text(ESCAPES) + tensor((1,), (1,)) + text("w") + b"cargparse\nNamespace\n)\x81u."
    yield Row("a name.pt", OF_CHECKPOINTS, lambda at: archive(at / "x.pt", named))
    repeated = b"}" + text("w") + tensor((1 << 20, 1 << 20), (0, 0)) + b"s."
    yield Row("one number.pt", ("checkpoint", "convert by command"), lambda at: archive(at / "x.pt", repeated))
    yield Row("marks.pt", ("checkpoint",), lambda at: archive(at / "x.pt", b"(" * 2_000_000 + b"."))


def archives() -> Iterator[Row]:
    """Yield rows of zip archives and of the arrays in them."""
    record = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, *[0] * 6) + b"a"
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(record) * 200_000, 4, 0)
    many = b"PK\3\4" + record * 200_000 + end
    yield Row("records.pt", ("checkpoint", "foreign", "inspect"), file("x.pt", many))
    yield Row("records.npz", ("memory",), file("x.npz", many))
    headers = {
        "signs": b"-" * 9900 + b"1",
        "brackets": b"(" * 9900,
        "power": b"{'descr': '|u1', 'fortran_order': False, 'shape': (9**9**9, 1, 1), }",
        "fields": b"{'descr': "
        + b"[('a'," * 90
        + b"'f4'"
        + b")]" * 90
        + b", 'fortran_order': False, 'shape': (1,1,1), }",
        "wide": b"{'descr': '<U536870911', 'fortran_order': False, 'shape': (1, 1, 1), }",
        "negative": b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -1, 1), }",
        "digits": b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"9" * 5000 + b", 1, 1), }",
    }
    for name, header in headers.items():
        content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(64)
        yield Row(f"{name}.npz", OF_MEMORIES if name == "signs" else ("memory",), _npz(content))


def _npz(content: bytes) -> Make:
    def make(directory: Path) -> Path:
        with zipfile.ZipFile(directory / "x.npz", "w") as made:
            made.writestr("x.npy", content)
        return directory / "x.npz"

    return make


def maps() -> Iterator[Row]:
    """Yield rows of safetensors and MessagePack."""
    entries = [f'"{each}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for each in range(100_000)]
    twice = "{" + ",".join([*entries, entries[-1]]) + "}"
    yield Row("twice.safetensors", ("checkpoint",), lambda at: safetensors(at / "x.safetensors", twice.encode()))
    one = '{"%s":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    escapes = (one % ESCAPES.encode("unicode_escape").decode().replace("\\x", "\\u00")).encode()
    yield Row("a name.safetensors", OF_CHECKPOINTS, lambda at: safetensors(at / "x.safetensors", escapes, bytes(4)))
    half = (one % "\\ud800").encode()
    yield Row("half a name.safetensors", OF_CHECKPOINTS, lambda at: safetensors(at / "x.safetensors", half, bytes(4)))
    sides = b'{"a":{"dtype":"F32","shape":[' + b"9223372036854775807," * 30_000 + b'0],"data_offsets":[0,0]}}'
    yield Row("sides.safetensors", ("checkpoint", "memory"), lambda at: safetensors(at / "x.safetensors", sides))
    size = 1 << 20
    claimed = b"\x81\xa1a" + (b"\xdd" + struct.pack(">I", size - 6000)) * 900
    yield Row("claims.msgpack", ("checkpoint",), file("x.msgpack", claimed + b"\xc0" * (size - len(claimed))))
    keys = b"".join(b"\xce" + struct.pack(">I", each) + b"\xc0" for each in [*range(100_000), 99_999])
    yield Row("twice.msgpack", ("checkpoint",), file("x.msgpack", b"\xdf" + struct.pack(">I", 100_001) + keys))
    whole = struct.Struct(">BdBd")
    numbers = (whole.pack(0xCB, 1e15 - 1000003.0 * each, 0xCB, float(each)) for each in range(30_000))
    complexes = b"".join(b"\xc7\x13\2\x92" + each + b"\xc0" for each in numbers)
    yield Row("complex.msgpack", ("checkpoint",), file("x.msgpack", b"\xdf" + struct.pack(">I", 30_000) + complexes))
    yield Row("time.msgpack", OF_CHECKPOINTS, file("x.msgpack", b"\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12))


def tables() -> Iterator[Row]:
    """Yield rows of csv."""
    yield Row("places.csv", ("memory",), file("x.csv", b"a" + b".0" * 60_000 + b"x\n1\n"))
    yield Row("sides.csv", ("memory",), file("x.csv", b"a" + b".999999999" * 12_000 + b"\n1\n"))
    twice = b",".join(b"c%d" % each for each in [*range(100_000), 99_999])
    yield Row("twice.csv", ("memory",), file("x.csv", twice + b"\n"))
    yield Row("numbers.csv", ("memory",), file("x.csv", b"a,b\n" + b"1,2\n" * 2_000_000))
    yield Row("exponent.csv", ("memory",), file("x.csv", b"a\n1e1" + b"0" * 26 + b"\n0e9999999999999999999\n"))
    yield Row("digits.csv", ("memory",), file("x.csv", b"a\n" + b"9" * 120_000 + b"\n"))
    yield Row("a name.csv", OF_MEMORIES, file("x.csv", f'"{ESCAPES}",b\n1,2\n'.encode()))
    yield Row("text.csv", OF_MEMORIES, file("x.csv", f"a\n{ESCAPES}\n".encode()))


def datasets() -> Iterator[Row]:
    """Yield rows of HDF5 and Parquet, and of what Minari has as Arrow and Parquet."""
    for name, observations in DATASETS.items():
        doors = OF_MEMORIES if name in ("named", "claims") else ("memory",)
        yield Row(f"{name}.hdf5", doors, dataset(observations))
    for name, make in TABLES.items():
        yield Row(f"{name}.parquet", OF_MEMORIES if name == "named" else ("memory",), make)
    for name, kind, content in hostile():
        doors = OF_MEMORIES if name in ("deep.arrow", "cut.arrow") else ("memory",)
        yield Row(f"{name} of Minari", doors, partial(placed, parts(kind, content)))
    yield Row("no episode of Minari", ("memory", "inspect"), partial(placed, {"metadata.json": METADATA}))


def metrics() -> Iterator[Row]:
    """Yield rows of what writers keep."""
    for name, content in EVENTS.items():
        yield Row(f"{name}.events", ("metrics", "runs"), file("run/events.out.tfevents.1", content))
    lines = {
        "deep": "[" * 100_000,
        "digits": '{"step": ' + "9" * 10_000 + "}",
        "names": json.dumps(
            {"step": 1, "wall_time": 1e308, "scalars": {ESCAPES: 1.0, "\ud800": 2.0, "n" * 10**6: 3.0}}
        ),
        "extremes": '{"step": -9223372036854775808, "wall_time": 1e999, "scalars": {"a": NaN, "b": -Infinity}}',
        "tags": json.dumps({"step": 1, "wall_time": 1, "scalars": dict.fromkeys(map(str, range(20_000)), 1)}),
    }
    for name, line in lines.items():
        doors = OF_METRICS if name in ("names", "extremes") else ("metrics", "run")
        yield Row(f"{name}.jsonl", doors, file("run/metrics.jsonl", f"{line}\n".encode()))
        yield Row(f"{name}.csv", ("run",), file("run/metrics.csv", f"{line}\n".encode()))


def runs() -> Iterator[Row]:
    """Yield rows of the directories of runs."""
    nested: Any = 1
    for _ in range(300):
        nested = {"k" * 500: nested, "j" * 500: 1}
    configs: dict[str, Any] = {
        "extremes": '{"agent": NaN, "timesteps": Infinity, "config": {"experiment": {"keep_last": 1e999}}}',
        "kinds": {"agent": ["x"], "timesteps": -(10**400), "config": [], "starts": {"a": 1}, "versions": 3},
        "starts": {"agent": ESCAPES, "timesteps": 5, "config": {}, "starts": [1, {"config": [1], "changed": 5}]},
        "nested": {"agent": "PPO", "timesteps": 5, "config": nested},
        "deep": '{"agent": "PPO", "timesteps": 5, "config": {"a": ' + "[" * 900 + "]" * 900 + "}}",
        "started deep": '{"agent": "a", "timesteps": 5, "config": {}, "starts": [{"a": '
        + "[" * 800
        + "]" * 800
        + "}]}",
        "provenance": {"agent": "a", "timesteps": 5, "config": {}, "starts": [{"provenance": {"git": [ESCAPES]}}]},
        "many": {"agent": "PPO", "timesteps": 5, "config": {"experiment": {"writers": [1] * 30_000}}},
        "elsewhere": {"agent": "PPO", "timesteps": 5, "config": {"experiment": "/etc/passwd", "directory": "../../"}},
    }
    for name, told in configs.items():
        content = told if isinstance(told, str) else json.dumps(told)
        doors = OF_RUNS if name in ("extremes", "provenance") else ("run", "start", "show")
        yield Row(f"{name}.config", doors, file("run/config.json", content.encode()))
    yield from _indexes()
    yield Row("links", OF_RUNS, _links)
    yield Row("endless", OF_RUNS, _endless)
    yield Row("pipes", OF_RUNS, _pipes)
    yield Row("lock", ("run", "runs", "start", "show"), partial(_special_lock, os.mkfifo))
    yield Row("endless lock", ("run", "start"), partial(_special_lock, lambda path: path.symlink_to("/proc/kmsg")))
    yield Row("looping", OF_RUNS, _looping)
    yield Row("record", ("run", "resume", "inspect", "show"), partial(_record, os.mkfifo))
    yield Row("endless record", ("run", "resume"), partial(_record, lambda path: path.symlink_to("/dev/zero")))
    yield Row("statistics", ("migrate", "foreign"), _statistics)
    yield Row("directories", OF_RUNS, _directories)
    yield Row("names", OF_RUNS, _names)


def _indexes() -> Iterator[Row]:
    row: dict[str, Any] = {
        "timestep": 5, "best": False, "modules": ["policy"], "metric": None, "time": 1.0, "versions": {}, "own": True,
        "files": {"agent": {"name": "agent_5.pt", "size": 10, "digest": ""}},
    }  # fmt: skip
    best = {"best": True, "files": {"agent": {"name": "best_agent.pt", "size": 1, "digest": ""}}}
    changes: dict[str, Any] = {
        "score": {**best, "metric": {"tag": "Reward / Total reward (mean)", "value": 10**400}},
        "no score": {**best, "metric": {"tag": ESCAPES, "value": float("nan")}, "time": float("inf")},
        "time": {"time": 1e308},
        "long time": {"time": 10**400},
        "size": {"files": {"agent": {"name": "agent_5.pt", "size": 10**4000, "digest": ESCAPES}}},
        "modules": {"modules": [ESCAPES * 1000]},
        "timestep": {"timestep": -5},
        "keys": {"files": {f"m{each}": {"name": f"m{each}_5.pt", "size": 1, "digest": ""} for each in range(300)}},
        "file": {"files": {ESCAPES: {"name": f"{ESCAPES}_5.pt", "size": 1, "digest": ""}}},
    }
    for name, change in changes.items():
        content = json.dumps({"version": 1, "checkpoints": [{**row, **change}]})
        doors = ("run", "start", "show", "index")
        yield Row(f"{name}.index", doors, file("run/checkpoints/index.json", content.encode()))


def logs() -> Iterator[Row]:
    """Yield rows of checkpoints whose memories lie in segments beside them."""
    segment = {"file": "memory_log/segment_5_00000000.pt", "size": 1, "digest": "", "parts": {"x": [0, 4]}}
    log: dict[str, Any] = {"memory_size": 4, "num_envs": 1, "tensors": {"x": ["float32", [1]]}, "segments": [segment]}
    changes: dict[str, Any] = {
        "rows": {"memory_size": 1 << 60, "segments": []},
        "many rows": {"memory_size": 1 << 40, "segments": []},
        "size": {"tensors": {"x": ["float32", [1 << 31, 1 << 31]]}, "segments": []},
        "dtype": {"tensors": {"x": ["O", [1]], "y": ["<U536870911", [1]]}, "segments": []},
        "elsewhere": {"segments": [{**segment, "file": "../../../../etc/passwd"}]},
        "up": {"segments": [{**segment, "file": "memory_log/segment_5_00000000.pt/../../x"}]},
        "absent": {"segments": [segment] * 20_000},
        "pipe": {},
        "endless": {},
    }
    for name, change in changes.items():
        doors = OF_CHECKPOINTS if name in ("pipe", "elsewhere") else ("checkpoint", "resume")
        yield Row(f"{name}.log", doors, partial(_with_log, {**log, **change}, name))


def _with_log(log: dict[str, Any], name: str, directory: Path) -> Path:
    """Make a checkpoint whose memory is in a log, and what the first segment of it would be."""
    state = {"policy": {"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(3)}, "memory": {"memory_index": 0}}
    PtStore().save(
        Checkpoint(state, {"timestep": 5, "modules": ["policy", "memory"], "logs": {"memory": log}}), directory / "x.pt"
    )
    (segments := directory / "memory_log").mkdir()
    if name == "pipe":
        os.mkfifo(segments / "segment_5_00000000.pt")
    if name == "endless":
        (segments / "segment_5_00000000.pt").symlink_to("/dev/zero")
    return directory / "x.pt"


def _links(directory: Path) -> Path:
    """Make a run whose files are links: to what has no end, to itself, to nothing."""
    (checkpoints := directory / "run" / "checkpoints").mkdir(parents=True)
    for name in ("agent_5.pt", "index.json", "../metrics.jsonl", "../events.out.tfevents.1"):
        (checkpoints / name).symlink_to("/dev/zero")
    (checkpoints / "agent_6.pt").symlink_to("agent_6.pt")
    (checkpoints / "best_agent.pt").symlink_to("nothing")
    (directory / "run" / "below").symlink_to(".")
    return directory / "run"


def _endless(directory: Path) -> Path:
    """Make a run with links to what is a file, by what the system says of it, and never ends."""
    (checkpoints := directory / "run" / "checkpoints").mkdir(parents=True)
    for name in (
        *("index.json", "agent_5.pt", "best_agent.safetensors", "../config.json", "../tags.json"),
        *("../.keepfast.runs", "../metrics.jsonl", "../metrics.csv", "../events.out.tfevents.1"),
    ):
        (checkpoints / name).symlink_to("/proc/kmsg")
    return directory / "run"


def _pipes(directory: Path) -> Path:
    """Make a run that has a pipe wherever a file belongs."""
    (checkpoints := directory / "run" / "checkpoints").mkdir(parents=True)
    for name in (
        *("index.json", "agent_5.pt", "best_agent.safetensors", ".checkpoints.lock", "../config.json", "../tags.json"),
        *("../metrics.jsonl", "../metrics.csv", "../events.out.tfevents.1"),
    ):
        os.mkfifo(checkpoints / name)
    return directory / "run"


def _special_lock(make: Callable[[Path], None], directory: Path) -> Path:
    """Make a run whose lock is no file."""
    (directory / "run" / "checkpoints").mkdir(parents=True)
    make(directory / "run" / ".keepfast.lock")
    return directory / "run"


def _looping(directory: Path) -> Path:
    """Make a run whose checkpoints lie behind a link to itself."""
    (directory / "run").mkdir()
    (directory / "run" / "config.json").write_text('{"agent": "PPO", "timesteps": 5, "config": {}}')
    (directory / "run" / "checkpoints").symlink_to("checkpoints")
    return directory / "run"


def _record(make: Callable[[Path], None], directory: Path) -> Path:
    """Make a run beside which there is what is none of an object store's record."""
    (directory / ".run.remote").mkdir()
    make(directory / ".run.remote" / "record.json")
    return file("run/config.json", b'{"agent": "PPO", "timesteps": 5, "config": {}}')(directory)


def _statistics(directory: Path) -> Path:
    """Make an archive as that of an agent of stable-baselines3, with a pipe in the place of its statistics."""
    (data := directory / "x.zip").write_bytes(b"")
    with zipfile.ZipFile(data, "w") as archived:
        for name in ("data", "_stable_baselines3_version", "system_info.txt"):
            archived.writestr(name, "{}")
        inner = archive(directory / "inner.pth", b"}" + text("mlp.weight") + tensor((1,), (1,)) + b"s.").read_bytes()
        archived.writestr("policy.pth", inner)
    os.mkfifo(directory / "x_vecnormalize.pkl")
    return data


def _directories(directory: Path) -> Path:
    """Make a run that has a directory wherever a file belongs."""
    for name in ("config.json", "metrics.jsonl", "metrics.csv", "events.out.tfevents.1", ".checkpoints.lock"):
        (directory / "run" / name).mkdir(parents=True)
    for name in ("index.json", "agent_5.pt", "best_agent.safetensors"):
        (directory / "run" / "checkpoints" / name).mkdir(parents=True)
    return directory / "run"


def _names(directory: Path) -> Path:
    """Make a run with names that are hardly any."""
    (checkpoints := directory / "run" / "checkpoints").mkdir(parents=True)
    for name in (
        *(
            b"agent_5\xff.pt",
            b"agent_\x1b]0;\x075.pt",
            b"agent_7.pt\n",
            b"agent_99999999999999999999.pt",
            b"agent_-1.pt",
        ),
        *(b"_5.pt", b".pt", b"agent_5..pt", b"best_.pt", b"..keepfast-old", b"a_5_previous.pt", b"..x.keepfast-tmp"),
    ):
        Path(os.fsdecode(os.fsencode(checkpoints) + b"/" + name)).write_bytes(pickle.dumps(1))
    return directory / "run"


def rows() -> Iterator[Row]:
    """Yield all of them."""
    for part in (pickles, archives, maps, tables, datasets, metrics, logs, runs):
        yield from part()
