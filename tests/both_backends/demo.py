"""The demo: real trainings, through the command line and by its function."""

from __future__ import annotations

import abc
import json
import os
import pty
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

import keepfast
from keepfast import cli
from tests.both_backends.framework import Framework

TIMESTEPS = 150
GAMMA, LAMBDA = 0.99, 0.95

after_the_demo = pytest.mark.xdist_group("after the demo")
"""Marks what looks at the one demo of `finished`, so that it is run once."""


class DemoSuite(Framework):
    """Trains the demo's PPO of a backend."""

    advantages_within: ClassVar[dict[str, float]]
    scaler_within: ClassVar[dict[str, float]]
    """How far the numbers may lie from those of the definition: `rtol` and `atol`."""

    @abc.abstractmethod
    def advantages(
        self, agent: Any, stored: dict[str, NDArray[Any]], values: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the agent's advantages of stored steps, and the values of the next states that they rest on."""

    @abc.abstractmethod
    def scaled(self, parts: list[NDArray[np.float64]]) -> tuple[float, NDArray[Any], NDArray[Any]]:
        """Return how many states the demo's scaler knows of after these parts, their mean and their variance."""

    @classmethod
    def command(cls, directory: Path, *options: object) -> list[str]:
        arguments = ("demo", "--backend", cls.backend, "--directory", directory, *options)
        return [sys.executable, "-m", "keepfast.cli", *map(str, arguments)]

    def train(self, directory: Path, seed: int = 0, **changes: Any) -> keepfast.DemoResult:
        settings = {"env": "CartPole-v1", "timesteps": TIMESTEPS, "progress": nothing, **changes}
        result: keepfast.DemoResult = self.demo.run(keepfast.DemoSettings(directory=directory, seed=seed, **settings))
        return result

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
        """Run a short demo through the command line; return its directory and what it printed."""
        directory = tmp_path_factory.mktemp("demo")
        ended = subprocess.run(cls.command(directory, "--timesteps", 400), capture_output=True, text=True, timeout=240)
        assert (ended.returncode, ended.stderr) == (0, "")
        (run,) = directory.iterdir()
        return run, ended.stdout

    @after_the_demo
    def test_the_demo_tracks_every_tag_of_ppo(self, finished: tuple[Path, str]) -> None:
        """Each tag that the metrics table gives PPO is in the event files, with finite values."""
        run, _ = finished
        assert keepfast.metrics.check(run, "PPO").missing == ()
        metrics = keepfast.read_metrics(run)
        assert all(np.isfinite(series.values).all() for series in metrics.values())
        deviations = metrics["Policy / Standard deviation"].values
        assert deviations.min() > 0
        assert deviations.max() <= 0.5  # that of two equally likely actions
        assert np.all(np.diff(metrics["Learning / Learning rate"].values) < 0)

    @after_the_demo
    def test_the_demo_leaves_checkpoints_the_best_and_its_memory(self, finished: tuple[Path, str]) -> None:
        """Ten checkpoints, the best one, and a memory file for each rollout lie in the run's directory."""
        run, printed = finished
        periodic = {f"agent_{40 * i}{self.extension}" for i in range(1, 11)}
        assert {path.name for path in run.glob("checkpoints/agent_*")} == periodic
        assert (run / "checkpoints" / f"best_agent{self.extension}").exists()
        assert len(list(run.glob("memory/*.pt"))) == 400 // self.demo.PPO_DEFAULTS["rollouts"]
        assert "evaluation score" in printed
        assert f"tensorboard --logdir={run}" in printed

    @after_the_demo
    def test_an_exported_memory_holds_a_rollout(self, finished: tuple[Path, str]) -> None:
        """Each state is what the step before led to, and the steps that only reset are marked: those after an end."""
        snapshot = keepfast.read_memory(min(finished[0].glob("memory/*.pt")))
        tensors = snapshot.tensors
        assert tensors["states"].shape == (self.demo.PPO_DEFAULTS["rollouts"], self.demo.NUM_ENVS, 4)
        ended = (tensors["terminated"] | tensors["truncated"])[:-1, :, 0].astype(bool)
        assert ended.any()
        np.testing.assert_array_equal(tensors["next_states"][:-1], tensors["states"][1:])
        np.testing.assert_array_equal(tensors["valid"][1:, :, 0].astype(bool), ~ended)

    @after_the_demo
    def test_no_statistic_of_the_demo_contains_a_reset(self, finished: tuple[Path, str]) -> None:
        """CartPole gives 1 at each step of an episode, so an episode is as long as its total reward."""
        metrics = keepfast.read_metrics(finished[0])
        assert set(metrics["Reward / Instantaneous reward (min)"].values) == {1.0}
        totals, lengths = metrics["Reward / Total reward (mean)"], metrics["Episode / Total timesteps (mean)"]
        assert len(totals.values) > 1
        np.testing.assert_array_equal(totals.values, lengths.values)

    def test_the_same_seed_gives_the_same_training_bit_for_bit(self, tmp_path: Path) -> None:
        """Every array of the last checkpoint is the same, and another seed's is not."""
        name = f"agent_{TIMESTEPS}{self.extension}"
        trained = [self.train(tmp_path, seed).experiment_dir / "checkpoints" / name for seed in (1, 1, 2)]
        first, again, other = map(self.arrays, trained)
        assert first.keys() == again.keys()
        assert [path for path, array in first.items() if not np.array_equal(array, again[path])] == []
        weights = [path for path in first if path.startswith("policy.") and first[path].ndim == 2]
        assert weights
        assert not any(np.array_equal(first[path], other[path]) for path in weights)

    def test_ctrl_c_leaves_a_checkpoint_that_loads(self, tmp_path: Path) -> None:
        """A KeyboardInterrupt ends the training, with a checkpoint of that timestep, and what was best is evaluated."""

        def interrupt(completed: int, _score: float | None) -> None:
            if completed == 73:
                raise KeyboardInterrupt

        result = self.train(tmp_path, progress=interrupt)
        assert (result.interrupted, result.timesteps) == (True, 73)
        checkpoint = result.experiment_dir / "checkpoints" / f"agent_73{self.extension}"
        assert self.fresh_agent(tmp_path).load(checkpoint, modules=["policy", "value"]).loaded

    def fresh_agent(self, directory: Path, num_envs: int = 1) -> Any:
        envs = self.demo.make_envs("CartPole-v1", num_envs)
        return self.demo.make_agent(envs, keepfast.DemoSettings("CartPole-v1", 1, directory, 0, nothing))

    def test_ctrl_c_on_the_command_line_ends_cleanly(self, tmp_path: Path) -> None:
        """SIGINT ends the process with 130, its table, no traceback, and a checkpoint of the timestep it came in."""
        command = self.command(tmp_path, "--timesteps", 100_000)
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("*/memory/*.pt")):  # the training is under way
            assert running.poll() is None, running.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        printed, errors = running.communicate(timeout=120)
        assert (running.returncode, errors) == (130, "")
        (checkpoint,) = tmp_path.glob(f"*/checkpoints/agent_*{self.extension}")
        timestep = int(checkpoint.stem.removeprefix("agent_"))
        assert f"after {timestep} timesteps" in printed
        assert any(path.startswith("policy.") for path in self.arrays(checkpoint))

    def test_a_terminal_shows_a_progress_bar(self, tmp_path: Path) -> None:
        """On a terminal the demo draws a bar that ends full."""
        controller, terminal = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
        command = self.command(tmp_path, "--timesteps", 60)
        running = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment)
        os.close(terminal)
        shown = b""
        while chunk := read(controller):
            shown += chunk
        assert running.wait(timeout=60) == 0
        assert "━" in shown.decode()
        assert "60/60" in shown.decode()

    def test_an_unwritable_directory_is_one_clear_line(self, tmp_path: Path) -> None:
        """A --directory that is a file is told before anything is trained."""
        (tmp_path / "file").touch()
        ended = subprocess.run(self.command(tmp_path / "file"), capture_output=True, text=True, timeout=120)
        assert ended.returncode == 1
        assert ended.stderr == f"error: cannot use `{tmp_path / 'file'}`: File exists; give another --directory\n"

    def test_advantages_are_those_of_the_definition(self, tmp_path: Path) -> None:
        """Generalized advantage estimates equal the sum over the rest of each episode, cut where it ends."""
        rng = np.random.default_rng(0)
        rewards, values = rng.normal(size=(2, 9, 3, 1)).astype(np.float32)
        terminated, truncated = rng.random((2, 9, 3, 1)) < 0.2
        next_states = rng.normal(size=(9, 3, 4)).astype(np.float32)
        stored = {"rewards": rewards, "next_states": next_states, "terminated": terminated, "truncated": truncated}
        got, next_values = self.advantages(self.fresh_agent(tmp_path, 3), stored, values)
        expected = np.zeros_like(values)
        for start in range(9):
            for env in range(3):
                weight = 1.0
                for step in range(start, 9):
                    bootstrap = 0.0 if terminated[step, env] else GAMMA * next_values[step, env]
                    expected[start, env] += weight * (rewards[step, env] + bootstrap - values[step, env])
                    if terminated[step, env] or truncated[step, env]:
                        break
                    weight *= GAMMA * LAMBDA
        np.testing.assert_allclose(got, expected, **self.advantages_within)

    def test_the_scaler_knows_mean_and_variance_of_all_it_saw(self) -> None:
        """However the states come in parts, the statistics are those of all together (and of one prior state)."""
        states = np.random.default_rng(0).normal(7, 4, (1000, 3))
        seen, mean, variance = self.scaled(np.array_split(states, 8))
        assert seen == 1001  # the prior counts as one state at 0 with variance 1
        expected = 1000 * states.mean(0) / 1001
        second_moment = (1000 * np.square(states).mean(0) + 1) / 1001
        np.testing.assert_allclose(mean, expected, **self.scaler_within)
        np.testing.assert_allclose(variance, second_moment - np.square(expected), **self.scaler_within)

    def test_an_ended_episode_leads_to_its_own_last_state(self) -> None:
        """The next state of an episode's last step is not the next episode's first, to which the step after leads."""
        envs = self.demo.make_envs("CartPole-v1", 2)
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

    @after_the_demo
    def test_the_demo_keeps_its_settings_and_how_likely_its_actions_were(self, finished: tuple[Path, str]) -> None:
        """Each setting is in config.json and on TensorBoard's page of hyperparameters; histograms are in the events."""
        run, _ = finished
        config = json.loads((run / "config.json").read_text("utf-8"))["config"]
        expected = {**self.demo.PPO_DEFAULTS, "env": "CartPole-v1", "num_envs": self.demo.NUM_ENVS, "seed": 0}
        assert {name: config[name] for name in expected} == expected
        events = b"".join(path.read_bytes() for path in run.glob("events.out.tfevents.*"))
        assert b"_hparams_/session_start_info" in events
        assert b"final_learning_rate" in events
        assert events.count(b"Policy / Probability of actions") == 400 // self.demo.PPO_DEFAULTS["rollouts"]

    def test_a_second_start_goes_on_and_a_third_is_complete(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Both say so; nothing is trained twice, and the best checkpoint is evaluated each time."""

        def interrupt(completed: int, _score: float | None) -> None:
            if completed == 30:
                raise KeyboardInterrupt

        name = f"PPO_CartPole-v1_{self.backend}_seed0"
        assert self.train(tmp_path, timesteps=60, progress=interrupt, name=name).interrupted
        printed = []
        for _ in range(2):
            monkeypatch.setattr(sys, "argv", ["keepfast", *self.command(tmp_path, "--timesteps", 60)[3:]])
            monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which `main` replaces for good
            with warnings.catch_warnings(action="default"), pytest.raises(SystemExit, match="0"):
                cli.main()
            printed.append(capsys.readouterr())
        assert "goes on from timestep 30\n" in printed[0].out
        assert printed[0].err == ""
        assert "goes on" not in printed[1].out
        assert "is complete: its checkpoint is of timestep 60" in printed[1].err
        assert [path.name for path in tmp_path.iterdir()] == [name]
        periodic = [
            int(path.stem.removeprefix("agent_")) for path in tmp_path.glob(f"*/checkpoints/agent_*{self.extension}")
        ]
        assert sorted(periodic) == list(range(6, 61, 6))

    @pytest.mark.needs("pygame")
    def test_an_episode_is_filmed_where_pygame_draws_it(self, tmp_path: Path) -> None:
        """The frames differ, and the video is in the event files."""
        run = self.train(tmp_path, timesteps=2).experiment_dir
        envs = self.demo.make_envs("CartPole-v1", 1)
        settings = keepfast.DemoSettings("CartPole-v1", 2, tmp_path, 0, nothing)
        video = self.demo.film(self.demo.make_agent(envs, settings), envs, settings)
        assert video.shape[2:] == (3, 100, 150)
        assert video.shape[1] > 1
        assert not np.array_equal(video[0, 0], video[0, -1])
        assert b"Evaluation / Episode" in next(run.glob("events.out.tfevents.*")).read_bytes()

    def test_nothing_is_filmed_where_an_environment_cannot_be_drawn(self, tmp_path: Path) -> None:
        """An environment that says no mode is left alone."""
        envs = self.demo.make_envs("CartPole-v1", 1)
        envs.metadata = {"render_modes": ["human"]}
        settings = keepfast.DemoSettings("CartPole-v1", 2, tmp_path, 0, nothing)
        assert self.demo.film(self.demo.make_agent(envs, settings), envs, settings) is None

    @pytest.mark.slow
    def test_the_default_demo_learns_in_60_seconds_what_can_be_seen(self, tmp_path: Path) -> None:
        """With no option but the directory, CartPole's evaluation is at least 400, in 60 seconds of processor time.

        Curves have a hundred points, those of episodes fewer by the intervals in which none ended; the reward rises
        over a fifth of the training at least.
        """
        before = os.times()
        ended = subprocess.run(self.command(tmp_path), capture_output=True, text=True, timeout=300)
        after = os.times()
        assert ended.returncode == 0, ended.stderr
        (score,) = [line.split()[-1] for line in ended.stdout.splitlines() if line.startswith("evaluation score")]
        assert float(score) >= 400
        (run,) = tmp_path.iterdir()
        metrics = keepfast.read_metrics(run)
        rewards = metrics.pop("Reward / Total reward (mean)")
        assert {len(metrics[tag].steps) for tag in metrics if not tag.startswith(("Episode", "Reward / Total"))} == {
            100
        }
        assert len(rewards.steps) >= 80
        assert np.mean(rewards.values[:5]) < 50
        assert np.mean(rewards.values[-20:]) > 400
        assert rewards.steps[np.argmax(rewards.values > 450)] > 1000
        # Not the time on the clock, which other processes of the machine have a part in.
        spent = (after.children_user - before.children_user) + (after.children_system - before.children_system)
        assert spent < 60

    @pytest.mark.slow
    def test_another_environment_is_learned_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On Acrobot, where an untrained agent scores -500, the demo's settings learn to swing up, in fewer of them."""
        monkeypatch.setattr(self.demo, "NUM_ENVS", 16)
        result = self.train(tmp_path, env="Acrobot-v1", timesteps=6000)
        assert result.evaluation_score is not None
        assert result.evaluation_score > -200


def nothing(_completed: int, _score: float | None) -> None:
    """Take note of a training's progress, without telling it."""


def read(descriptor: int) -> bytes:
    """Return what a terminal shows next, or nothing when its other end is closed."""
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux' way of saying that the other end is closed
        return b""
