"""Models of stable-baselines3 attached: each algorithm that trains, killed and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sb3 = pytest.importorskip("stable_baselines3")
gymnasium = pytest.importorskip("gymnasium")

from stable_baselines3.common.callbacks import EvalCallback  # noqa: E402
from stable_baselines3.common.logger import configure  # noqa: E402
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # noqa: E402

import keepfast  # noqa: E402
from keepfast import testing  # noqa: E402
from keepfast.adapters.stable_baselines3.adapter import StableBaselines3Adapter  # noqa: E402

OFF_POLICY: dict[str, Any] = {"learning_starts": 20, "batch_size": 16, "buffer_size": 48, "env": "Pendulum-v1"}
KINDS: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 16, "batch_size": 16, "n_epochs": 2},
    "PPO-normalized": {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "env": "Pendulum-v1", "normalize": True},
    "PPO-sde": {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "env": "Pendulum-v1", "use_sde": True},
    "A2C": {"n_steps": 8},
    "DQN": {**OFF_POLICY, "env": "CartPole-v1", "target_update_interval": 16, "train_freq": 2},
    "SAC": OFF_POLICY,
    "SAC-normalized": {**OFF_POLICY, "normalize": True, "use_sde": True},
    "TD3": {**OFF_POLICY, "noise": True},
    "DDPG": {
        **OFF_POLICY,
        "noise": True,
        "optimize_memory_usage": True,
        "replay_buffer_kwargs": {"handle_timeout_termination": False},
    },
}


def made(kind: str) -> tuple[Any, Any]:
    """Return a model of a kind of two environments, each time the same."""
    settings = dict(KINDS[kind])
    name, normalize = settings.pop("env", "CartPole-v1"), settings.pop("normalize", False)
    envs: Any = DummyVecEnv([lambda: gymnasium.wrappers.TimeLimit(gymnasium.make(name), 11)] * 2)
    envs = VecNormalize(envs) if normalize else envs
    if settings.pop("noise", False):
        settings["action_noise"] = OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.2 * np.ones(1))
    algorithm = getattr(sb3, kind.partition("-")[0])
    model = algorithm("MlpPolicy", envs, seed=3, device="cpu", policy_kwargs={"net_arch": [8]}, **settings)
    return model, None


def train(model: Any, _env: Any, start: int, timesteps: int) -> None:
    model.learn(timesteps - start, reset_num_timesteps=False)


def state(model: Any) -> dict[str, Any]:
    """Return what training changes: all networks and optimizers, the samples, what comes next."""
    networks, tensors = model._get_torch_save_params()
    found = model.get_parameters()
    buffer = getattr(model, "replay_buffer", None)
    return {
        "networks": [leaf.numpy().copy() for name in networks for leaf in tensors_of(found[name])],
        "tensors": [getattr(model, name).detach().numpy().copy() for name in tensors],
        "buffer": {}
        if buffer is None
        else {name: value.copy() for name, value in vars(buffer).items() if isinstance(value, np.ndarray)},
        "counters": [model.num_timesteps, model._n_updates, model._episode_num],
        "observed": np.array(model._last_obs),
        "episodes": [(each["r"], each["l"]) for each in model.ep_info_buffer],
        "noise": [each.noise_prev.copy() for each in getattr(getattr(model, "action_noise", None), "noises", ())],
        "next": [np.array(model.env.step(np.array([model.action_space.sample()] * 2))[0]) for _ in range(15)],
    }


def tensors_of(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [leaf for each in node.values() for leaf in tensors_of(each)]
    return [node] if isinstance(node, torch.Tensor) else []


class TestStableBaselines3Adapter(testing.AdapterContract):
    @pytest.fixture(params=KINDS)
    def subject(self, request: pytest.FixtureRequest) -> testing.AdapterSubject:
        return testing.AdapterSubject(
            StableBaselines3Adapter(), lambda: made(request.param), train, state, timesteps=128
        )


@pytest.fixture
def attached(tmp_path: Path) -> tuple[Any, keepfast.Experiment]:
    model, _ = made("PPO")
    cfg = {"directory": tmp_path, "experiment_name": "run", "writers": ["jsonl"], "write_interval": 32}
    return model, keepfast.attach(model, {**cfg, "checkpoint_interval": 64})


def test_what_it_writes_is_what_its_own_logger_writes(
    attached: tuple[Any, keepfast.Experiment], tmp_path: Path
) -> None:
    """The same numbers at the same timesteps, but for the clock's; and the rewards as the environments gave them."""
    model, experiment = attached
    own = configure(str(tmp_path / "own"), ["json"])
    model.set_logger(own)
    model.learn(128)
    experiment.close()
    found = keepfast.read_metrics(experiment.directory)
    own.close()
    lines = [json.loads(line) for line in (tmp_path / "own" / "progress.json").read_text().splitlines()]
    own_tags = {tag for line in lines for tag in line if not tag.startswith("time/")} - {"train/n_updates"}  # no curves
    assert own_tags <= found.keys()
    for tag in own_tags:
        expected = [(line["time/total_timesteps"], line[tag]) for line in lines if tag in line]
        assert list(zip(found[tag].steps, found[tag].values, strict=True)) == expected
    assert {"Reward / Total reward (mean)", "Episode / Total timesteps (max)"} <= found.keys()
    assert set(found["Reward / Instantaneous reward (max)"].values) == {1.0}
    assert max(found["Episode / Total timesteps (max)"].values) <= 11


def test_what_it_saves_itself_is_as_without(attached: tuple[Any, keepfast.Experiment], tmp_path: Path) -> None:
    """The library's own file of an attached model is loaded by the library, and trains on."""
    model, experiment = attached
    model.learn(32)
    model.save(tmp_path / "model.zip")
    loaded = sb3.PPO.load(tmp_path / "model.zip", env=model.get_env())
    assert not {"collect_rollouts", "_init_callback", "_excluded_save_params"} & vars(loaded).keys()
    loaded.learn(32)
    assert experiment.completed == 32
    experiment.close()


def test_the_networks_of_a_checkpoint_are_state_dicts_of_its_own(attached: tuple[Any, keepfast.Experiment]) -> None:
    """PyTorch alone reads the file, and the library takes what is in it."""
    model, experiment = attached
    model.learn(64)
    experiment.close()
    content = torch.load(experiment.directory / "checkpoints" / "agent_64.pt", weights_only=True)
    other, _ = made("PPO")
    other.set_parameters({"policy": content["policy"], "policy.optimizer": content["policy_optimizer"]})
    for mine, theirs in zip(other.policy.parameters(), model.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_an_evaluation_of_its_own_is_judged(tmp_path: Path) -> None:
    """What an EvalCallback records is a metric like all others, by which the best is kept."""
    model, _ = made("A2C")
    cfg = {"directory": tmp_path, "writers": ["jsonl"], "write_interval": 16, "best_metric": "eval/mean_reward"}
    with keepfast.attach(model, {**cfg, "checkpoint_interval": 64}) as experiment:
        model.learn(128, EvalCallback(made("A2C")[0].get_env(), eval_freq=32, n_eval_episodes=1, verbose=0, warn=False))
    assert experiment.best_score == max(keepfast.read_metrics(experiment.directory)["eval/mean_reward"].values)
