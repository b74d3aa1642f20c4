"""Reading runs back, with nothing but NumPy."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest

import keepfast
from keepfast.metrics.tfrecord import frame, masked_crc32c


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def value(tag: str, body: bytes) -> bytes:
    return field(5, field(1, field(1, tag.encode()) + body))


def simple(tag: str, number: float) -> bytes:
    return value(tag, b"\x15" + struct.pack("<f", number))


def event(step: int, wall_time: float, *parts: bytes) -> bytes:
    return frame(b"\x09" + struct.pack("<d", wall_time) + b"\x10" + varint(step % 2**64) + b"".join(parts))


def write_jsonl(path: Path, tag: str, points: dict[int, float]) -> None:
    lines = [json.dumps({"step": step, "wall_time": 1.0, "scalars": {tag: number}}) for step, number in points.items()]
    path.write_text("".join(line + "\n" for line in lines))


def test_event_files_are_read_without_a_library(tmp_path: Path) -> None:
    """Values, steps and wall times of event files come back as arrays of NumPy, whoever wrote the file."""
    content = event(10, 1.5, simple("Loss / a", 0.5)) + event(2**40, 2.5, simple("Loss / a", -1.0))
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    steps, values, wall_times = keepfast.read_metrics(tmp_path)["Loss / a"]
    assert (steps.dtype, values.dtype, wall_times.dtype) == (np.int64, np.float64, np.float64)
    assert steps.tolist() == [10, 2**40]
    assert values.tolist() == [0.5, -1.0]
    assert wall_times.tolist() == [1.5, 2.5]


def test_scalars_stored_as_tensors_are_read(tmp_path: Path) -> None:
    """Scalars as TensorFlow 2 stores them, tensors of one element, count as scalars; texts and images do not."""
    as_content = field(8, b"\x08\x01" + field(4, struct.pack("<f", 0.25)))
    as_floats = field(8, b"\x08\x01" + field(5, struct.pack("<f", 0.5)))
    as_doubles = field(8, b"\x08\x02" + field(6, struct.pack("<d", 0.1)))
    text = field(8, b"\x08\x07" + field(8, b"text"))
    image = field(4, b"\x08\x04")
    bodies = {"content": as_content, "floats": as_floats, "doubles": as_doubles, "text": text, "image": image}
    content = b"".join(event(1, 1.0, value(tag, body)) for tag, body in bodies.items())
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    found = {tag: series.values.tolist() for tag, series in keepfast.read_metrics(tmp_path).items()}
    assert found == {"content": [0.25], "floats": [0.5], "doubles": [0.1]}


def test_a_session_that_starts_voids_what_lies_beyond(tmp_path: Path) -> None:
    """Of several event files, the one that goes on from a step hides that step and later ones of those before."""
    first = b"".join(event(step, float(step), simple("a", step)) for step in (1, 2, 3, 4))
    second = event(3, 10.0, field(7, b"\x08\x01")) + event(3, 11.0, simple("a", -3.0))
    (tmp_path / "events.out.tfevents.1.b").write_bytes(first)
    (tmp_path / "events.out.tfevents.1.a").write_bytes(second)  # names do not tell the order, times do
    series = keepfast.read_metrics(tmp_path)["a"]
    assert series.steps.tolist() == [1, 2, 3]
    assert series.values.tolist() == [1.0, 2.0, -3.0]


def test_a_torn_event_ends_a_file_and_no_more(tmp_path: Path) -> None:
    """A file that a kill tore gives what is whole of it."""
    content = event(1, 1.0, simple("a", 1.0)) + event(2, 2.0, simple("a", 2.0))[:-3]
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    assert keepfast.read_metrics(tmp_path)["a"].steps.tolist() == [1]


def test_a_flipped_bit_costs_the_event_it_is_in(tmp_path: Path) -> None:
    """Wherever a bit of an event file flips, every other event is read, and the loss is told by file and count."""
    events = [event(step, float(step), simple("a", step)) for step in range(1, 5)]
    whole, path = b"".join(events), tmp_path / "events.out.tfevents.1.host"
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        hit = next(step for step in range(1, 5) if place // 8 < len(b"".join(events[:step])))
        with pytest.warns(keepfast.KeepfastWarning, match=re.escape(f"records of `{path}` that are damaged")):
            found = keepfast.read_metrics(tmp_path)["a"].steps.tolist()
        assert found == [step for step in range(1, 5) if step != hit]


def test_a_zeroed_block_costs_the_events_it_covers(tmp_path: Path) -> None:
    """Behind a block of zeros, also a longer one than is searched at once, reading goes on."""
    events = [event(step, float(step), simple("a", step)) for step in range(1, 10_001)]
    content = bytearray(b"".join(events))
    content[1000:201_000] = bytes(200_000)
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    with pytest.warns(keepfast.KeepfastWarning, match="damaged were passed over"):
        steps = keepfast.read_metrics(tmp_path)["a"].steps.tolist()
    assert steps == sorted(set(steps))
    assert steps[0] == 1
    assert steps[-1] == 10_000
    assert len(steps) > 10_000 - 200_000 / len(events[0]) - 3


def test_a_length_beyond_the_file_ends_it(tmp_path: Path) -> None:
    """A record that tells of more bytes than there are reserves none of them."""
    header = struct.pack("<Q", 2**62)
    torn = header + struct.pack("<I", masked_crc32c(header)) + b"data"
    (tmp_path / "events.out.tfevents.1.host").write_bytes(event(1, 1.0, simple("a", 1.0)) + torn)
    assert keepfast.read_metrics(tmp_path)["a"].steps.tolist() == [1]


def test_a_number_without_end_is_no_event(tmp_path: Path) -> None:
    """A record whose number goes on for a megabyte is passed over, in no time."""
    content = frame(b"\x10" + b"\xff" * 2**20) + event(1, 1.0, simple("a", 1.0))
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    with pytest.warns(keepfast.KeepfastWarning, match="no events were passed over: 1"):
        assert keepfast.read_metrics(tmp_path)["a"].steps.tolist() == [1]


def test_a_last_line_that_is_being_written_is_no_news(tmp_path: Path) -> None:
    """It is not read, and nothing is told of it: a kill tore it, or the run is at it."""
    write_jsonl(tmp_path / "metrics.jsonl", "a", {1: 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "wall_')
    assert keepfast.read_metrics(tmp_path)["a"].steps.tolist() == [1]


def test_the_fullest_and_then_the_most_exact_source_wins(tmp_path: Path) -> None:
    """Of several sources the one with most of a tag is taken; of equals, the one that holds 64 bits of a value."""
    write_jsonl(tmp_path / "metrics.jsonl", "both", {1: 0.1, 2: 0.2})
    content = event(1, 1.0, simple("both", 0.1), simple("events only", 3.0)) + event(2, 2.0, simple("both", 0.2))
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    found = keepfast.read_metrics(tmp_path)
    assert found["both"].values.tolist() == [0.1, 0.2]
    assert found["events only"].values.tolist() == [3.0]
    (tmp_path / "events.out.tfevents.2.host").write_bytes(event(3, 3.0, simple("both", 0.5)))
    assert keepfast.read_metrics(tmp_path)["both"].steps.tolist() == [1, 2, 3]


def test_writers_that_take_turns_are_put_together(tmp_path: Path) -> None:
    """A run whose writers changed has every value, and each step once, from the source that has most of the tag."""
    events = (event(step, step / 10, simple("a", step / 2)) for step in range(1, 6))
    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"".join(events))
    write_jsonl(tmp_path / "metrics.jsonl", "a", {step: float(-step) for step in range(4, 12)})
    (tmp_path / "metrics.csv").write_text("12,1.0,a,12.0\n11,1.0,a,11.0\n")
    series = keepfast.read_metrics(tmp_path)["a"]
    assert series.steps.tolist() == list(range(1, 13))
    assert series.values.tolist() == [0.5, 1.0, 1.5, *range(-4, -12, -1), 12.0]
    assert series.wall_times.tolist()[:4] == [0.1, 0.2, 0.3, 1.0]


def test_steps_come_in_rising_order(tmp_path: Path) -> None:
    """Values come by rising step, those of one step in the order written."""
    points = [(3, 3.0), (1, 1.0), (2, 2.0), (1, 1.5)]
    lines = [json.dumps({"step": step, "wall_time": 0, "scalars": {"a": number}}) for step, number in points]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    series = keepfast.read_metrics(tmp_path)["a"]
    assert list(zip(series.steps.tolist(), series.values.tolist(), strict=True)) == sorted(points, key=lambda p: p[0])


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        b'{"step": 1}',
        b'"text"',
        b'{"scalars": 1, "step": 2}',
        b'{"step": Infinity, "wall_time": 1, "scalars": {"a": 1}}',
        b'{"step": 99999999999999999999999, "wall_time": 1, "scalars": {"a": 1}}',
        b'{"step": 1, "wall_time": 1, "scalars": {"a": 1, "b": 1%s}}' % (b"0" * 400),
    ],
)
def test_lines_that_are_not_ours_are_passed_over(tmp_path: Path, line: bytes) -> None:
    """A line of something else does not keep the others from being read; how many there are is told once a file."""
    write_jsonl(tmp_path / "metrics.jsonl", "a", {1: 1.0})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line + b"\n\n" + path.read_bytes() + line + b"\n")
    with pytest.warns(keepfast.KeepfastWarning) as told:
        found = keepfast.read_metrics(path)
    assert {tag: series.values.tolist() for tag, series in found.items()} == {"a": [1.0]}
    assert [str(warning.message) for warning in told] == [f"lines of `{path}` that are no metrics were passed over: 2"]


@pytest.mark.parametrize("row", ["a,b", "1,2.0,a", "x,1.0,a,1.0", f"{2**63},1.0,a,1.0", f'5,1.0,"{"0" * 200_000}",1.0'])
def test_rows_that_are_not_ours_are_passed_over(tmp_path: Path, row: str) -> None:
    """The same goes for rows of csv, also for one with a field longer than Python's reader takes."""
    path = tmp_path / "metrics.csv"
    path.write_text(f"step,wall_time,tag,value\n{row}\n1,1.0,a,1.0\n2,1.0,a,2.0\n")
    with pytest.warns(keepfast.KeepfastWarning, match=r"lines of `.*metrics.csv` that are no metrics .* over: 1$"):
        found = keepfast.read_metrics(path)
    assert {tag: series.values.tolist() for tag, series in found.items()} == {"a": [1.0, 2.0]}


@pytest.mark.parametrize("record", [b"\x10", b"\x12\x01a", b"\x09abc", b"\x28\x01"])
def test_records_that_are_not_ours_are_passed_over(tmp_path: Path, record: bytes) -> None:
    """A record with the right checksum that is no event keeps no other from being read."""
    content = event(1, 1.0, simple("a", 1.0)) + frame(record) + event(2, 2.0, simple("a", 2.0))
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    with pytest.warns(keepfast.KeepfastWarning, match=r"records of `.*tfevents.1.host` that are no events .* over: 1$"):
        assert keepfast.read_metrics(tmp_path)["a"].steps.tolist() == [1, 2]


def test_a_row_without_its_end_is_not_read(tmp_path: Path) -> None:
    """A row that is being written may lack the last digits of its value, so it waits for its end."""
    (tmp_path / "metrics.csv").write_text("1,1.0,a,1.0\n2,1.0,a,12")
    assert keepfast.read_metrics(tmp_path)["a"].values.tolist() == [1.0]


def test_a_run_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A missing run, and a directory without metrics, raise NotFound with the path."""
    with pytest.raises(keepfast.NotFound, match=r"there is no run at `.*absent`"):
        keepfast.read_metrics(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="holds no metrics; looked for metrics"):
        keepfast.read_metrics(tmp_path)


def test_many_runs_are_read_one_by_one(tmp_path: Path) -> None:
    """A pattern yields each run that has any of the tags, with those tags; other directories are passed over."""
    for name, tag in (("run_b", "a"), ("run_a", "a"), ("run_c", "other")):
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "metrics.jsonl", tag, {1: 1.0})
    (tmp_path / "empty").mkdir()
    found = list(keepfast.iter_metrics(tmp_path / "*", tags=["a"]))
    assert [path.name for path, _ in found] == ["run_a", "run_b"]
    assert all(list(series) == ["a"] for _, series in found)
    assert [path.name for path, _ in keepfast.iter_metrics(tmp_path / "*", tags="other")] == ["run_c"]
    assert [path.name for path, _ in keepfast.iter_metrics(str(tmp_path / "**"))] == ["run_a", "run_b", "run_c"]
    with pytest.raises(keepfast.NotFound, match="no run with metrics matches"):
        next(keepfast.iter_metrics(tmp_path / "none*"))
