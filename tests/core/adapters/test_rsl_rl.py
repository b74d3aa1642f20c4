"""Runners of rsl_rl, by a stand-in of NumPy with its calls; `tests/peers` has the library itself."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast import testing
from keepfast.adapters.rsl_rl.adapter import RslRlAdapter

ENVS = 3


class Envs:
    """Environments that end an episode after four steps, and draw from a generator of their own."""

    def __init__(self) -> None:
        self.generator, self.age = np.random.default_rng(2), np.zeros(ENVS, np.int64)
        self.observed = self.generator.normal(size=ENVS)

    def get_observations(self) -> Any:
        return self.observed

    def step(self, actions: Any) -> Any:
        self.age = (self.age + 1) % 4
        self.observed = self.generator.normal(size=ENVS)
        ended = self.age == 0
        return self.observed, np.float32(actions), ended, {"time_outs": ended, "log": {"/height": 2.0}}


class Logger:
    def __init__(self, cfg: Any) -> None:
        self.cfg, self.num_envs, self.gpu_world_size, self.writer = cfg, ENVS, 1, "own"
        self.rewbuffer: deque[float] = deque(maxlen=5)
        self.lenbuffer: deque[float] = deque(maxlen=5)
        self.cur_reward_sum = np.zeros(ENVS)
        self.tot_timesteps = 0

    def process_env_step(self, rewards: Any, dones: Any, extras: Any, intrinsic: Any = None) -> None:
        self.cur_reward_sum += rewards
        self.rewbuffer.extend(self.cur_reward_sum[dones].tolist())
        self.lenbuffer.extend([4.0] * int(dones.sum()))
        self.cur_reward_sum[dones] = 0

    def log(self, **told: Any) -> None:
        self.tot_timesteps += 2 * ENVS


class OnPolicyRunner:
    """Learns by iterations of two steps."""

    def __init__(self) -> None:
        np.random.seed(1)  # noqa: NPY002  (as the library draws)
        self.env, self.cfg = Envs(), {"num_steps_per_env": 2, "algorithm": {"gamma": 0.9}}
        self.alg = SimpleNamespace(actor=np.zeros(2), critic=np.zeros(2), optimizer=np.zeros(1), learning_rate=0.5)
        self.logger, self.current_learning_iteration = Logger(self.cfg), 0

    def learn(self, iterations: int) -> None:
        observed = self.env.get_observations()
        first = self.current_learning_iteration
        for it in range(first, first + iterations):
            for _ in range(2):
                actions = observed + np.random.normal(size=ENVS)  # noqa: NPY002
                observed, rewards, dones, extras = self.env.step(actions)
                self.logger.process_env_step(rewards, dones, extras, None)
            self.alg.actor += self.alg.learning_rate * observed.mean()
            self.alg.critic += 1
            self.alg.optimizer += 2
            self.alg.learning_rate *= 0.9
            self.current_learning_iteration = it
            told = {"it": it, "start_it": first, "total_it": first + iterations, "collect_time": 1, "learn_time": 1}
            losses = {"value": float(self.alg.actor[0])}
            self.logger.log(**told, loss_dict=losses, learning_rate=0.5, action_std=np.ones(2), rnd_weight=None)


OnPolicyRunner.__module__ = "rsl_rl.runners.on_policy_runner"


def state(runner: Any) -> dict[str, Any]:
    algorithm, logger = runner.alg, runner.logger
    return {
        "arrays": [algorithm.actor.copy(), algorithm.critic.copy(), algorithm.optimizer.copy()],
        "observed": runner.env.observed.copy(),
        "numbers": [algorithm.learning_rate, logger.tot_timesteps, runner.current_learning_iteration],
        "episodes": [list(logger.rewbuffer), logger.cur_reward_sum.tolist(), runner.env.age.tolist()],
    }


class TestRslRlAdapter(testing.AdapterContract):
    @pytest.fixture
    def subject(self) -> testing.AdapterSubject:
        def train(runner: Any, _env: Any, _start: int, timesteps: int) -> None:
            runner.learn(timesteps - runner.current_learning_iteration)

        return testing.AdapterSubject(RslRlAdapter(), lambda: (OnPolicyRunner(), None), train, state, timesteps=12)


def test_an_iteration_is_written_under_the_names_of_the_library(tmp_path: Path) -> None:
    """Losses, what the environments tell, episodes; and the rewards of every step."""
    runner = OnPolicyRunner()
    cfg = {"directory": tmp_path, "writers": ["jsonl"], "write_interval": 2, "autoreset": "same_step"}
    with keepfast.Experiment(cfg) as experiment:
        experiment.when_closed(RslRlAdapter().attach(runner, experiment))
        runner.learn(4)
    found = keepfast.read_metrics(experiment.directory)
    assert found["/height"].values.tolist() == [2.0, 2.0]
    assert found["/height"].steps.tolist() == [2, 4]
    assert found["Perf/total_fps"].values.tolist() == [3.0, 3.0]
    assert found["Episode / Total timesteps (mean)"].values.tolist() == [4.0, 4.0]
    assert {"Loss/value", "Loss/learning_rate", "Policy/mean_std", "Train/mean_reward"} <= found.keys()
    assert vars(runner.logger).keys() & {"log", "process_env_step"} == set()


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Make the log writer as the library does, over a stand-in for the library."""
    for name in ("rsl_rl", "rsl_rl.utils", "rsl_rl.utils.log_writer"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["rsl_rl.utils.log_writer"].LogWriter = type("LogWriter", (), {})  # type: ignore[attr-defined]
    ours = "keepfast.adapters.rsl_rl.log_writer"
    monkeypatch.delitem(sys.modules, ours, raising=False)
    from keepfast.adapters.rsl_rl.log_writer import KeepfastLogWriter

    yield KeepfastLogWriter
    sys.modules.pop(ours, None)


def test_the_log_writer_needs_only_the_configuration_of_the_library(writer: Any, tmp_path: Path) -> None:
    """What it is given for an iteration is written for that, in the directory of the library, and both settings are
    kept; what the library writes again at the seconds of the clock is left away."""
    made = writer(log_dir=str(tmp_path / "log"), writers=["jsonl"])
    made.store_config(SimpleNamespace(to_dict=lambda: {"num_envs": 4}), {"seed": 7})
    for iteration in range(3):
        made.add_scalar("Loss/value", iteration * 2.0, iteration)
        made.add_scalar("Train/mean_reward", 1.0, iteration)
        made.add_scalar("Train/mean_reward/time", 1.0, 17)
    (tmp_path / "model_2.pt").write_bytes(b"model")
    made.save_model(str(tmp_path / "model_2.pt"), 2)
    made.stop()
    found = keepfast.read_metrics(tmp_path / "log")
    assert found.keys() == {"Loss/value", "Train/mean_reward"}
    assert found["Loss/value"].values.tolist() == [0.0, 2.0, 4.0]
    assert found["Loss/value"].steps.tolist() == [0, 1, 2]
    described = json.loads((tmp_path / "log" / "config.json").read_text("utf-8"))["config"]
    assert described["train_cfg"] == {"seed": 7}
    assert described["env_cfg"] == {"num_envs": 4}


def test_where_the_log_writer_writes_is_said_by_the_library(writer: Any, tmp_path: Path) -> None:
    """A directory in its settings is an error that says so."""
    with pytest.raises(keepfast.InvalidValue, match="`directory` is set for this logger; rsl_rl gives its `log_dir`"):
        writer(log_dir=str(tmp_path), directory="runs")
