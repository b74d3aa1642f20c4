"""`keepfast demo`: what the command does around a backend's demo. No framework takes part here."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import pytest

import keepfast
from keepfast.cli import demo
from keepfast.plugins import PluginRegistry, lazy
from keepfast.plugins.hookspecs import hookimpl

needs_gymnasium = pytest.mark.needs("gymnasium")

Demo = Callable[[keepfast.DemoSettings], keepfast.DemoResult]
Called = tuple[int, str, str]


@final
class Backend(keepfast.Backend):
    """A backend of which only the demo is asked for."""

    name = "fake"
    checkpoint_format = "safetensors"

    def __init__(self, run: Demo | None) -> None:
        self._run = run

    def recognizes(self, module: object) -> bool:
        return False

    def capture(self, module: Any) -> Any:
        return module

    def restore(self, module: Any, state: Any, device: Any = None) -> Any:
        return module

    def demo(self) -> Demo | None:
        return self._run


def trained(settings: keepfast.DemoSettings) -> keepfast.DemoResult:
    """Stand in for a training: two timesteps, a few files."""
    directory = settings.directory / "a run"
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "memory").mkdir()
    for name in (
        "events.out.tfevents.1",
        "checkpoints/agent_1.pt",
        "checkpoints/agent_2.pt",
        "checkpoints/best_agent.pt",
    ):
        (directory / name).touch()
    (directory / "memory" / "26-01-01_memory_1.pt").touch()
    settings.progress(1, None)
    settings.progress(settings.timesteps, 12.25)
    return keepfast.DemoResult(directory, directory / "memory", 12.25, 480.0, False, settings.timesteps)


def interrupted(settings: keepfast.DemoSettings) -> keepfast.DemoResult:
    """Stand in for a training that Ctrl-C ends before any score."""
    settings.directory.mkdir(exist_ok=True)
    return keepfast.DemoResult(settings.directory, settings.directory, None, None, True, 7)


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes some backends, by name, the only ones there are."""

    def offer(**table: Callable[..., Any]) -> None:
        @hookimpl
        def keepfast_backends() -> Mapping[str, Callable[..., Any]]:
            return table

        known = PluginRegistry()
        known.register(SimpleNamespace(keepfast_backends=keepfast_backends), "mine")
        monkeypatch.setattr(demo, "registry", lambda: known)

    return offer


def absent() -> Callable[..., Any]:
    return lazy("x:Y", requires=("no_such_thing",), extra="torch")


def test_torch_is_taken_before_jax_and_jax_before_others(offer: Callable[..., None]):
    """Without --backend the installed framework is used; what is not installed does not count."""
    offer(zebra=dict, jax=dict, torch=dict)
    assert demo.installed_backend() == "torch"
    offer(zebra=dict, jax=dict, torch=absent())
    assert demo.installed_backend() == "jax"
    offer(zebra=dict, jax=absent(), torch=absent())
    assert demo.installed_backend() == "zebra"


def test_without_any_framework_the_demo_says_what_to_install(offer: Callable[..., None], call: Callable[..., Called]):
    """The error names the command, and its exit code is 1."""
    offer(torch=absent(), jax=absent())
    code, _, err = call("demo")
    assert code == 1
    assert 'pip install "keepfast[torch,demo]"' in err


def test_an_unknown_backend_is_answered_with_the_nearest(offer: Callable[..., None], call: Callable[..., Called]):
    """A name typed wrong exits with 2."""
    offer(torch=dict)
    code, _, err = call("demo", "--backend", "torhc")
    assert (code, err) == (2, "error: unknown backend `torhc`; known: torch. Did you mean `torch`?\n")


def test_the_backend_may_be_named_by_the_environment(
    offer: Callable[..., None], monkeypatch: pytest.MonkeyPatch, call: Callable[..., Called]
):
    """KEEPFAST_BACKEND stands for --backend."""
    offer(torch=dict)
    monkeypatch.setenv("KEEPFAST_BACKEND", "zebra")
    code, _, err = call("demo")
    assert code == 2
    assert "unknown backend `zebra`" in err


def test_without_gymnasium_the_demo_says_what_to_install(offer: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    """Gymnasium is asked for before the backend's demo is imported."""
    find = importlib.util.find_spec
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None if name == "gymnasium" else find(name))
    offer(fake=lambda: Backend(trained))
    with pytest.raises(keepfast.MissingDependency, match=r'pip install "keepfast\[demo\]"'):
        demo.demo_of("fake")


@needs_gymnasium
def test_a_package_that_the_demo_lacks_is_named(offer: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    """A ModuleNotFoundError of the backend's demo becomes an error with the command that helps."""

    def incomplete(self: Backend) -> Demo:
        raise ModuleNotFoundError("No module named 'optax'", name="optax")

    monkeypatch.setattr(Backend, "demo", incomplete)
    offer(jax=lambda: Backend(None))
    with pytest.raises(keepfast.MissingDependency, match=r'needs `optax`.*pip install "keepfast\[jax,demo\]"'):
        demo.demo_of("jax")


@needs_gymnasium
def test_a_backend_without_a_demo_says_so(offer: Callable[..., None]):
    """A plugin need not bring a demo."""
    offer(fake=lambda: Backend(None))
    with pytest.raises(keepfast.UsageError, match="the backend `fake` has no demo"):
        demo.demo_of("fake")


@needs_gymnasium
@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("CartPol-v1", "there is no environment `CartPol-v1`: .*CartPole"),
        ("CartPole-v9", "there is no environment `CartPole-v9`"),
        ("Pendulum-v1", "`Pendulum-v1` has the actions Box"),
        ("FrozenLake-v1", r"`FrozenLake-v1` .* the observations Discrete\(16\)"),
    ],
)
def test_an_environment_that_ppo_cannot_act_in_is_refused(env: str, message: str):
    """Unknown environments, continuous actions and observations that are no vector are answered before training."""
    with pytest.raises(keepfast.InvalidValue, match=message):
        demo.check_env(env)


@needs_gymnasium
def test_an_environment_whose_packages_are_missing_is_answered():
    """The environment's own words on what to install are passed on."""
    with pytest.raises(keepfast.MissingDependency, match=r"`no_such_thing:Env-v0` cannot be made: .*no_such_thing"):
        demo.check_env("no_such_thing:Env-v0")


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path):
    """A --directory below a file is told before training; one that is missing is made."""
    (tmp_path / "file").touch()
    with pytest.raises(keepfast.DirectoryError, match=r"cannot use `.*file/runs`: Not a directory"):
        demo.check_directory(tmp_path / "file" / "runs")
    demo.check_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@needs_gymnasium
@pytest.mark.runs_in("torch", "jax")  # with TensorBoard, and without
def test_a_training_ends_with_a_table_of_scores_and_files(
    offer: Callable[..., None], call: Callable[..., Called], tmp_path: Path
):
    """Scores, directory, checkpoints, metrics and memory are printed, and the command that opens TensorBoard."""
    offer(torch=lambda: Backend(trained))
    code, out, _ = call("demo", "--directory", tmp_path, "--timesteps", 2)
    assert code == 0
    table = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line)
    table = {label: value.strip() for label, value in table.items()}
    run = tmp_path / "a run"
    tensorboard = "" if importlib.util.find_spec("tensorboard") else "pip install tensorboard && "
    assert table == {
        "best score": "12.2",
        "evaluation score": "480.0",
        "directory": str(run),
        "best checkpoint": "checkpoints/best_agent.pt",
        "checkpoints": "2 files in checkpoints",
        "metrics": "events.out.tfevents.1",
        "memory": "1 file in memory",
        "see the metrics:": f"{tensorboard}tensorboard --logdir='{run}'",
    }


@needs_gymnasium
def test_an_interrupted_training_says_so_and_exits_with_130(
    offer: Callable[..., None], call: Callable[..., Called], tmp_path: Path
):
    """What there is so far is shown, and shells see that it was Ctrl-C."""
    offer(torch=lambda: Backend(interrupted))
    code, printed, _ = call("demo", "--directory", tmp_path / "run")
    assert code == 130
    assert "after 7 timesteps" in printed
    assert "no TensorBoard events were written" in printed


@needs_gymnasium
def test_ctrl_c_outside_the_training_exits_with_130_and_no_traceback(
    offer: Callable[..., None], call: Callable[..., Called], tmp_path: Path
):
    """While a framework is imported, say, there is nothing to save."""

    def stopped(settings: keepfast.DemoSettings) -> keepfast.DemoResult:
        raise KeyboardInterrupt

    offer(torch=lambda: Backend(stopped))
    code, _, err = call("demo", "--directory", tmp_path)
    assert code == 130
    assert "Traceback" not in err


@needs_gymnasium
def test_options_reach_the_demo(offer: Callable[..., None], call: Callable[..., Called], tmp_path: Path):
    """What is typed is what the backend's function gets."""
    got: list[keepfast.DemoSettings] = []

    def remember(settings: keepfast.DemoSettings) -> keepfast.DemoResult:
        got.append(settings)
        return interrupted(settings)

    offer(torch=lambda: Backend(remember), zebra=lambda: Backend(remember))
    typed = (
        "--backend",
        "zebra",
        "--env",
        "Acrobot-v1",
        "--timesteps",
        123,
        "--seed",
        9,
        "--directory",
        tmp_path / "x",
    )
    call("demo", *typed)
    (settings,) = got
    assert (settings.env, settings.timesteps, settings.seed, settings.directory) == (
        "Acrobot-v1",
        123,
        9,
        tmp_path / "x",
    )
