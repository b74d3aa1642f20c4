"""`keepfast_jax.scan` tracks what the same loop in Python tracks, outside jit and inside, for any carry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import flax.linen as nn  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402
from flax.training.train_state import TrainState  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

import keepfast  # noqa: E402
import keepfast_jax  # noqa: E402

STEPS, ENVS = 53, 3
TOLERANCE = 1e-6
"""Of numbers in single precision: what is added up on the device against double precision on the host."""

TRANSITIONS = "episodes"


def track(value: Any, x: Any) -> dict[str, Any]:
    """Return what every loop here tracks: each statistic, infinities, a number from an integer, and episodes."""
    rewards = jnp.sin(value + x + jnp.arange(ENVS))
    return {
        "Loss / mean": value,
        "Loss / most (max)": jnp.array([value]),
        "Loss / least (min)": value,
        "Loss / odd": jnp.where(x % 5 == 0, jnp.inf, value),
        "Loss / whole": x,
        TRANSITIONS: keepfast_jax.Transitions(rewards, (x + jnp.arange(ENVS)) % 7 == 6, rewards > 0.99),
    }


def plain(carry: Any, x: Any) -> Any:
    value, key = carry["value"], carry["key"]
    key, draw = jax.random.split(key)
    value = value * 0.9 + jax.random.normal(draw, ()) * carry["scale"]
    return {"value": value, "key": key, "scale": carry["scale"]}, value, track(value, x)


def first_plain(seed: Any = 0) -> Any:
    return {"value": 0.0, "key": jax.random.key(seed), "scale": jnp.float32(0.5)}


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(1)(x)[0]


def linen(state: Any, x: Any) -> Any:
    loss, gradients = jax.value_and_grad(lambda params: state.apply_fn(params, jnp.ones(2)) ** 2)(state.params)
    return state.apply_gradients(grads=gradients), track(loss, x)


def first_linen() -> Any:
    params = Net().init(jax.random.key(0), jnp.ones(2))
    return TrainState.create(apply_fn=Net().apply, params=params, tx=optax.adam(1e-2))


def flax_nnx(carry: Any, x: Any) -> Any:
    model, optimizer = carry
    loss, gradients = nnx.value_and_grad(lambda model: (model(jnp.ones(2)) ** 2).sum())(model)
    optimizer.update(model, gradients)
    return (model, optimizer), track(loss, x)


def first_nnx() -> Any:
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    return model, nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)


def settings(directory: Path, **others: Any) -> dict[str, Any]:
    given = {"directory": str(directory), "write_interval": 10, "checkpoint_interval": 25, "writers": ["jsonl"]}
    return {**given, "experiment_name": "run", **others}


def python_loop(f: Callable[..., Any], carry: Any, directory: Path, **others: Any) -> Any:
    """Run the loop in Python, with `track_data` and `record_transition`."""
    compiled = jax.jit(f)
    cfg = {**settings(directory, **others), "checkpoint_interval": 0}
    with keepfast.Experiment(cfg, timesteps=STEPS) as experiment:
        for step in range(STEPS):
            carry, *_, tracked = compiled(carry, jnp.int32(step))
            experiment.record_transition(*tracked.pop(TRANSITIONS)[:3])
            for tag, value in tracked.items():
                experiment.track_data(tag, value)
            experiment.step(step)
    return carry


def leaves(tree: Any) -> list[Any]:
    data = [
        jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        for leaf in map(jnp.asarray, jax.tree.leaves(tree))
    ]
    return [np.asarray(leaf) for leaf in data]


def assert_same_metrics(found: Path, expected: Path) -> None:
    metrics, reference = keepfast.read_metrics(found), keepfast.read_metrics(expected)
    assert metrics.keys() == reference.keys()
    for tag, (steps, values, _) in reference.items():
        assert metrics[tag][0].tolist() == steps.tolist()
        np.testing.assert_allclose(metrics[tag][1], values, rtol=TOLERANCE, atol=TOLERANCE, err_msg=tag)


KINDS = {"plain": (plain, first_plain), "linen": (linen, first_linen), "nnx": (flax_nnx, first_nnx)}


@pytest.mark.filterwarnings("ignore:.*not finite.*:keepfast.KeepfastWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_loop_in_python(tmp_path: Path, kind: str) -> None:
    """Outside jit and within, for plain trees, a TrainState and nnx modules; the carry is the same to rounding."""
    f, first = KINDS[kind]
    expected = python_loop(f, first(), tmp_path / "python")
    xs = jnp.arange(STEPS)
    ended = {}
    with keepfast.Experiment(settings(tmp_path / "outside"), timesteps=STEPS) as experiment:
        ended["outside"] = keepfast_jax.scan(f, first(), xs, experiment=experiment)
    with keepfast.Experiment(settings(tmp_path / "inside"), timesteps=STEPS) as experiment:
        ended["inside"] = jax.jit(lambda init: keepfast_jax.scan(f, init, xs, experiment=experiment))(first())
    for name, (carry, ys) in ended.items():
        assert_same_metrics(tmp_path / name / "run", tmp_path / "python" / "run")
        assert type(carry) is type(expected)
        for found, wanted in zip(leaves(carry), leaves(expected), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        assert (ys is None) == (kind != "plain")
    assert all(map(np.array_equal, leaves(ended["outside"]), leaves(ended["inside"])))


def test_the_result_is_that_of_jax_lax_scan(tmp_path: Path) -> None:
    """Carry, ys and their types, with xs of several leaves, keys among them, and without a step."""

    def f(carry: Any, x: Any) -> Any:
        number, key = x
        return carry + number.sum() * jax.random.uniform(key), {"y": carry * 2, "key": key}

    for count in (11, 0):
        xs = jnp.arange(11.0 * 2).reshape(11, 2)[:count], jax.random.split(jax.random.key(0), 11)[:count]
        carry, ys = jax.jit(lambda xs: jax.lax.scan(f, 1.0, xs))(xs)
        cfg = settings(tmp_path, write_interval=4, experiment_name=str(count))
        with keepfast.Experiment(cfg, timesteps=11) as experiment:
            own_carry, own_ys = keepfast_jax.scan(
                lambda c, x: (*f(c, x), {"Loss / x": c}), 1.0, xs, experiment=experiment
            )
            if not count:
                experiment.step(0)
        assert (own_carry.dtype, own_carry.weak_type) == (carry.dtype, carry.weak_type)
        np.testing.assert_allclose(own_carry, carry, rtol=1e-6)
        assert [leaf.dtype for leaf in jax.tree.leaves(own_ys)] == [leaf.dtype for leaf in jax.tree.leaves(ys)]
        for found, wanted in zip(leaves(own_ys), leaves(ys), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_the_callers_arrays_are_not_donated(tmp_path: Path) -> None:
    """The carry is donated from piece to piece, but the first one is the caller's, and the last one too."""
    init = {"value": jnp.ones(3)}

    def f(carry: Any, _: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf * 0.5, carry), {"Loss / x": carry["value"].sum()}

    cfg = settings(tmp_path, write_interval=2, checkpoint_interval=3)
    with keepfast.Experiment(cfg) as experiment:
        carry, _ = keepfast_jax.scan(f, init, length=7, experiment=experiment)
        assert init["value"].tolist() == [1.0] * 3
        carry["value"].delete()  # as whoever donates it does
    arrays = load_file(tmp_path / "run" / "checkpoints" / "agent_7.safetensors")
    assert arrays["carry.value"].tolist() == [0.5**7] * 3


@pytest.mark.filterwarnings("ignore:.*not finite.*:keepfast.KeepfastWarning")
@pytest.mark.parametrize("form", ["jit of vmap", "vmap of jit", "vmap of vmap"])
def test_seeds_side_by_side_are_each_what_it_is_alone(tmp_path: Path, form: str) -> None:
    """Under vmap, however it is nested, with one call of the host for all; each seed as its own loop in Python."""
    calls: list[Any] = []

    def train(experiment: Any, seed: Any) -> Any:
        return keepfast_jax.scan(plain, first_plain(seed), jnp.arange(STEPS), experiment=experiment)

    with keepfast.Experiment(settings(tmp_path, seeds="both"), timesteps=STEPS) as experiment:
        track_them = experiment.loop.track
        experiment.loop.track = lambda *seeds: (calls.append(len(seeds)), track_them(*seeds))  # type: ignore[method-assign]
        forms: dict[str, Callable[[Any], Any]] = {
            "jit of vmap": jax.jit(jax.vmap(lambda seed: train(experiment, seed))),
            "vmap of jit": jax.vmap(jax.jit(lambda seed: train(experiment, seed))),
            "vmap of vmap": jax.jit(jax.vmap(jax.vmap(lambda seed: train(experiment, seed)))),
        }
        seeds = jnp.arange(4).reshape(2, 2) if form == "vmap of vmap" else jnp.arange(4)
        carry, _ = forms[form](seeds)
    assert calls == [4] * 7  # at 10, 20, 25, 30, 40, 50 and 53
    alone = python_loop(plain, first_plain(2), tmp_path / "python")
    assert_same_metrics(tmp_path / "run" / "seeds" / "2", tmp_path / "python" / "run")
    np.testing.assert_allclose(carry["value"].reshape(-1)[2], alone["value"], rtol=1e-5)
    both = keepfast.read_metrics(tmp_path / "run")
    own = [keepfast.read_metrics(tmp_path / "run" / "seeds" / str(seed))["Loss / mean"][1] for seed in range(4)]
    np.testing.assert_allclose(both["Loss / mean"][1], np.mean(own, axis=0), rtol=1e-6)
    np.testing.assert_allclose(both["Loss / mean [standard error]"][1], np.std(own, axis=0, ddof=1) / 2, rtol=1e-6)
    np.testing.assert_array_equal(both["Loss / mean [maximum]"][1], np.max(own, axis=0))


@pytest.mark.filterwarnings("ignore:.*not finite.*:keepfast.KeepfastWarning")
def test_loops_in_a_loop_go_on_with_the_count(tmp_path: Path) -> None:
    """Of a compiled outer loop, and one after the other; intervals need not divide their lengths."""
    python_loop(plain, first_plain(), tmp_path / "python")

    def part(experiment: Any, carry: Any, start: Any, length: int) -> Any:
        return keepfast_jax.scan(plain, carry, start + jnp.arange(length), experiment=experiment)

    with keepfast.Experiment(settings(tmp_path / "nested"), timesteps=STEPS) as experiment:
        first = jax.tree.map(jnp.asarray, first_plain()) | {"value": jnp.float32(0)}
        outer = jax.jit(lambda carry: jax.lax.scan(lambda c, n: part(experiment, c, n * 17, 17), carry, jnp.arange(3)))
        carry, _ = outer(first)
        jax.jit(lambda carry: part(experiment, carry, 51, 2))(carry)
    assert_same_metrics(tmp_path / "nested" / "run", tmp_path / "python" / "run")
    with keepfast.Experiment(settings(tmp_path / "outside"), timesteps=STEPS) as experiment:
        for start in (0, 17, 34, 51):
            carry, _ = part(experiment, carry if start else first_plain(), start, min(17, STEPS - start))
    assert_same_metrics(tmp_path / "outside" / "run", tmp_path / "python" / "run")


def masked(count: Any, x: Any) -> Any:
    done = (x % 4 == 3) * jnp.ones(ENVS, bool)
    valid = (x + jnp.arange(ENVS)) % 3 != 0
    return count + 1, {"episodes": keepfast_jax.Transitions(jnp.ones((ENVS, 1)) + x, done, ~valid, valid)}


@pytest.mark.filterwarnings("ignore:rows that follow the end of an episode have rewards")
@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_rows_that_are_no_transitions_are_in_no_statistic(tmp_path: Path, autoreset: str) -> None:
    """Neither those that the loop masks nor those that only reset, as the settings say."""
    step = jax.jit(masked)
    cfg = {"autoreset": autoreset, "checkpoint_interval": 0}
    with keepfast.Experiment(settings(tmp_path, **cfg, experiment_name="python"), timesteps=30) as experiment:
        for number in range(30):
            _, tracked = step(0, number)
            experiment.record_transition(*tracked["episodes"])
            experiment.step(number)
    with keepfast.Experiment(settings(tmp_path, **cfg), timesteps=30) as experiment:
        keepfast_jax.scan(masked, 0, jnp.arange(30), experiment=experiment)
    assert_same_metrics(tmp_path / "run", tmp_path / "python")


CONSTANTS = {"a float": 0.25, "an int": 3, "a bool": True, "a NumPy number": np.float32(0.5), "an array": jnp.int8(7)}


@pytest.mark.parametrize("form", ["outside", "inside"])
def test_what_no_step_changes_is_tracked_too(tmp_path: Path, form: str) -> None:
    """A learning rate that is a number of Python, say; as part of the carry and as y as well."""

    def f(carry: Any, x: Any) -> Any:
        return {"count": carry["count"] + 1, "fixed": 2.5}, 7, {**CONSTANTS, "x": x}

    def loop(count: Any) -> Any:
        carry = {"count": count, "fixed": 0.0}
        return keepfast_jax.scan(f, carry, jnp.arange(30.0), experiment=experiment)

    with keepfast.Experiment(settings(tmp_path), timesteps=30) as experiment:
        carry, ys = (loop if form == "outside" else jax.jit(loop))(0)
    assert (int(carry["count"]), float(carry["fixed"]), ys.tolist()) == (30, 2.5, [7] * 30)
    found = keepfast.read_metrics(tmp_path / "run")
    for tag, value in CONSTANTS.items():
        assert found[tag][1].tolist() == [float(value)] * 3


def test_only_the_latest_hundred_episodes_count(tmp_path: Path) -> None:
    """Of an interval with more of them, in the order they ended, over several fillings of the rows."""

    def f(count: Any, x: Any) -> Any:
        rewards = jnp.arange(300.0) + x
        return count, {"t": keepfast_jax.Transitions(rewards, rewards % 3 == 0, rewards < 0)}

    with keepfast.Experiment(settings(tmp_path, write_interval=400, checkpoint_interval=0)) as experiment:
        keepfast_jax.scan(f, 0, jnp.arange(400), experiment=experiment)
    steps = np.arange(400)[:, None] + np.arange(300.0)
    ended = [(row, env) for row in (398, 399) for env in range(300) if steps[row, env] % 3 == 0][-100:]
    returns = [steps[row - 2 : row + 1, env].sum() for row, env in ended]
    found = keepfast.read_metrics(tmp_path / "run")
    assert found["Reward / Total reward (mean)"][1].tolist() == [pytest.approx(np.mean(returns), rel=1e-6)]
    assert found["Episode / Total timesteps (max)"][1].tolist() == [3.0]
    assert found["Reward / Instantaneous reward (mean)"][1].tolist() == [pytest.approx(steps.mean(), rel=1e-6)]


def test_episodes_of_an_interval_longer_than_the_rows_count(tmp_path: Path) -> None:
    """Those that ended in each filling of the rows."""

    def f(count: Any, x: Any) -> Any:
        return count, {"t": keepfast_jax.Transitions(x + jnp.zeros(1), x % 50 == 49, x < 0)}

    with keepfast.Experiment(settings(tmp_path, write_interval=1000, checkpoint_interval=0)) as experiment:
        keepfast_jax.scan(f, 0, jnp.arange(1000.0), experiment=experiment)
    returns = np.arange(1000.0).reshape(20, 50).sum(axis=1)
    found = keepfast.read_metrics(tmp_path / "run")
    for end, expected in (("max", returns.max()), ("min", returns.min()), ("mean", returns.mean())):
        assert found[f"Reward / Total reward ({end})"][1].tolist() == [pytest.approx(expected, rel=1e-6)]


@pytest.mark.parametrize("form", ["outside", "inside"])
def test_environments_that_are_reset_between_loops_begin_anew(tmp_path: Path, form: str) -> None:
    """Where `reset_episodes` says so; else the episode goes on."""

    def f(count: Any, x: Any) -> Any:
        return count, {"t": keepfast_jax.Transitions(jnp.ones(1), x == 9, x < 0)}

    for reset, total in ((True, 10.0), (False, 15.0)):
        cfg = settings(tmp_path, experiment_name=str(reset), write_interval=15, checkpoint_interval=0)
        with keepfast.Experiment(cfg) as experiment:
            for xs in (jnp.arange(5), jnp.arange(10)):
                loop: Any = lambda xs: keepfast_jax.scan(f, 0, xs, experiment=experiment)  # noqa: E731
                jax.block_until_ready((loop if form == "outside" else jax.jit(loop))(xs))
                if reset and len(xs) == 5:
                    experiment.reset_episodes()
        assert keepfast.read_metrics(tmp_path / str(reset))["Reward / Total reward (mean)"][1].tolist() == [total]


def test_sums_in_single_precision_are_as_good_as_in_double(tmp_path: Path) -> None:
    """Of very many numbers, of very large ones, and where large ones cancel out."""

    def f(count: Any, x: Any) -> Any:
        tracked = {
            "Loss / many": jnp.float32(0.1),
            "Loss / large": jnp.float32(3e38),
            "Loss / cancel": jnp.where(x % 2 == 0, 1.0, -1.0) * (2.0**30) + 0.0 * x + (x == 7),
        }
        return count, tracked

    with keepfast.Experiment(settings(tmp_path, write_interval=100_000, checkpoint_interval=0)) as experiment:
        keepfast_jax.scan(f, 0, jnp.arange(100_000), experiment=experiment)
    found = {tag: series[1].tolist() for tag, series in keepfast.read_metrics(tmp_path / "run").items()}
    assert found["Loss / many"] == [pytest.approx(float(np.float32(0.1)), rel=1e-9)]
    assert found["Loss / large"] == [pytest.approx(float(np.float32(3e38)), rel=1e-9)]
    assert found["Loss / cancel"] == [pytest.approx(0.0, abs=1e-3)]
