"""The demo on JAX: real trainings, through the command line and by its function."""

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
from safetensors.numpy import load_file

jax = pytest.importorskip("jax")
gymnasium = pytest.importorskip("gymnasium")

import keepfast  # noqa: E402
from keepfast_jax import demo  # noqa: E402

TIMESTEPS = 150


def command(directory: Path, *options: object) -> list[str]:
    arguments = ("demo", "--backend", "jax", "--directory", directory, *options)
    return [sys.executable, "-m", "keepfast.cli", *map(str, arguments)]


def train(directory: Path, seed: int = 0, **changes: Any) -> keepfast.DemoResult:
    settings = {"env": "CartPole-v1", "timesteps": TIMESTEPS, "progress": lambda _completed, _score: None, **changes}
    return demo.run(keepfast.DemoSettings(directory=directory, seed=seed, **settings))


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
    assert {path.name for path in run.glob("checkpoints/agent_*")} == {
        f"agent_{40 * i}.safetensors" for i in range(1, 11)
    }
    assert (run / "checkpoints" / "best_agent.safetensors").exists()
    assert len(list(run.glob("memory/*.pt"))) == 400 // demo.PPO_DEFAULTS["rollouts"]
    assert "evaluation score" in printed
    assert f"tensorboard --logdir={run}" in printed


def test_a_checkpoint_of_the_demo_is_a_plain_safetensors_file(finished: tuple[Path, str]):
    """Whoever has only safetensors reads every array, under the name of its module and its path in it."""
    arrays = load_file(finished[0] / "checkpoints" / "agent_400.safetensors")
    assert arrays["policy.params.layers_0.kernel"].shape == (4, 64)
    modules = {name.partition(".")[0] for name in arrays}
    assert {"policy", "value", "state_preprocessor", "optimizer", "key"} <= modules


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


@pytest.mark.slow
def test_the_same_seed_gives_the_same_training_bit_for_bit(tmp_path: Path):
    """Every array of the last checkpoint is the same, and another seed's is not."""
    name = f"agent_{TIMESTEPS}.safetensors"
    first, again, other = (load_file(train(tmp_path, seed).experiment_dir / "checkpoints" / name) for seed in (1, 1, 2))
    assert first.keys() == again.keys()
    assert [path for path, array in first.items() if not np.array_equal(array, again[path])] == []
    kernel = "policy.params.layers_0.kernel"
    assert not np.array_equal(first[kernel], other[kernel])


def test_ctrl_c_leaves_a_checkpoint_that_loads(tmp_path: Path):
    """A KeyboardInterrupt ends the training, with a checkpoint of that timestep, and what was best is evaluated."""

    def interrupt(completed: int, _score: float | None) -> None:
        if completed == 73:
            raise KeyboardInterrupt

    result = train(tmp_path, progress=interrupt)
    assert (result.interrupted, result.timesteps) == (True, 73)
    envs = demo.make_envs("CartPole-v1", 1)
    fresh = demo.make_agent(envs, keepfast.DemoSettings("CartPole-v1", 1, tmp_path, 0, interrupt))
    report = fresh.load(result.experiment_dir / "checkpoints" / "agent_73.safetensors", modules=["policy", "value"])
    assert report.loaded


@pytest.mark.slow
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
    (checkpoint,) = tmp_path.glob("*/checkpoints/agent_*.safetensors")
    timestep = int(checkpoint.stem.removeprefix("agent_"))
    assert f"after {timestep} timesteps" in printed
    assert "policy.params.layers_0.kernel" in load_file(checkpoint)


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
    rng = np.random.default_rng(0)
    rewards, values, next_values = rng.normal(size=(3, 9, 3, 1)).astype(np.float32)
    terminated, truncated = rng.random((2, 9, 3, 1)) < 0.2
    stored = {"rewards": rewards, "terminated": terminated, "truncated": truncated}
    expected = np.zeros_like(values)
    for start in range(9):
        for env in range(3):
            weight = 1.0
            for step in range(start, 9):
                bootstrap = 0.0 if terminated[step, env] else 0.99 * next_values[step, env]
                expected[start, env] += weight * (rewards[step, env] + bootstrap - values[step, env])
                if terminated[step, env] or truncated[step, env]:
                    break
                weight *= 0.99 * 0.95
    got = agent._advantages(jax.tree.map(jax.numpy.asarray, stored), values, next_values)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_scaler_knows_mean_and_variance_of_all_it_saw():
    """However the states come in parts, the statistics are those of all together (and of one prior state).

    States that are not valid are passed over.
    """
    states = np.random.default_rng(0).normal(7, 4, (1000, 3)).astype(np.float32)
    scaler = demo.RunningStandardScaler.of(3)
    for part in np.array_split(states, 8):
        padded = np.concatenate([part, np.full_like(part[:5], 1e6)])
        scaler = scaler.updated(padded, np.arange(len(padded))[:, None] < len(part))
    assert scaler.seen == 1001  # the prior counts as one state at 0 with variance 1
    mean = 1000 * states.mean(0) / 1001
    second_moment = (1000 * np.square(states).mean(0) + 1) / 1001
    np.testing.assert_allclose(scaler.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(scaler.variance, second_moment - np.square(mean), rtol=1e-4)


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
