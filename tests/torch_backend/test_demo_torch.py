"""The demo on PyTorch: real trainings, through the command line and by its function."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
gymnasium = pytest.importorskip("gymnasium")

import keepfast  # noqa: E402
from keepfast_torch import demo  # noqa: E402

TIMESTEPS = 150


def command(directory: Path, *options: object) -> list[str]:
    arguments = ("demo", "--backend", "torch", "--directory", directory, *options)
    return [sys.executable, "-m", "keepfast.cli", *map(str, arguments)]


def train(directory: Path, seed: int = 0, **changes: Any) -> keepfast.DemoResult:
    settings = {"env": "CartPole-v1", "timesteps": TIMESTEPS, "progress": lambda _completed, _score: None, **changes}
    return demo.run(keepfast.DemoSettings(directory=directory, seed=seed, **settings))


@pytest.fixture(autouse=True)
def _threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run a short demo through the command line; return its directory and what it printed."""
    directory = tmp_path_factory.mktemp("demo")
    ended = subprocess.run(command(directory, "--timesteps", 400), capture_output=True, text=True, timeout=240)
    assert (ended.returncode, ended.stderr) == (0, "")
    (run,) = directory.iterdir()
    return run, ended.stdout


def test_the_demo_tracks_every_tag_of_ppo(finished: tuple[Path, str]):
    """Each tag that the metrics table gives PPO is in the event files, with finite values."""
    run, _ = finished
    assert keepfast.metrics.check(run, "PPO").missing == ()
    metrics = keepfast.read_metrics(run)
    assert all(np.isfinite(series.values).all() for series in metrics.values())
    deviations = metrics["Policy / Standard deviation"].values
    assert deviations.min() > 0
    assert deviations.max() <= 0.5  # that of two equally likely actions
    assert np.all(np.diff(metrics["Learning / Learning rate"].values) < 0)


def test_the_demo_leaves_checkpoints_the_best_and_its_memory(finished: tuple[Path, str]):
    """Ten checkpoints, the best one, and a memory file for each rollout lie in the run's directory."""
    run, printed = finished
    assert {path.name for path in run.glob("checkpoints/agent_*")} == {f"agent_{40 * i}.pt" for i in range(1, 11)}
    assert (run / "checkpoints" / "best_agent.pt").exists()
    assert len(list(run.glob("memory/*.pt"))) == 400 // demo.PPO_DEFAULTS["rollouts"]
    assert "evaluation score" in printed
    assert f"tensorboard --logdir={run}" in printed


def test_a_checkpoint_of_the_demo_is_a_plain_dict_of_state_dicts(finished: tuple[Path, str]):
    """Whoever has only PyTorch reads every module, keyed as the agent keys it."""
    state = torch.load(finished[0] / "checkpoints" / "agent_400.pt", weights_only=True)
    assert {"policy", "value", "state_preprocessor", "optimizer", "scheduler"} <= set(state)
    policy = demo.network(4, 2, 0.01)
    policy.load_state_dict(state["policy"])


def test_an_exported_memory_holds_a_rollout(finished: tuple[Path, str]):
    """Each state is what the step before led to, and the steps that only reset are marked: those after an end."""
    snapshot = keepfast.read_memory(min(finished[0].glob("memory/*.pt")))
    tensors = snapshot.tensors
    assert tensors["states"].shape == (demo.PPO_DEFAULTS["rollouts"], demo.NUM_ENVS, 4)
    ended = (tensors["terminated"] | tensors["truncated"])[:-1, :, 0].astype(bool)
    assert ended.any()
    np.testing.assert_array_equal(tensors["next_states"][:-1], tensors["states"][1:])
    np.testing.assert_array_equal(tensors["valid"][1:, :, 0].astype(bool), ~ended)


def test_no_statistic_of_the_demo_contains_a_reset(finished: tuple[Path, str]):
    """CartPole gives 1 at each step of an episode, so an episode is as long as its total reward."""
    metrics = keepfast.read_metrics(finished[0])
    assert set(metrics["Reward / Instantaneous reward (min)"].values) == {1.0}
    totals, lengths = metrics["Reward / Total reward (mean)"], metrics["Episode / Total timesteps (mean)"]
    assert len(totals.values) > 1
    np.testing.assert_array_equal(totals.values, lengths.values)


def test_the_same_seed_gives_the_same_training_bit_for_bit(tmp_path: Path):
    """Every module of the last checkpoint is the same, and another seed's is not."""
    states = [
        torch.load(train(tmp_path, seed).experiment_dir / "checkpoints" / f"agent_{TIMESTEPS}.pt", weights_only=True)
        for seed in (1, 1, 2)
    ]
    flat = [keepfast.tree.flatten(state) for state in states]
    assert flat[0].keys() == flat[1].keys()
    assert [path for path, leaf in flat[0].items() if not np.array_equal(leaf, flat[1][path])] == []
    assert not torch.equal(states[0]["policy"]["0.weight"], states[2]["policy"]["0.weight"])


def test_ctrl_c_leaves_a_checkpoint_that_loads(tmp_path: Path):
    """A KeyboardInterrupt ends the training, with a checkpoint of that timestep, and what was best is evaluated."""

    def interrupt(completed: int, _score: float | None) -> None:
        if completed == 73:
            raise KeyboardInterrupt

    result = train(tmp_path, progress=interrupt)
    assert (result.interrupted, result.timesteps) == (True, 73)
    envs = demo.make_envs("CartPole-v1", 1)
    fresh = demo.make_agent(envs, keepfast.DemoSettings("CartPole-v1", 1, tmp_path, 0, interrupt))
    report = fresh.load(result.experiment_dir / "checkpoints" / "agent_73.pt", modules=["policy", "value"])
    assert report.loaded


def test_ctrl_c_on_the_command_line_ends_cleanly(tmp_path: Path):
    """SIGINT ends the process with 130, its table, no traceback, and a checkpoint of the timestep it came in."""
    running = subprocess.Popen(
        command(tmp_path, "--timesteps", 100_000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/memory/*.pt")):  # the training is under way
        assert running.poll() is None, running.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    printed, errors = running.communicate(timeout=120)
    assert (running.returncode, errors) == (130, "")
    (checkpoint,) = tmp_path.glob("*/checkpoints/agent_*.pt")
    timestep = int(checkpoint.stem.removeprefix("agent_"))
    assert f"after {timestep} timesteps" in printed
    assert "policy" in torch.load(checkpoint, weights_only=True)


def test_a_terminal_shows_a_progress_bar(tmp_path: Path):
    """On a terminal the demo draws a bar that ends full."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    running = subprocess.Popen(command(tmp_path, "--timesteps", 60), stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    while chunk := _read(controller):
        shown += chunk
    assert running.wait(timeout=60) == 0
    assert "━" in shown.decode()
    assert "60/60" in shown.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux' way of saying that the other end is closed
        return b""


def test_an_unwritable_directory_is_one_clear_line(tmp_path: Path):
    """A --directory that is a file is told before anything is trained."""
    (tmp_path / "file").touch()
    ended = subprocess.run(command(tmp_path / "file"), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr == f"error: cannot use `{tmp_path / 'file'}`: File exists; give another --directory\n"


def test_advantages_are_those_of_the_definition(tmp_path: Path):
    """Generalized advantage estimates equal the sum over the rest of each episode, cut where it ends."""
    envs = demo.make_envs("CartPole-v1", 3)
    agent = demo.make_agent(envs, keepfast.DemoSettings("CartPole-v1", 1, tmp_path, 0, lambda _c, _s: None))
    generator = torch.Generator().manual_seed(0)
    stored = {
        "rewards": torch.randn(9, 3, 1, generator=generator),
        "next_states": torch.randn(9, 3, 4, generator=generator),
        "terminated": torch.rand(9, 3, 1, generator=generator) < 0.2,
        "truncated": torch.rand(9, 3, 1, generator=generator) < 0.2,
    }
    values = torch.randn(9, 3, 1, generator=generator)
    with torch.no_grad():
        got = agent._advantages(stored, values)
        next_values = agent.value(agent.state_preprocessor(stored["next_states"]))
    expected = torch.zeros_like(values)
    for start in range(9):
        for env in range(3):
            weight = 1.0
            for step in range(start, 9):
                terminated, truncated = stored["terminated"][step, env], stored["truncated"][step, env]
                bootstrap = 0.0 if terminated else 0.99 * next_values[step, env]
                expected[start, env] += weight * (stored["rewards"][step, env] + bootstrap - values[step, env])
                if terminated or truncated:
                    break
                weight *= 0.99 * 0.95
    torch.testing.assert_close(got, expected)


def test_the_scaler_knows_mean_and_variance_of_all_it_saw():
    """However the states come in parts, the statistics are those of all together (and of one prior state)."""
    states = torch.randn(1000, 3, dtype=torch.float64) * 4 + 7
    scaler = demo.RunningStandardScaler(3).double()
    for part in states.split(130):
        scaler.update(part)
    seen = scaler.seen - 1
    mean = seen * states.mean(0) / scaler.seen  # the prior counts as one state at 0 with variance 1
    second_moment = (seen * states.square().mean(0) + 1) / scaler.seen
    torch.testing.assert_close(scaler.mean, mean)
    torch.testing.assert_close(scaler.variance, second_moment - mean.square())


def test_an_ended_episode_leads_to_its_own_last_state():
    """The next state of an episode's last step is not the next episode's first state; the step after leads there."""
    envs = demo.make_envs("CartPole-v1", 2)
    envs.reset(seed=0)
    before = np.zeros(2, bool)
    resets = 0
    for _ in range(60):
        states, rewards, terminated, truncated, _ = envs.step(np.array([1, 0]))
        ended = terminated | truncated
        assert (np.abs(states[ended, 2]) > 0.2).all()  # the pole has fallen
        assert (np.abs(states[before]) <= 0.05).all()  # it stands again
        np.testing.assert_array_equal(rewards, ~before)
        resets += before.sum()
        before = ended
    assert resets > 2
    envs.close()


@pytest.mark.slow
def test_the_default_demo_reaches_400_in_90_seconds(tmp_path: Path):
    """With no option but the directory, CartPole's evaluation is at least 400, within 90 seconds of processor time."""
    before = os.times()
    ended = subprocess.run(command(tmp_path), capture_output=True, text=True, timeout=300)
    after = os.times()
    assert ended.returncode == 0, ended.stderr
    (score,) = [line.split()[-1] for line in ended.stdout.splitlines() if line.startswith("evaluation score")]
    assert float(score) >= 400
    # Not the time on the clock, which other processes of the machine have a part in.
    spent = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    assert spent < 90


@pytest.mark.slow
def test_another_environment_is_learned_too(tmp_path: Path):
    """On Acrobot, where an untrained agent scores -500, the demo's settings learn to swing up."""
    result = train(tmp_path, env="Acrobot-v1", timesteps=6000)
    assert result.evaluation_score is not None
    assert result.evaluation_score > -200
