"""Runners of rsl_rl attached, and its logger by configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rsl_rl")
tensordict = pytest.importorskip("tensordict")

from rsl_rl.env import VecEnv  # noqa: E402
from rsl_rl.runners import OnPolicyRunner  # noqa: E402

import keepfast  # noqa: E402
from keepfast import testing  # noqa: E402
from keepfast.adapters.rsl_rl.adapter import RslRlAdapter  # noqa: E402


class Points(VecEnv):  # type: ignore[misc]
    """Points on a line, which are to come to the origin: a simulator on tensors."""

    step_dt = 1.0

    @property
    def unwrapped(self) -> Points:
        return self

    def __init__(self, num_envs: int = 4) -> None:
        self.num_envs, self.num_actions, self.max_episode_length = num_envs, 1, 9
        self.device, self.cfg = "cpu", {"points": num_envs}
        self.generator = torch.Generator().manual_seed(3)
        self.position = torch.rand(num_envs, generator=self.generator)
        self.episode_length_buf = torch.zeros(num_envs, dtype=torch.long)

    def get_observations(self) -> Any:
        observed = torch.stack([self.position, self.position**2], -1)
        return tensordict.TensorDict({"policy": observed}, batch_size=[self.num_envs])

    def step(self, actions: Any) -> Any:
        self.position += 0.1 * actions[:, 0].clamp(-1, 1)
        self.episode_length_buf += 1
        ended = self.episode_length_buf >= self.max_episode_length
        started = torch.rand(self.num_envs, generator=self.generator)
        rewards = -self.position.abs()
        self.position = torch.where(ended, started, self.position)
        self.episode_length_buf[ended] = 0
        extras = {"time_outs": ended, "log": {"/distance": -rewards.mean()}}
        return self.get_observations(), rewards, ended.long(), extras


def configuration(kind: str) -> dict[str, Any]:
    network = {"class_name": "MLPModel", "hidden_dims": [8], "activation": "elu", "obs_normalization": True}
    if kind == "recurrent":
        network |= {"class_name": "RNNModel", "rnn_type": "lstm", "rnn_hidden_dim": 8, "rnn_num_layers": 1}
    algorithm = {"class_name": "PPO", "num_learning_epochs": 2, "num_mini_batches": 2}
    if kind == "rnd":
        algorithm["rnd_cfg"] = {"num_outputs": 2, "predictor_hidden_dims": [4], "target_hidden_dims": [4]}
        algorithm["rnd_cfg"] |= {"state_normalization": True, "reward_normalization": True, "weight": 0.5}
    return {
        "num_steps_per_env": 6,
        "save_interval": 1000,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"], "rnd_state": ["policy"]},
        "actor": {**network, "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 1.0}},
        "critic": network,
        "algorithm": algorithm,
    }


def made(kind: str, log_dir: str | None = None) -> Any:
    torch.manual_seed(5)
    return OnPolicyRunner(Points(), configuration(kind), log_dir=log_dir, device="cpu")


def state(runner: Any) -> dict[str, Any]:
    found = {name: tensors_of(saved) for name, saved in runner.alg.save().items()}
    return {
        **found,
        "numbers": [runner.alg.learning_rate, runner.current_learning_iteration],
        "position": runner.env.position.numpy().copy(),
        "ages": runner.env.episode_length_buf.numpy().copy(),
    }


def tensors_of(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [leaf for each in node.values() for leaf in tensors_of(each)]
    return [node.numpy().copy()] if isinstance(node, torch.Tensor) else []


def train(runner: Any, _env: Any, _start: int, timesteps: int) -> None:
    runner.learn(timesteps - runner.current_learning_iteration)


class TestRslRlAdapter(testing.AdapterContract):
    @pytest.fixture(params=["plain", "recurrent", "rnd"])
    def subject(self, request: pytest.FixtureRequest) -> testing.AdapterSubject:
        return testing.AdapterSubject(RslRlAdapter(), lambda: (made(request.param), None), train, state, timesteps=6)


def test_the_logger_is_a_matter_of_configuration(tmp_path: Path) -> None:
    """Every tag that the library logs is written at its iterations, but those at the seconds of the clock."""
    torch.manual_seed(5)
    ours = {"class_name": "keepfast.adapters.rsl_rl.log_writer:KeepfastLogWriter", "writers": ["jsonl"]}
    runner = OnPolicyRunner(Points(), {**configuration("plain"), "logger": ours}, log_dir=str(tmp_path / "log"))
    runner.learn(4)
    found = keepfast.read_metrics(tmp_path / "log")
    assert {"Loss/value", "Loss/surrogate", "Loss/learning_rate", "Policy/mean_std", "/distance"} <= found.keys()
    assert found["Loss/value"].steps.tolist() == [0, 1, 2, 3]
    assert found["Train/mean_episode_length"].values.tolist()[-1] == 9.0
    assert not [tag for tag in found if tag.endswith("/time")]


def test_what_it_tracks_attached_is_what_the_library_logs(tmp_path: Path) -> None:
    """The same tags with the same values, but for the clock's, iteration by iteration."""
    ours = {"class_name": "keepfast.adapters.rsl_rl.log_writer:KeepfastLogWriter", "writers": ["jsonl"]}
    torch.manual_seed(5)
    runner = OnPolicyRunner(Points(), {**configuration("plain"), "logger": ours}, log_dir=str(tmp_path / "log"))
    cfg = {"directory": tmp_path, "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1}
    with keepfast.attach(runner, cfg):
        runner.learn(4)
    logged, tracked = keepfast.read_metrics(tmp_path / "log"), keepfast.read_metrics(tmp_path / "run")
    assert logged.keys() <= tracked.keys()
    for tag in [tag for tag in logged if not tag.startswith("Perf/")]:
        assert (logged[tag].steps + 1).tolist() == tracked[tag].steps.tolist(), tag
        np.testing.assert_allclose(logged[tag].values, tracked[tag].values, rtol=1e-6, err_msg=tag)
