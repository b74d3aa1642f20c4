"""A loop under `keepfast_jax.scan` that was cut off and started again ends as one that never was."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import keepfast  # noqa: E402
import keepfast_jax  # noqa: E402

STEPS = 40


def step(carry: Any, x: Any) -> Any:
    value, key = carry
    key, draw = jax.random.split(key)
    value = value * 0.9 + jax.random.normal(draw, (3,)) + x
    done = jax.random.uniform(draw, (3,)) < 0.2
    tracked = {"Loss / mean": value.sum(), "episodes": keepfast_jax.Transitions(value, done, ~done & (value > 3.0))}
    return (value, key), value.max(), tracked


def first(seed: Any = 0) -> Any:
    return jnp.zeros(3), jax.random.key(seed)


XS = np.linspace(0.0, 1.0, STEPS, dtype=np.float32)


def outside(experiment: keepfast.Experiment) -> Any:
    return keepfast_jax.scan(step, first(), XS, experiment=experiment)


def inside(experiment: keepfast.Experiment) -> Any:
    return jax.jit(lambda seed: keepfast_jax.scan(step, first(seed), XS, experiment=experiment))(0)


def seeds(experiment: keepfast.Experiment) -> Any:
    return jax.jit(jax.vmap(lambda seed: keepfast_jax.scan(step, first(seed), XS, experiment=experiment)))(
        jnp.arange(2)
    )


FORMS: dict[str, Callable[[keepfast.Experiment], Any]] = {"outside": outside, "inside": inside, "seeds": seeds}


def run(directory: Path, name: str) -> keepfast.Experiment:
    cfg = {"write_interval": 8, "checkpoint_interval": 10, "writers": ["jsonl"], "seeds": "both"}
    return keepfast.Experiment({"directory": str(directory), "experiment_name": name, **cfg}, timesteps=STEPS)


def cut_off(directory: Path, name: str, to: str, at: int) -> None:
    """Make of a run one that was killed after the checkpoint of a timestep, its later metrics on disk already."""
    shutil.copytree(directory / name, directory / to)
    for path in (directory / to / "checkpoints").glob("*.safetensors"):
        if path.stem.startswith("best") or int(path.stem.removeprefix("agent_")) > at:
            path.unlink()


def same_metrics(one: Path, other: Path) -> bool:
    found, expected = keepfast.read_metrics(one), keepfast.read_metrics(other)
    return found.keys() == expected.keys() and all(
        np.array_equal(found[tag][part], expected[tag][part]) for tag in found for part in (0, 1)
    )


def bits(result: Any) -> list[Any]:
    (value, key), ys = result
    return [np.asarray(value).tobytes(), np.asarray(jax.random.key_data(key)).tobytes(), np.asarray(ys).tobytes()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[Any]]]:
    """Return a maker of uninterrupted runs, each made once: its directory and the bits of its result."""
    directory, made = tmp_path_factory.mktemp("whole"), dict[str, list[Any]]()

    def make(form: str) -> tuple[Path, list[Any]]:
        if form not in made:
            with run(directory, form) as experiment:
                made[form] = bits(FORMS[form](experiment))
        return directory, made[form]

    return make


@pytest.mark.parametrize(("form", "at"), [("outside", 10), ("outside", 40), ("inside", 30), ("seeds", 20)])
def test_a_run_that_is_started_again_ends_with_the_same_bits(
    whole: Callable[[str], tuple[Path, list[Any]]], form: str, at: int
) -> None:
    """Carry, ys and every metric; nobody need ask for it, and a checkpoint may be in the midst of an interval."""
    directory, expected = whole(form)
    cut_off(directory, form, f"{form}_{at}", at)
    told = pytest.warns(keepfast.KeepfastWarning, match="is complete") if at == STEPS else contextlib.nullcontext()
    with told, run(directory, f"{form}_{at}") as experiment:
        result = FORMS[form](experiment)
    assert experiment.resumed is not None
    assert experiment.resumed.timestep == at
    assert bits(result) == expected
    assert same_metrics(directory / f"{form}_{at}", directory / form)
    if form == "seeds":
        assert same_metrics(directory / f"{form}_{at}" / "seeds" / "1", directory / form / "seeds" / "1")


def test_a_run_resumed_by_hand_may_be_asked_for_the_rest(whole: Callable[[str], tuple[Path, list[Any]]]) -> None:
    """`length` and `xs` are the whole of it, or what `Experiment.resume` leaves to do; ys are of what was asked for."""
    directory, (value, key, ys) = whole("outside")
    for name, rest in (("whole", False), ("rest", True)):
        cut_off(directory, "outside", name, 20)
        with run(directory, name) as experiment:
            start = experiment.resume()
            assert start == 20
            xs = XS[start:] if rest else XS
            result = keepfast_jax.scan(step, first(), xs, experiment=experiment)
        assert bits(result) == [value, key, ys[start * 4 :] if rest else ys]
        assert same_metrics(directory / name, directory / "outside")


def test_what_was_begun_in_one_form_goes_on_in_the_other(whole: Callable[[str], tuple[Path, list[Any]]]) -> None:
    """The checkpoints are the same."""
    directory, expected = whole("outside")
    cut_off(directory, "outside", "other", 20)
    with run(directory, "other") as experiment:
        assert bits(inside(experiment)) == expected
    assert same_metrics(directory / "other", directory / "outside")


def test_of_several_loops_the_interrupted_one_goes_on(tmp_path: Path) -> None:
    """Those before it have nothing left to do; so in a program that is started again, and in a compiled outer loop."""

    def train(experiment: keepfast.Experiment) -> Any:
        def part(carry: Any, _: Any) -> Any:
            return keepfast_jax.scan(lambda c, x: (step(c, x)[0], step(c, x)[2]), carry, XS[:10], experiment=experiment)

        return jax.jit(lambda seed: jax.lax.scan(part, first(seed), length=4)[0])(0), jnp.zeros(0)

    with run(tmp_path, "whole") as experiment:
        expected = bits(train(experiment))
    for at in (10, 20):
        cut_off(tmp_path, "whole", str(at), at)
        with run(tmp_path, str(at)) as experiment:
            assert bits(train(experiment)) == expected
        assert same_metrics(tmp_path / str(at), tmp_path / "whole")


def test_a_longer_length_goes_on_from_the_end(tmp_path: Path) -> None:
    """As more timesteps do in any other loop."""

    def f(carry: Any, _: Any) -> Any:
        return carry + 1.0, carry, {"Loss / x": carry}

    for length in (10, 25):
        cfg = {"directory": str(tmp_path), "experiment_name": "x", "writers": ["jsonl"]}
        with keepfast.Experiment(cfg, timesteps=length) as experiment:
            carry, ys = keepfast_jax.scan(f, 0.0, length=length, experiment=experiment)
        assert (float(carry), ys.tolist()) == (length, list(range(length)))


@pytest.mark.parametrize("form", ["outside", "inside"])
def test_another_carry_is_refused_entry_by_entry(whole: Callable[[str], tuple[Path, list[Any]]], form: str) -> None:
    """While the loop is traced, with both sides, and nothing is overwritten."""
    directory, _ = whole("outside")
    cut_off(directory, "outside", f"refused_{form}", 20)

    def f(carry: Any, x: Any) -> Any:
        return carry, {"Loss / x": x}

    with run(directory, f"refused_{form}") as experiment:
        loop: Any = lambda init: keepfast_jax.scan(f, init, XS, experiment=experiment)  # noqa: E731
        call = jax.jit(loop) if form == "inside" else loop
        with pytest.raises(keepfast.LoadMismatch, match=r"carry\.0: shape: the module has float32 \(4,\)"):
            call((jnp.zeros(4), jax.random.key(0)))


def test_another_number_of_seeds_is_refused(whole: Callable[[str], tuple[Path, list[Any]]]) -> None:
    """The error says how many the checkpoint holds."""
    directory, _ = whole("seeds")
    cut_off(directory, "seeds", "more", 20)
    with pytest.raises(Exception, match=r"the checkpoint holds 2 seed\(s\)"), run(directory, "more") as experiment:
        jax.jit(jax.vmap(lambda seed: keepfast_jax.scan(step, first(seed), XS, experiment=experiment)))(jnp.arange(3))


def test_keys_of_another_implementation_are_refused(tmp_path: Path) -> None:
    """Although their data have the same shape; it names both."""

    def train(name: str, impl: str) -> None:
        with run(tmp_path, name) as experiment:
            keepfast_jax.scan(lambda c, _: (c, {"x": 0.0}), jax.random.key(0, impl=impl), XS, experiment=experiment)

    train("whole", "rbg")
    cut_off(tmp_path, "whole", "other", 20)
    with pytest.raises(keepfast.LoadMismatch, match=r"random keys of `unsafe_rbg`, the file has random keys of `rbg`"):
        train("other", "unsafe_rbg")


def test_checkpoints_hold_the_carry_under_the_names_it_has(whole: Callable[[str], tuple[Path, list[Any]]]) -> None:
    """As the module `carry`; of several seeds in one file, with the seed as the first axis."""
    from safetensors.numpy import load_file

    for form, axes in (("outside", ()), ("seeds", (2,))):
        directory, _ = whole(form)
        arrays = load_file(directory / form / "checkpoints" / "agent_20.safetensors")
        assert arrays["carry.0"].shape == (*axes, 3)
        assert arrays["carry.1.key_data"].shape == (*axes, 2)


def test_a_function_compiled_before_the_resume_says_so(tmp_path: Path) -> None:
    """It has no place for what the checkpoint holds."""

    def f(carry: Any, x: Any) -> Any:
        return carry + x, {"Loss / x": carry}

    with run(tmp_path, "whole") as experiment:
        train = jax.jit(lambda init: keepfast_jax.scan(f, init, XS, experiment=experiment)[0])
        train(0.0)
        assert experiment.resume(tmp_path / "whole" / "checkpoints" / "agent_20.safetensors") == 20
        with pytest.raises(Exception, match="compile it anew"):
            jax.block_until_ready(train(0.0))
        carry = jax.jit(lambda init: keepfast_jax.scan(f, init, XS, experiment=experiment)[0])(0.0)
    np.testing.assert_allclose(carry, XS.sum(), rtol=1e-5)
