"""``keepfast demo``: a whole training, kept by Keepfast, from nothing to the evaluated best checkpoint."""

from __future__ import annotations

import importlib.util
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated, Any, Self, final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from keepfast._system.disk.directories import make_directory
from keepfast.cli import console
from keepfast.errors import DirectoryError, InvalidValue, MissingDependency, UsageError
from keepfast.interfaces.backend import DemoResult, DemoSettings
from keepfast.plugins.discovery import registry

_PREFERRED = ("torch", "jax")
"""Which backend the demo takes first where several are installed."""

_INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

_MAX_SEED = 2**31 - 1


def demo(
    backend: Annotated[
        str | None,
        typer.Option(envvar="KEEPFAST_BACKEND", help="torch, jax or a plugin's; by default the installed one."),
    ] = None,
    env: Annotated[str, typer.Option(help="Gymnasium environment with discrete actions.")] = "CartPole-v1",
    timesteps: Annotated[int, typer.Option(min=1, help="Timesteps of each environment.")] = 5000,
    directory: Annotated[Path, typer.Option(help="Where the experiment's directory is made.")] = Path("runs"),
    seed: Annotated[int, typer.Option(min=0, max=_MAX_SEED, help="Seeds everything random.")] = 0,
    name: Annotated[str, typer.Option(help="The run's name; by default it tells environment, backend and seed.")] = "",
) -> None:
    """Train PPO, keep its metrics, checkpoints and memory, and evaluate its best checkpoint.

    Ctrl-C ends the training early, with a checkpoint. The same command again goes on from there; more --timesteps go on
    with a training that was complete.
    """
    chosen = installed_backend() if backend in (None, "", "auto") else str(backend)
    run = demo_of(chosen)
    check_env(env)
    check_directory(directory)
    out = console.output()
    out.print(f"PPO on {env} with {chosen}, {timesteps} timesteps", soft_wrap=True)
    name = name or f"PPO_{env.replace('/', '-')}_{chosen}_seed{seed}"
    with TrainingProgress(timesteps, out) as progress:
        result = run(DemoSettings(env, timesteps, directory, seed, progress, name))
    out.print(_summary(result))
    out.print(Text(_next_step(result)), soft_wrap=True)
    if result.interrupted:
        raise typer.Exit(_INTERRUPTED)


def installed_backend() -> str:
    """Return the backend that is installed, the preferred one where there are several.

    Raises:
        MissingDependency: if there is none.
    """
    ready = {provided.name for provided in registry().provided("backend") if provided.status == "ready"}
    for name in (*_PREFERRED, *sorted(ready)):
        if name in ready:
            return name
    raise MissingDependency('no framework is installed; run: pip install "keepfast[torch,demo]" (or [jax,demo])')


def demo_of(name: str) -> Callable[[DemoSettings], DemoResult]:
    """Return the demo of a backend.

    Raises:
        UnknownPlugin: if there is no such backend.
        MissingDependency: if something that the demo needs is not installed.
        UsageError: if the backend has no demo.
    """
    backend = registry().get("backend", name)()
    if importlib.util.find_spec("gymnasium") is None:
        raise MissingDependency('the demo needs `gymnasium`, which is not installed; run: pip install "keepfast[demo]"')
    try:
        run: Callable[[DemoSettings], DemoResult] | None = backend.demo()
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"the demo of `{name}` needs `{error.name}`, which is not installed; "
            f'run: pip install "keepfast[{name},demo]"'
        ) from error
    if run is None:
        raise UsageError(f"the backend `{name}` has no demo")
    return run


def check_env(env: str) -> None:
    """Check that an environment can be made, and that PPO as the demo has it can act in it.

    Raises:
        InvalidValue: if it cannot.
        MissingDependency: if the environment needs a package that is not installed.
    """
    import gymnasium

    try:
        made = gymnasium.make(env)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise MissingDependency(f"the environment `{env}` cannot be made: {error}") from error
    except gymnasium.error.Error as error:
        raise InvalidValue(f"there is no environment `{env}`: {error}") from error
    actions, observations = made.action_space, made.observation_space
    made.close()
    discrete = isinstance(actions, gymnasium.spaces.Discrete) and actions.start == 0
    flat = isinstance(observations, gymnasium.spaces.Box) and len(observations.shape) == 1
    if not (discrete and flat):
        raise InvalidValue(
            f"`{env}` has the actions {actions} and the observations {observations}; allowed: Discrete actions from 0 "
            "on and a Box of one dimension, as CartPole-v1, Acrobot-v1 and MountainCar-v0 have"
        )


def check_directory(directory: Path) -> None:
    """Make the directory where it is missing, before a framework is loaded and an environment made for nothing.

    Raises:
        DirectoryError: if that cannot be done.
    """
    try:
        make_directory(directory)
    except OSError as error:
        raise DirectoryError(f"cannot use `{directory}`: {error.strerror}; give another --directory") from error


def _summary(result: DemoResult) -> Table:
    """Return the table that the demo ends with."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, value in _rows(result):
        table.add_row(Text(label), Text(value, overflow="fold"))
    return table


def _rows(result: DemoResult) -> Iterator[tuple[str, str]]:
    if result.interrupted:
        yield "interrupted", f"after {result.timesteps} timesteps"
    yield "best score", _number(result.best_score)
    yield "evaluation score", _number(result.evaluation_score)
    yield "directory", str(result.experiment_dir)
    yield from _files(result).items()


def _files(result: DemoResult) -> dict[str, str]:
    """Return what lies in the experiment's directory, relative to it."""
    root = result.experiment_dir
    best = sorted(root.glob("checkpoints/best_*"))
    periodic = [path for path in root.glob("checkpoints/agent_*") if path not in best]
    metrics = [*root.glob("events.out.tfevents.*"), *root.glob("metrics.*")]
    memories = list(result.memory_dir.glob("*_memory_*"))
    return {
        "best checkpoint": ", ".join(str(path.relative_to(root)) for path in best) or "none",
        "checkpoints": _counted(periodic, root),
        "metrics": ", ".join(path.name for path in metrics) or "none",
        "memory": _counted(memories, root),
    }


def _counted(paths: list[Path], root: Path) -> str:
    if not paths:
        return "none"
    parent, plural = paths[0].parent, "" if len(paths) == 1 else "s"
    place = parent.relative_to(root) if parent.is_relative_to(root) else parent
    return f"{len(paths)} file{plural} in {place}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"


def _next_step(result: DemoResult) -> str:
    """Return the command that shows the metrics."""
    command = f"tensorboard --logdir={shlex.quote(str(result.experiment_dir))}"
    if not any(result.experiment_dir.glob("events.out.tfevents.*")):
        return f"no TensorBoard events were written; the metrics are in {result.experiment_dir / 'metrics.jsonl'}"
    if importlib.util.find_spec("tensorboard") is None:
        return f"see the metrics:  pip install tensorboard && {command}"
    return f"see the metrics:  {command}"


_REFRESH = 0.1
"""Seconds between two updates of the bar."""


_LINES = 10
"""How many lines a log gets over a whole training."""


@final
class TrainingProgress:
    """Shows the progress of a training that calls it after each timestep.

    From the first call to the last, Ctrl-C is held back until the running timestep is complete and then raised here as
    a `KeyboardInterrupt`, so that it never tears an update or a write; a second Ctrl-C acts at once.

    Args:
        timesteps: the length of the training.
        console: where to show it.
    """

    def __init__(self, timesteps: int, console: Console) -> None:
        self._timesteps, self._console = timesteps, console
        self._interrupt = _Interrupt()
        self._bar = _bar(console) if console.is_terminal else None
        self._started = False
        self._shown = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __call__(self, completed: int, score: float | None) -> None:
        """Show a completed timestep.

        Args:
            completed: the number of completed timesteps.
            score: the best score so far, if there is one.

        Raises:
            KeyboardInterrupt: if Ctrl-C was pressed since the last call.
        """
        if not self._started:
            self._start(completed - 1)
        if self._bar is not None:
            self._update(self._bar, completed, score)
        elif completed * _LINES // self._timesteps > (completed - 1) * _LINES // self._timesteps:
            self._console.print(f"{completed}/{self._timesteps} timesteps, {_described(score)}")
        if completed >= self._timesteps:
            self._end()
        self._interrupt.check()

    def _start(self, before: int) -> None:
        self._started = True
        if before > 0:
            self._console.print(f"goes on from timestep {before}")
        self._interrupt.watch()
        if self._bar is not None:
            self._bar.add_task("training", total=self._timesteps, score="")
            self._bar.start()

    def _update(self, bar: Progress, completed: int, score: float | None) -> None:
        now = time.monotonic()
        if now - self._shown >= _REFRESH or completed >= self._timesteps:
            self._shown = now
            bar.update(bar.task_ids[0], completed=completed, score=_described(score))

    def _end(self) -> None:
        self._interrupt.release()
        if self._bar is not None:
            self._bar.stop()


def _bar(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[score]}"))
    return Progress(*columns, console=console)


def _described(score: float | None) -> str:
    return "no score yet" if score is None else f"best score {score:.1f}"


@final
class _Interrupt:
    """Remembers Ctrl-C until it is asked for; only in the main thread, where Python handles signals."""

    def __init__(self) -> None:
        self._received = False
        self._previous: Any = None

    def watch(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._remember)

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        self._received = True
        self.release()

    def release(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def check(self) -> None:
        if self._received:
            self._received = False
            self.release()
            raise KeyboardInterrupt
