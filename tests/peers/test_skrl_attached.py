"""The twelve agents of skrl on PyTorch, of both its lines, attached in skrl's own trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast import testing
from keepfast.adapters.skrl.adapter import SkrlAdapter
from tests.peers import attached
from tests.peers import skrl_torch as zoo

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error::keepfast.KeepfastWarning"),
]


@pytest.mark.parametrize("kind", zoo.KINDS)
def test_an_attached_agent_is_the_agent_and_all_of_it_is_kept(kind: str, tmp_path: Path, tabled: Any) -> None:
    """It becomes what it becomes alone; its tags, checkpoints and memories are there; a killed one goes on exactly."""
    tabled(f"skrl {zoo.skrl.__version__} on PyTorch", kind, attached.held(zoo, kind, tmp_path))


class TestSkrlAdapter(testing.AdapterContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> testing.AdapterSubject:
        return testing.AdapterSubject(
            SkrlAdapter(), make=lambda: zoo.agent_and_env("DQN", tmp_path / "own"), train=zoo.train, state=zoo.state
        )


def test_it_may_be_attached_and_resumed_once_a_trainer_has_begun_it(tmp_path: Path) -> None:
    """Its `init` is over then; what it is, and what is kept, is the same."""
    expected = attached.trained_alone(zoo, "AMP", tmp_path / "alone", enabled=True)
    _, experiment = attached.trained_attached(zoo, "AMP", tmp_path / "through", enabled=True)
    experiment.close()
    agent, env = zoo.agent_and_env("AMP", tmp_path / "late")
    trainer = zoo.trainer_of(agent, env, attached.HALF if zoo.NEW else attached.TIMESTEPS)
    with keepfast.attach(agent, {"writers": ["jsonl"]}, env=env) as late:
        start = late.resume(experiment.directory / "checkpoints" / f"agent_{attached.HALF}.pt")
        trainer.initial_timestep = start
        trainer.train()
    attached.assert_same(zoo.state(agent), expected)


def test_an_evaluation_is_tracked_beside_the_training(tmp_path: Path) -> None:
    """Its timesteps count on, so that nothing of the training is written over."""
    agent, env = zoo.agent_and_env("PPO", tmp_path, checkpoint_interval=0)
    with keepfast.attach(agent, {"writers": ["jsonl"]}, env=env) as experiment:
        trainer = zoo.trainer_of(agent, env, 64)
        trainer.train()
        trainer.eval()
        assert experiment.completed == 128
    rewards = keepfast.read_metrics(experiment.directory)["Reward / Instantaneous reward (mean)"]
    assert list(rewards.steps) == list(range(16, 129, 16))


def test_a_closed_experiment_leaves_the_agent_to_itself(tmp_path: Path) -> None:
    """Its own writer, checkpoints and memory files are its own business again."""
    agent, env = zoo.agent_and_env("PPO", tmp_path / "its", write_interval=16, checkpoint_interval=32)
    own = agent.experiment_dir
    keepfast.attach(agent, {"directory": tmp_path / "ours"}, env=env).close()
    zoo.train(agent, env, 0, 32)
    assert agent.experiment_dir == own
    assert (Path(own) / "checkpoints" / "agent_32.pt").exists()


def test_what_an_agent_writes_itself_reaches_the_writers(tmp_path: Path) -> None:
    """By its writer, its tracking data, and the calls for writing at once."""
    agent, env = zoo.agent_and_env("SAC", tmp_path, write_interval=0)
    with keepfast.attach(agent, {"writers": ["jsonl"], "write_interval": 1000}, env=env) as experiment:
        zoo.train(agent, env, 0, 32)
        agent.tracking_data["Custom / Value"].append(2.0)
        call: dict[str, Any] = {"tag": "Custom / Scalar", "value": 1.0, "timestep": 32}
        agent.writer.add_scalar(**call) if zoo.NEW else agent.writer.add_scalar(*call.values())
        agent.write_tracking_data(timestep=32, timesteps=32)
        agent.write_checkpoint(timestep=32, timesteps=32)
        experiment.wait()
        found = keepfast.read_metrics(experiment.directory)
        assert found["Custom / Value"].values.tolist() == [2.0]
        assert found["Custom / Scalar"].steps.tolist() == [32]
        assert (experiment.directory / "checkpoints" / "agent_32.pt").exists()
