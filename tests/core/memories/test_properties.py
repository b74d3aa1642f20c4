"""Properties of memory files: whatever is written comes back bit for bit."""

import importlib.util
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepfast.codec import dtype_of
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.interfaces.ring import Ring
from keepfast.memories.fitting import fitted
from keepfast.plugins.formats import exporter_named
from keepfast.testing.memory_exporter import DTYPES, assert_same

_ML_DTYPES = ["bfloat16", "float8_e4m3fn", "float8_e5m2"] if importlib.util.find_spec("ml_dtypes") else []
_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters='/\\"~'), min_size=1)


@st.composite
def tensors(draw, rows, written):
    """Draw a tensor of any dtype and sample size, with any bits in what was written and zeros elsewhere."""
    dtype = dtype_of(draw(st.sampled_from([*DTYPES, *_ML_DTYPES])))
    size = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    count = written * math.prod(size)
    bits = np.frombuffer(draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize)), np.uint8)
    values = (bits % 2).astype(bool) if dtype == np.dtype(bool) else bits.view(dtype)
    flat = np.zeros((math.prod(rows), *size), dtype)
    flat[:written] = values.reshape(written, *size)
    return flat.reshape(*rows, *size)


@st.composite
def snapshots(draw):
    """Draw a memory of a few tensors at any moment of its life."""
    rows = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    filled = draw(st.booleans())
    memory_index, env_index = draw(st.integers(0, rows[0] - 1)), draw(st.integers(0, rows[1] - 1))
    written = len(Ring(*rows, memory_index, env_index, filled))
    names = draw(
        st.lists(
            st.sampled_from(["states", "a.b", "terminated", "x_1", "image (left)", "x,\ny"]), min_size=1, unique=True
        )
    )
    found = {name: draw(tensors(rows, written)) for name in names}
    metadata = draw(
        st.dictionaries(_NAMES, st.none() | st.integers() | st.text() | st.floats(allow_nan=False), max_size=3)
    )
    return MemorySnapshot(found, memory_index, env_index, filled, metadata)


@pytest.mark.needs("ml_dtypes", "polars")
@pytest.mark.parametrize(
    "name", ["pt", "npz", "csv", "safetensors", pytest.param("parquet", marks=pytest.mark.needs("pyarrow"))]
)
@given(snapshot=snapshots())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_memory_comes_back_from_any_format(name, snapshot):
    """Every dtype, shape, value, position and name comes back as it was, from each format."""
    with tempfile.TemporaryDirectory() as directory:
        chosen = exporter_named(name)
        path = Path(directory) / f"memory{chosen.extension}"
        chosen.save(snapshot, path)
        assert_same(chosen.load(path), snapshot)


@pytest.mark.needs("polars")
@pytest.mark.parametrize("dtype", ["float16", *_ML_DTYPES])
def test_every_value_of_a_small_dtype_has_an_exact_text(tmp_path, dtype):
    """All values of the dtypes of one and two bytes come back from csv, bit for bit."""
    kind = dtype_of(dtype)
    values = np.arange(1 << 8 * kind.itemsize, dtype=f"u{kind.itemsize}").view(kind).reshape(-1, 1, 4)
    snapshot = MemorySnapshot({"values": values}, 0, 0, filled=True)
    exporter_named("csv").save(snapshot, tmp_path / "memory.csv")
    assert_same(exporter_named("csv").load(tmp_path / "memory.csv"), snapshot)


@pytest.mark.needs("polars")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_of_every_magnitude_have_the_shortest_exact_text(tmp_path, dtype):
    """Floats come back from csv bit for bit, and their texts have as few digits as NumPy's shortest ones."""
    generator = np.random.default_rng(3)
    kind = np.dtype(dtype)
    random_bits = generator.integers(0, 256, 40_000 * kind.itemsize, np.uint8).view(kind)
    ordinary = generator.normal(size=40_000) * 10.0 ** generator.integers(-8, 9, 40_000)
    round_ones = np.round(generator.normal(size=40_000) * 100, 2)
    values = np.concatenate([random_bits, ordinary.astype(kind), round_ones.astype(kind)]).reshape(-1, 1, 8)
    snapshot = MemorySnapshot({"values": values}, 0, 0, filled=True)
    exporter_named("csv").save(snapshot, tmp_path / "memory.csv")
    assert_same(exporter_named("csv").load(tmp_path / "memory.csv"), snapshot)
    lines = (tmp_path / "memory.csv").read_text().splitlines()[1:]
    texts = [text for line in lines for text in line.split(",")]
    for text, value in zip(texts, values.reshape(-1), strict=True):
        if np.isfinite(value):
            assert _digits(text) == _digits(np.format_float_scientific(value)), (text, value)


def _digits(text):
    return text.lstrip("-").partition("e")[0].replace(".", "").strip("0")


FITS = given(
    rows=st.integers(1, 6),
    envs=st.integers(1, 3),
    steps=st.integers(0, 40),
    target=st.tuples(st.integers(1, 7), st.integers(1, 4)),
    fit=st.sampled_from(["newest", "oldest"]),
)


def numbered(rows, envs, steps):
    """Return a memory to which that many samples were added, each of which tells its number."""
    values = np.zeros((rows, envs, 1), np.int64)
    for sample in range(steps):
        values.reshape(-1)[sample % (rows * envs)] = sample
    index, env = divmod(steps % (rows * envs), envs)
    return MemorySnapshot({"x": values}, index, env, filled=steps >= rows * envs)


@FITS
@settings(deadline=None)
def test_fitting_keeps_the_right_samples_in_order(rows, envs, steps, target, fit):
    """A memory fitted into another keeps each environment's samples in order, and as many as fit of the right end."""
    count, result = min(steps, rows * envs), fitted(numbered(rows, envs, steps), *target, fit)
    kept = result.tensors["x"].reshape(-1)[: len(result)].tolist()
    assert len(set(kept)) == len(kept) <= target[0] * target[1]
    assert set(kept) <= set(range(steps - count, steps))
    if count <= target[0] * target[1] and target[1] != envs:
        assert len(kept) == count
    if target[1] == envs and kept:
        end = max if fit == "newest" else min
        assert end(kept) == end(range(steps - count, steps))
    for column in range(target[1]):
        own = kept[column :: target[1]]
        if target[1] == envs and target[0] != rows:  # a memory of the same sizes stays as it is
            assert own == sorted(own)


@FITS
@settings(deadline=None)
def test_seams_are_where_samples_do_not_follow_one_another(rows, envs, steps, target, fit):
    """A load marks just the samples whose successor, now or to come, is not their own; a second one forgets none."""
    once = fitted(numbered(rows, envs, steps), *target, fit)
    found, expected = set(once.seams), broken(once, envs, steps, same=target[1] == envs)
    assert found == expected
    twice = fitted(once, 5, 2, fit)
    assert set(twice.seams) >= broken(twice, envs, steps, same=target[1] == envs == 2)


def broken(result, envs, steps, *, same):
    """Return the places of the samples that the next one of their environment, now or to come, does not follow."""
    flat, places = result.tensors["x"].reshape(-1), set()
    for environment, own in enumerate(result.histories()):
        newest = max(range(environment, steps, envs), default=-1) if same else None
        followers = [*flat[own[1:]].tolist(), newest]
        numbers = flat[own].tolist()
        places |= {
            int(place)
            for place, number, follower in zip(own, numbers, followers, strict=False)
            if follower != (number if place == own[-1] else number + envs)
        }
    return places
