"""Agents of rl_games attached, in environments of Gymnasium, and its runner with an observer of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rl_games")

import keepfast  # noqa: E402
from keepfast import testing  # noqa: E402
from keepfast.adapters.rl_games.adapter import RlGamesAdapter  # noqa: E402
from keepfast.adapters.rl_games.observer import KeepfastObserver  # noqa: E402
from keepfast.testing.checkpoint_store import assert_same  # noqa: E402
from tests.peers import rl_games_agents as zoo  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error::keepfast.KeepfastWarning"),
]


def train(agent: Any, _env: Any, _start: int, timesteps: int) -> None:
    agent.max_epochs = timesteps
    agent.train()


NUMBERS = ("last_lr", "epoch_num", "frame", "last_mean_rewards", "step")
OPTIMIZERS = ("optimizer", "actor_optimizer", "critic_optimizer", "log_alpha_optimizer")


def state(agent: Any) -> dict[str, Any]:
    """Return what training changes: networks, optimizers, counters, running episodes, what the environments do next."""
    meters = [agent.game_rewards, agent.game_lengths]
    optimizers = [getattr(agent, name) for name in OPTIMIZERS if hasattr(agent, name)]
    observed = agent.obs["obs"] if isinstance(agent.obs, dict) else agent.obs
    manager = getattr(agent, "self_play_manager", None)
    return {
        "model": [each.numpy().copy() for each in agent.model.state_dict().values()],
        "alpha": float(getattr(agent, "log_alpha", 0)),
        "optimizers": [leaf.numpy().copy() for each in optimizers for leaf in tensors_of(each.state_dict()["state"])],
        "samples": [
            each[:72].numpy().copy()
            for each in tensors_of(vars(agent.replay_buffer) if hasattr(agent, "replay_buffer") else {})
        ],
        "numbers": [float(getattr(agent, name, 0)) for name in NUMBERS],
        "running": [each.numpy().copy() for each in (observed, agent.dones, agent.current_rewards)],
        "hidden": [each.numpy().copy() for each in agent.rnn_states or ()],
        "meters": [[meter.current_size, meter.mean.numpy().copy()] for meter in meters],
        "self-play": [] if manager is None else [manager.updates_num, *manager.env_indexes],
        "opponents": list(zoo.ELSEWHERE[id(agent.vec_env)]),
        "next": [agent.vec_env.step(actions(agent))[0] for _ in range(9)],
    }


def actions(agent: Any) -> Any:
    return np.array([agent.vec_env.envs.single_action_space.sample() for _ in range(zoo.ENVS)]) * 0


def tensors_of(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [leaf for each in node.values() for leaf in tensors_of(each)]
    return [node] if isinstance(node, torch.Tensor) else []


class TestRlGamesAdapter(testing.AdapterContract):
    @pytest.fixture(params=["continuous", "discrete", "recurrent", "self-play", "SAC"])
    def subject(self, request: pytest.FixtureRequest) -> testing.AdapterSubject:
        return testing.AdapterSubject(
            RlGamesAdapter(), lambda: (zoo.agent(request.param), None), train, state, timesteps=6
        )


def test_its_runner_is_told_of_an_observer_and_goes_on_with_an_earlier_run(tmp_path: Path) -> None:
    """A runner that trains six epochs, and one that goes on from the third, end with the same networks."""
    place = {"directory": tmp_path, "writers": ["jsonl"], "write_interval": 1, "checkpoint_interval": 3}
    ended = {}
    for name, lengths in (("through", [6]), ("broken off", [3, 6])):
        for epochs in lengths:
            observer = KeepfastObserver({**place, "experiment_name": name})
            zoo.runner("continuous", observer, str(tmp_path / f"{name} its own"), epochs).run({"train": True})
        assert observer.experiment is not None
        assert observer.experiment.completed == 6
        content = keepfast.read_checkpoint(tmp_path / name / "checkpoints" / "agent_6.pt")
        ended[name] = {part: content[part] for part in ("model", "optimizer")}
    assert_same(ended["broken off"], ended["through"])


def test_an_observer_of_sac_is_told_how_to_attach_it(tmp_path: Path) -> None:
    """Observers are told of it in the midst of its training; how to make and attach the agent stands in the error."""
    observer = KeepfastObserver({"directory": tmp_path, "experiment_name": "run"})
    with pytest.raises(keepfast.UsageError, match=r"keepfast\.attach\(agent, cfg\)"):
        zoo.runner("SAC", observer, str(tmp_path / "its own")).run({"train": True})


def test_what_it_tracks_is_what_its_own_writer_is_told(tmp_path: Path) -> None:
    """The same numbers, epoch by epoch, each once; and rewards and episodes of every step."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    observer = KeepfastObserver({"directory": tmp_path, "experiment_name": "run", "write_interval": 1})
    zoo.runner("continuous", observer, str(tmp_path / "its own")).run({"train": True})
    observer.observed.algo.writer.close()
    own = accumulator.EventAccumulator(str(next((tmp_path / "its own").rglob("summaries"))))
    own.Reload()
    found = keepfast.read_metrics(tmp_path / "run")
    tags = {tag for tag in own.Tags()["scalars"] if not tag.endswith(("/time", "/step", "/frame"))}
    assert {"losses/a_loss", "info/kl", "rewards/iter", "episode_lengths/iter"} <= tags <= found.keys()
    for tag in tags:
        theirs = [each.value for each in own.Scalars(tag)]
        np.testing.assert_allclose(found[tag].values, theirs, rtol=1e-6, err_msg=tag)
    assert max(found["Episode / Total timesteps (max)"].values) == 7.0


def test_the_networks_of_a_checkpoint_are_its_own(tmp_path: Path) -> None:
    """What PyTorch reads in the file under `model` is what another agent of the library takes."""
    agent = zoo.agent("continuous")
    with keepfast.attach(agent, {"directory": tmp_path, "experiment_name": "run", "checkpoint_interval": 6}):
        agent.train()
    content = torch.load(tmp_path / "run" / "checkpoints" / "agent_6.pt", weights_only=True)
    other = zoo.agent("continuous")
    other.set_weights({"model": content["model"]})
    for mine, theirs in zip(other.model.parameters(), agent.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
