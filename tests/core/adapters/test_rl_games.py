"""Agents of rl_games, by a stand-in of NumPy with its calls; `tests/peers` has the library itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast import testing
from keepfast.adapters.rl_games.adapter import RlGamesAdapter

ENVS, HORIZON = 3, 3
OPPONENTS: dict[int, Any] = {}
"""By the id of environments: what they have of the networks that they were given, as another process may."""


class Envs:
    """Environments that end an episode after four steps, and draw from a generator of their own."""

    def __init__(self) -> None:
        self.generator, self.age = np.random.default_rng(2), np.zeros(ENVS, np.int64)

    def set_weights(self, indices: Any, weights: Any) -> None:
        OPPONENTS[id(self)][indices] = weights["model"][0]

    def reset(self) -> Any:
        self.age = np.zeros(ENVS, np.int64)
        np.random.normal()  # noqa: NPY002  (as some do)
        return self.generator.normal(size=ENVS)

    def step(self, _actions: Any) -> Any:
        self.age = (self.age + 1) % 4
        ended = self.age == 0
        return self.generator.normal(size=ENVS), np.float32(self.age), ended, {"time_outs": ended}


class SummaryWriter:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int) -> None:
        self.told.append((tag, scalar_value, global_step))


class A2CBase:
    """Learns by epochs of three steps."""

    def __init__(self, max_epochs: int = 12) -> None:
        np.random.seed(1)  # noqa: NPY002  (as the library draws)
        self.vec_env, self.writer, self.max_epochs = Envs(), SummaryWriter(), max_epochs
        self.config = {"name": "learner", "gamma": 0.9, "network": object(), "nested": {"units": [8], "made": len}}
        self.model, self.optimizer = np.zeros(2), np.zeros(1)
        self.has_central_value = self.mixed_precision = False
        self.algo_observer = SimpleNamespace(ep_infos=[])
        self.game_rewards = SimpleNamespace(current_size=0, mean=np.zeros(1))
        self.epoch_num = self.frame = 0
        self.last_lr, self.last_mean_rewards, self.obs = 0.5, -1000.0, None

    def cast_obs(self, values: Any) -> Any:
        return values

    def env_step(self, actions: Any) -> Any:
        observed, rewards, dones, infos = self.vec_env.step(actions)
        return {"obs": observed}, rewards[:, None], dones, infos

    def update_epoch(self) -> int:
        self.epoch_num += 1
        return self.epoch_num

    def train(self) -> float:
        self.current_rewards, self.last_mean_rewards = np.zeros(ENVS), -1000.0
        self.obs = {"obs": self.vec_env.reset()}
        while True:
            epoch = self.update_epoch()
            for _ in range(HORIZON):
                actions = self.obs["obs"] + np.random.normal(size=ENVS)  # noqa: NPY002
                self.obs, rewards, dones, _ = self.env_step(actions)
                self.current_rewards = (self.current_rewards + rewards[:, 0]) * ~dones
                self.model += self.last_lr * actions.mean()
            self.optimizer += 2
            self.last_lr *= 0.9
            self.frame += HORIZON * ENVS
            self.game_rewards.current_size, self.game_rewards.mean = epoch, self.game_rewards.mean + 1
            self.last_mean_rewards = max(self.last_mean_rewards, float(self.current_rewards.mean()))
            for axis in ("step", "iter", "time"):
                self.writer.add_scalar(f"rewards/{axis}", self.last_mean_rewards, self.frame)
            self.writer.add_scalar("losses/a_loss", float(self.model[0]), self.frame)
            if epoch >= self.max_epochs:
                return self.last_mean_rewards


A2CBase.__module__ = "rl_games.common.a2c_common"


class SelfPlaying(A2CBase):
    """Gives its weights to one environment more after each epoch, to play against; they are in no attribute."""

    has_self_play_config = True

    def __init__(self, max_epochs: int = 12) -> None:
        super().__init__(max_epochs)
        OPPONENTS[id(self.vec_env)] = np.zeros(ENVS)
        self.self_play_manager = SimpleNamespace(updates_num=0, env_indexes=np.arange(1))

    def get_weights(self) -> Any:
        return {"model": self.model}

    def env_step(self, actions: Any) -> Any:
        observed, rewards, dones, infos = super().env_step(actions)
        return {"obs": observed["obs"] + OPPONENTS[id(self.vec_env)]}, rewards, dones, infos

    def update_epoch(self) -> int:
        manager = self.self_play_manager
        if self.epoch_num % 2:
            self.vec_env.set_weights(manager.env_indexes, self.get_weights())
            manager.env_indexes = (manager.env_indexes + 1) % ENVS
        return super().update_epoch()


class SACAgent:
    """Learns from what it has seen, an epoch a step; it counts an epoch before it begins it."""

    def __init__(self, max_epochs: int = 12) -> None:
        np.random.seed(1)  # noqa: NPY002  (as the library draws)
        self.vec_env, self.writer, self.max_epochs = Envs(), SummaryWriter(), max_epochs
        self.config = {"name": "learner"}
        self.model, self.log_alpha = np.zeros(2), np.zeros(())
        self.actor_optimizer, self.critic_optimizer, self.log_alpha_optimizer = (np.zeros(1) for _ in range(3))
        self.algo_observer = SimpleNamespace()
        rows = {name: np.zeros((20, 1)) for name in ("obses", "next_obses", "actions", "rewards", "dones")}
        self.replay_buffer = SimpleNamespace(capacity=20, idx=0, full=False, **rows)
        self.epoch_num = self.frame = self.step = 0
        self.obs = None

    def cast_obs(self, values: Any) -> Any:
        return values

    def env_step(self, actions: Any) -> Any:
        self.step += ENVS
        return self.vec_env.step(actions)

    def train_epoch(self) -> None:
        buffer = self.replay_buffer
        self.obs, rewards, dones, _ = self.env_step(None)
        self.current_rewards = (self.current_rewards + rewards) * ~dones
        for seen in self.obs:
            buffer.obses[buffer.idx] = seen
            buffer.idx = (buffer.idx + 1) % buffer.capacity
            buffer.full = buffer.full or buffer.idx == 0
        self.model += np.random.choice(buffer.obses[: buffer.capacity if buffer.full else buffer.idx, 0])  # noqa: NPY002
        self.log_alpha += self.model[0]
        self.actor_optimizer += self.log_alpha

    def train(self) -> None:
        self.current_rewards, self.frame = np.zeros(ENVS), 0
        self.obs = {"obs": self.vec_env.reset()}
        while self.epoch_num < self.max_epochs:
            self.epoch_num += 1
            self.train_epoch()
            self.frame += ENVS
            self.writer.add_scalar("losses/a_loss", float(self.model[0]), self.frame)


SACAgent.__module__ = "rl_games.algos_torch.sac_agent"


def train(agent: Any, _env: Any, _start: int, timesteps: int) -> None:
    agent.max_epochs = timesteps
    agent.train()


ARRAYS = ("model", "log_alpha", "optimizer", "actor_optimizer", "current_rewards")
NUMBERS = ("last_lr", "last_mean_rewards", "epoch_num", "frame", "step")


def state(agent: Any) -> dict[str, Any]:
    meter = getattr(agent, "game_rewards", SimpleNamespace(current_size=0, mean=np.zeros(1)))
    buffer = getattr(agent, "replay_buffer", SimpleNamespace(idx=0, full=False, obses=np.zeros(1)))
    return {
        "arrays": [getattr(agent, name).copy() for name in ARRAYS if hasattr(agent, name)],
        "observed": np.array(agent.obs["obs"] if isinstance(agent.obs, dict) else agent.obs),
        "numbers": [getattr(agent, name, 0) for name in NUMBERS],
        "games": [meter.current_size, meter.mean.copy()],
        "samples": [buffer.idx, buffer.full, buffer.obses.copy()],
        "self-play": list(vars(getattr(agent, "self_play_manager", SimpleNamespace())).values()),
        "next": [agent.vec_env.age.copy(), agent.vec_env.generator.normal()],
    }


class TestRlGamesAdapter(testing.AdapterContract):
    @pytest.fixture(params=[A2CBase, SelfPlaying, SACAgent])
    def subject(self, request: pytest.FixtureRequest) -> testing.AdapterSubject:
        return testing.AdapterSubject(RlGamesAdapter(), lambda: (request.param(), None), train, state, timesteps=12)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda buffer: vars(buffer).update(capacity=21), "20 rows; this one has 21"),
        (
            lambda buffer: vars(buffer).update(obses=np.zeros((20, 2))),
            r"`obses` of the replay buffer has rows of .*\(2,\)",
        ),
    ],
)
def test_samples_of_another_buffer_are_refused(change: Any, told: str, tmp_path: Path) -> None:
    """By what differs; nothing of the file is in the buffer then."""
    agent, other = SACAgent(4), SACAgent(4)
    with begun(agent, tmp_path, checkpoint_interval=4):
        agent.train()
    change(other.replay_buffer)
    with begun(other, tmp_path, checkpoint_interval=4) as experiment, pytest.raises(keepfast.LoadMismatch, match=told):
        experiment.resume()
    assert other.replay_buffer.idx == 0
    assert not other.replay_buffer.obses.any()


def begun(agent: Any, directory: Path, **settings: Any) -> keepfast.Experiment:
    cfg = {"directory": directory, "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1, **settings}
    adapter = RlGamesAdapter()
    experiment = keepfast.Experiment({**adapter.configuration(agent), "experiment": {**cfg, "autoreset": "same_step"}})
    experiment.when_closed(adapter.attach(agent, experiment))
    return experiment


def test_each_number_is_tracked_once_and_its_own_writer_is_told_as_before(tmp_path: Path) -> None:
    """What it writes over frames, epochs and seconds is one; rewards and episodes are of every step."""
    agent = A2CBase(4)
    with begun(agent, tmp_path):
        agent.train()
    found = keepfast.read_metrics(tmp_path / "run")
    assert {"rewards/iter", "losses/a_loss"} <= found.keys()
    assert not {"rewards/step", "rewards/time"} & found.keys()
    assert found["losses/a_loss"].steps.tolist() == [1, 2, 3, 4]
    assert len(agent.writer.told) == 16
    assert set(found["Episode / Total timesteps (mean)"].values) == {4.0}
    assert not {"train", "update_epoch", "env_step"} & vars(agent).keys()
    assert "add_scalar" not in vars(agent.writer)


def test_its_configuration_is_kept_without_the_objects_in_it(tmp_path: Path) -> None:
    """Numbers, texts, and containers of them."""
    settings = dict(RlGamesAdapter().configuration(A2CBase()))
    assert settings.pop("experiment") == {"autoreset": "same_step"}
    assert settings == {"name": "learner", "gamma": 0.9, "nested": {"units": [8]}}


def test_where_the_environments_cannot_be_kept_running_episodes_begin_anew(tmp_path: Path) -> None:
    """What was observed last is of no use then; all else goes on."""
    for epochs in (3, 6):
        agent = A2CBase(epochs)
        agent.vec_env.simulator = memoryview(b"its own")  # type: ignore[attr-defined]
        with pytest.warns(keepfast.KeepfastWarning, match="`simulator` is a builtins.memoryview"):
            experiment = begun(agent, tmp_path, checkpoint_interval=3)
        with experiment:
            assert experiment.resume() == epochs - 3
            agent.train()
            assert experiment.completed == agent.epoch_num == epochs
    assert agent.frame == 6 * HORIZON * ENVS


@pytest.fixture
def observing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make the observer as users of the library do, over a stand-in for the library."""
    names = ("rl_games", "rl_games.common", "rl_games.common.algo_observer")
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["rl_games"].__spec__ = ModuleSpec("rl_games", None)
    module: Any = sys.modules[names[-1]]
    module.AlgoObserver = type("AlgoObserver", (), {})
    module.DefaultAlgoObserver = type("DefaultAlgoObserver", (), {"after_init": lambda *_: None})
    ours = "keepfast.adapters.rl_games.observer"
    monkeypatch.delitem(sys.modules, ours, raising=False)
    from keepfast.adapters.rl_games.observer import KeepfastObserver

    yield KeepfastObserver
    sys.modules.pop(ours, None)


def test_an_observer_attaches_the_agent_that_a_runner_makes(observing: Any, tmp_path: Path) -> None:
    """It goes on with an earlier run, closes the experiment at the end, and tells the other observer."""
    told: list[Any] = []
    other = SimpleNamespace(after_init=told.append, after_steps=lambda: told.append("steps"))
    cfg = {"directory": tmp_path, "experiment_name": "run", "checkpoint_interval": 4, "writers": ["jsonl"]}
    for epochs in (4, 8):
        observer, agent = observing(cfg, other), A2CBase(epochs)
        observer.after_init(agent)
        observer.after_steps()
        assert observer.experiment.completed == epochs - 4
        agent.train()
        assert observer.experiment.completed == epochs
        with pytest.raises(keepfast.UsageError, match="closed"):
            observer.experiment.track_data("loss", 1.0)
    assert told[1::2] == ["steps"] * 2


def test_an_observer_tells_how_an_agent_of_sac_is_attached(observing: Any, tmp_path: Path) -> None:
    """The library tells observers of it when it trains already."""
    with pytest.raises(keepfast.UsageError, match=r"keepfast\.attach\(agent, cfg\)"):
        observing({"directory": tmp_path}).after_init(SACAgent())


def test_an_observer_closes_the_experiment_of_a_training_that_fails(observing: Any, tmp_path: Path) -> None:
    """What went wrong is raised as it is."""
    observer, agent = observing({"directory": tmp_path, "writers": ["jsonl"]}), A2CBase()
    observer.after_init(agent)
    agent.vec_env.reset = lambda: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        agent.train()
    with pytest.raises(keepfast.UsageError, match="closed"):
        observer.experiment.track_data("loss", 1.0)
