"""Models of stable-baselines3, by a stand-in of NumPy with its calls; `tests/peers` has the library itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast import testing
from keepfast.adapters.stable_baselines3.adapter import StableBaselines3Adapter

ROOT = "stable_baselines3.common"

PLACE = {"checkpoint_interval": 8, "writers": ["jsonl"]}
"""Settings of the experiments, to which a directory comes."""


class BaseCallback:
    def __init__(self) -> None:
        self.locals: dict[str, Any] = {}

    def init_callback(self, model: Any) -> None:
        self.model = model

    def on_step(self) -> bool:
        return bool(self._on_step())

    def on_training_end(self) -> None:
        self._on_training_end()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        pass


class KVWriter:
    pass


class Logger:
    def __init__(self) -> None:
        self.name_to_value: dict[str, Any] = {}
        self.name_to_count: dict[str, int] = {}
        self.name_to_excluded: dict[str, tuple[str, ...]] = {}
        self.output_formats: list[Any] = []

    def record(self, key: str, value: Any, exclude: str = "") -> None:
        self.name_to_value[key], self.name_to_excluded[key] = value, (exclude,)

    def dump(self, step: int) -> None:
        for each in self.output_formats:
            each.write(self.name_to_value, self.name_to_excluded, step)
        self.name_to_value.clear()
        self.name_to_excluded.clear()


class Envs:
    """Two environments that end an episode after five steps, and draw from generators of their own."""

    num_envs = 2

    def __init__(self) -> None:
        self.generator: Any = None
        self.steps = np.zeros(2, np.int64)

    def reset(self) -> Any:
        self.generator = np.random.default_rng(4)
        return self.generator.normal(size=2)

    def step(self, actions: Any) -> Any:
        self.steps += 1
        dones = self.steps % 5 == 0
        infos = [{"TimeLimit.truncated": bool(each)} for each in dones]
        return self.generator.normal(size=2), np.float32(actions), dones, infos


class BaseAlgorithm:
    """A model that learns by rollouts of four steps, or of one where it has a replay buffer."""

    def __init__(self, *, replays: bool = False) -> None:
        np.random.seed(5)  # noqa: NPY002  (as the library draws)
        self.policy = SimpleNamespace(weights=np.zeros(2), steps=np.zeros(1))
        self.env, self.n_envs, self.action_space, self.gamma = Envs(), 2, SimpleNamespace(), 0.9
        self.num_timesteps = self._episode_num = self._n_updates = self._total_timesteps = 0
        self._last_obs: Any = None
        self.ep_info_buffer: Any = None
        self.action_noise: Any = SimpleNamespace(drift=0.0)
        if replays:
            rows = np.zeros((6, 2))
            self.replay_buffer = SimpleNamespace(buffer_size=6, pos=0, full=False, rewards=rows)
            self.train_freq = SimpleNamespace(frequency=1, unit=SimpleNamespace(value="step"))
        else:
            self.n_steps = 4

    def get_env(self) -> Any:
        return self.env

    def get_vec_normalize_env(self) -> Any:
        return None

    def _get_torch_save_params(self) -> Any:
        return ["policy.weights", "policy.steps"], []

    def _excluded_save_params(self) -> list[str]:
        return ["policy", "env"]

    def _init_callback(self, callback: Any, progress_bar: bool = False) -> Any:
        self.callbacks = callback if isinstance(callback, list) else [callback] if callback else []
        for each in self.callbacks:
            each.init_callback(self)
        return self.callbacks

    def collect_rollouts(self, steps: int) -> None:
        for _ in range(steps):
            self.action_noise.drift += float(np.random.normal())  # noqa: NPY002
            actions = self._last_obs + self.policy.weights + self.action_noise.drift
            following, rewards, dones, infos = self.env.step(actions)
            self.num_timesteps += 2
            for each in self.callbacks:
                each.locals.update(rewards=rewards, dones=dones, infos=infos)
                each.on_step()
            rewards += 100  # as the library adds the value of what was cut short, in place
            if hasattr(self, "replay_buffer"):
                buffer = self.replay_buffer
                buffer.rewards[buffer.pos] = rewards
                buffer.pos = (buffer.pos + 1) % 6
                buffer.full |= not buffer.pos
            self._last_obs = following

    def learn(self, total: int, callback: Any = None, reset_num_timesteps: bool = True) -> None:
        self.num_timesteps *= not reset_num_timesteps
        self._num_timesteps_at_start, self._total_timesteps = self.num_timesteps, total + self.num_timesteps
        if reset_num_timesteps or self._last_obs is None:
            self._last_obs = self.env.reset()
            self.ep_info_buffer = []
        self.action_noise.drift *= 0.5  # a training begins with other noise
        if not hasattr(self, "_logger"):
            self._logger = self.logger = Logger()
        self._init_callback(callback)
        while self.num_timesteps < self._total_timesteps:
            self.collect_rollouts(4 if not hasattr(self, "replay_buffer") else 1)
            self.logger.record("time/fps", 7.0)
            self.logger.record("time/iterations", 3, exclude="tensorboard")
            self.logger.dump(self.num_timesteps)
            self.train()
        for each in self.callbacks:
            each.on_training_end()

    def train(self) -> None:
        samples = self.replay_buffer.rewards if hasattr(self, "replay_buffer") else self._last_obs
        self.policy.weights += np.random.normal() * 0.1 + 0.01 * np.mean(samples)  # noqa: NPY002
        self.policy.steps += 1
        self._n_updates += 1
        self.logger.record("train/weight", self.policy.weights[0])


BaseAlgorithm.__module__ = f"{ROOT}.base_class"


class Model(BaseAlgorithm):
    pass


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put a library with such classes where the real one would be."""
    logged = {name: type(name, (), {}) for name in ("Figure", "HParam", "Image", "Video")}
    modules = {"callbacks": {"BaseCallback": BaseCallback}, "logger": {"KVWriter": KVWriter, **logged}}
    for name in ("stable_baselines3", ROOT):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name, content in modules.items():
        module = ModuleType(f"{ROOT}.{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    hooks = "keepfast.adapters.stable_baselines3.hooks"
    monkeypatch.delitem(sys.modules, hooks, raising=False)
    yield
    sys.modules.pop(hooks, None)


def train(model: Any, _env: Any, start: int, timesteps: int) -> None:
    model.learn(timesteps - start, reset_num_timesteps=False)


def state(model: Any) -> dict[str, Any]:
    buffer = getattr(model, "replay_buffer", None)
    return {
        "weights": model.policy.weights.copy(),
        "steps": model.policy.steps.copy(),
        "observed": model._last_obs.copy(),
        "counters": [model.num_timesteps, model._n_updates, model.action_noise.drift],
        "rewards": None if buffer is None else buffer.rewards.copy(),
        "position": None if buffer is None else [buffer.pos, buffer.full],
        "pending": dict(model.logger.name_to_value),
    }


class TestStableBaselines3Adapter(testing.AdapterContract):
    @pytest.fixture(params=[False, True])
    def subject(self, request: pytest.FixtureRequest) -> testing.AdapterSubject:
        return testing.AdapterSubject(
            StableBaselines3Adapter(), lambda: (Model(replays=request.param), None), train, state, timesteps=48
        )


@pytest.fixture
def attached(tmp_path: Path) -> tuple[Any, keepfast.Experiment]:
    return begun(tmp_path)


def begun(tmp_path: Path) -> tuple[Any, keepfast.Experiment]:
    model, cfg = Model(), {"directory": tmp_path, "experiment_name": "run", "writers": ["jsonl"], "write_interval": 8}
    experiment = keepfast.Experiment({**cfg, "checkpoint_interval": 16, "autoreset": "same_step"})
    experiment.when_closed(StableBaselines3Adapter().attach(model, experiment))
    return model, experiment


def test_what_its_logger_writes_is_tracked_but_what_is_no_curve(attached: tuple[Any, keepfast.Experiment]) -> None:
    """At the timesteps that it was recorded for, beside the rewards as the environments gave them."""
    model, experiment = attached
    given = []
    step = model.env.step
    model.env.step = lambda actions: given.append(result := step(actions)) or result
    given_rewards = lambda: [np.float32(each[1]) - 100 for each in given]  # noqa: E731
    model.learn(16)
    experiment.close()
    found = keepfast.read_metrics(experiment.directory)
    assert found["time/fps"].values.tolist() == [7.0, 7.0]
    assert found["train/weight"].steps.tolist() == [16]
    assert "time/iterations" not in found
    highest = found["Reward / Instantaneous reward (max)"].values.tolist()
    expected = [float(np.max(each)) for each in (given_rewards()[:4], given_rewards()[4:])]
    assert highest == pytest.approx(expected, abs=1e-4)
    assert found["Episode / Total timesteps (mean)"].values.tolist() == [5.0]


def test_what_was_stepped_before_a_rollout_broke_off_is_tracked(attached: tuple[Any, keepfast.Experiment]) -> None:
    """Its steps are tracked together, also where there are fewer of them than there were to be."""
    model, experiment = attached
    step, left = model.env.step, iter(range(5))  # and an episode ends with the fifth

    def stepped(actions: Any) -> Any:
        next(left)
        return step(actions)

    model.env.step = stepped
    with pytest.raises(StopIteration):
        model.learn(16)
    experiment.close()
    assert keepfast.read_metrics(experiment.directory)["Episode / Total timesteps (mean)"].values.tolist() == [5.0]


def test_a_resumed_model_that_counts_from_zero_is_refused(tmp_path: Path) -> None:
    """The error says how to call `learn`."""
    model, experiment = begun(tmp_path)
    model.learn(16)
    experiment.close()
    model, experiment = begun(tmp_path)
    assert experiment.resume() == 16
    with pytest.raises(keepfast.UsageError, match=r"learn\(timesteps - 16, reset_num_timesteps=False\)"):
        model.learn(32)
    experiment.close()


def test_another_training_from_zero_is_another_pass(attached: tuple[Any, keepfast.Experiment]) -> None:
    """Its timesteps are counted on from those before it, as its checkpoints are."""
    model, experiment = attached
    model.learn(16)
    model.learn(16)
    assert model.num_timesteps == 16
    assert experiment.completed == 32
    experiment.close()
    assert keepfast.read_metrics(experiment.directory)["time/fps"].steps.tolist() == [8, 16, 24, 32]


def test_callbacks_of_users_and_what_the_library_saves_stay(attached: tuple[Any, keepfast.Experiment]) -> None:
    """A user's callback is called beside ours, and `save` leaves out the methods that stand in."""
    model, experiment = attached
    called = []

    class Own(BaseCallback):
        def _on_step(self) -> bool:
            called.append(self.locals["dones"].any())
            return True

    model.learn(8, Own())
    assert called == [False] * 4
    assert {name for name, value in vars(model).items() if callable(value)} <= set(model._excluded_save_params())
    assert {"policy", "env"} <= set(model._excluded_save_params())
    experiment.close()
    assert model.logger.output_formats == []


def test_an_environment_that_cannot_be_kept_is_reset_by_a_resume(tmp_path: Path) -> None:
    """A warning says so when the model is attached, and why."""

    def begun() -> Any:
        model = Model()
        model.env.physics = memoryview(b"")  # type: ignore[attr-defined]
        experiment = keepfast.Experiment({**PLACE, "directory": tmp_path, "experiment_name": "run"})
        with pytest.warns(UserWarning, match=r"cannot be kept, since `physics` is a builtins.memoryview; a resume"):
            experiment.when_closed(StableBaselines3Adapter().attach(model, experiment))
        return model, experiment

    model, experiment = begun()
    with experiment:
        model.learn(8)
    other, experiment = begun()
    other._last_obs = np.zeros(2)
    with experiment:
        assert experiment.resume() == 8
        assert other._last_obs is None
        np.testing.assert_array_equal(other.policy.weights, model.policy.weights)
        other.learn(8, reset_num_timesteps=False)
        assert other.num_timesteps == experiment.completed == 16


def test_a_model_that_does_not_collect_rollouts_is_refused(tmp_path: Path) -> None:
    """And what the experiment did is nothing."""
    model = Model()
    model.policy = None  # type: ignore[assignment]
    with keepfast.Experiment({**PLACE, "directory": tmp_path}) as experiment:
        with pytest.raises(keepfast.UsageError, match="has no policy yet"):
            StableBaselines3Adapter().attach(model, experiment)
        assert "_init_callback" not in vars(model)


def test_a_model_whose_networks_the_library_does_not_name_is_refused(tmp_path: Path) -> None:
    """Neither by modules of PyTorch nor by train states of Flax: its checkpoints would lack them."""
    model = Model()
    model._get_torch_save_params = lambda: ([], [])  # type: ignore[method-assign]
    with keepfast.Experiment({**PLACE, "directory": tmp_path}) as experiment:
        with pytest.raises(keepfast.UsageError, match="has networks neither of PyTorch nor in train states of Flax"):
            StableBaselines3Adapter().attach(model, experiment)
        assert "_init_callback" not in vars(model)


def test_the_samples_of_another_buffer_are_refused(tmp_path: Path) -> None:
    """One of another size; the error says both."""
    model = Model(replays=True)
    cfg = {**PLACE, "directory": tmp_path}
    with keepfast.Experiment({**cfg, "experiment_name": "run"}) as experiment:
        experiment.when_closed(StableBaselines3Adapter().attach(model, experiment))
        model.learn(8)
    other = Model(replays=True)
    other.replay_buffer.buffer_size = 7
    with keepfast.Experiment({**cfg, "experiment_name": "other"}) as experiment:
        experiment.when_closed(StableBaselines3Adapter().attach(other, experiment))
        with pytest.raises(keepfast.LoadMismatch, match="a replay buffer of 6 rows with rewards; this one has 7 rows"):
            experiment.resume(tmp_path / "run")
