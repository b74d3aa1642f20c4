"""What a run takes over from a checkpoint of its own, and what from another run's."""

from __future__ import annotations

import copy
import importlib.util
import random
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import keepfast
from keepfast.plugins.formats import format_of, read_checkpoint
from keepfast.tree import flatten

Net = Any


class CountingWriter(keepfast.Writer):
    """Counts the steps written over all starts of a run, and notes how it began."""

    begun: list[tuple[int | None, Mapping[str, Any]]] = []  # noqa: RUF012  (what tests look at)
    counts: list[int] = []  # noqa: RUF012

    def __init__(self, context: keepfast.WriterContext) -> None:
        self.begun.append((context.resume_step, context.resume_state))
        self._count = 0

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self._count += 1
        self.counts.append(self._count)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._count = state["count"]


@pytest.fixture
def writer() -> Iterator[type[CountingWriter]]:
    @keepfast.hookimpl
    def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
        return {"counting": CountingWriter}

    plugin = SimpleNamespace(keepfast_writers=keepfast_writers)
    keepfast.plugins.registry().register(plugin, "counting-writer")
    CountingWriter.begun.clear()
    CountingWriter.counts.clear()
    yield CountingWriter
    keepfast.plugins.registry().unregister(plugin)


def start(net: Net, directory: Path, **settings: Any) -> keepfast.Experiment:
    own = {"directory": str(directory), "experiment_name": "run", "writers": ["counting"], "write_interval": 5}
    experiment = keepfast.Experiment({**own, "checkpoint_interval": 10, "best_metric": "Score", **settings})
    experiment.register(policy=net)
    return experiment


def train(experiment: keepfast.Experiment, begin: int, end: int, score: float) -> None:
    with experiment:
        for timestep in range(begin, end):
            experiment.track_data("Score", score)
            experiment.step(timestep)


def test_a_run_goes_on_with_its_own_writers_and_best(
    net: Callable[..., Net], writer: type[CountingWriter], tmp_path: Path
) -> None:
    """Each writer gets its state back, when it is made and before its first value; the best score stays."""
    train(start(net(), tmp_path), 0, 20, score=7.0)
    experiment = start(net(), tmp_path)
    assert experiment.resume() == 20
    assert experiment.best_score == 7.0
    train(experiment, 20, 30, score=1.0)
    assert writer.begun == [(None, {}), (20, {"count": 4})]
    assert writer.counts == [1, 2, 3, 4, 5, 6]
    assert experiment.best_score == 7.0


@pytest.mark.parametrize("which", ["run", "file"])
def test_another_runs_writers_and_best_are_its_own(
    net: Callable[..., Net], writer: type[CountingWriter], tmp_path: Path, which: str
) -> None:
    """Its modules, its timestep and what it tracked are taken over; its server ids and its best score are not."""
    train(start(net(seed=1), tmp_path / "other"), 0, 20, score=7.0)
    directory = tmp_path / "other" / "run"
    path = directory if which == "run" else directory / "checkpoints" / "agent_20.safetensors"
    module = net(seed=2)
    experiment = start(module, tmp_path)
    assert experiment.resume(path) == 20
    assert experiment.best_score is None
    train(experiment, 20, 30, score=1.0)
    assert writer.begun == [(None, {}), (None, {}), (20, {"count": 0})]  # the last goes on from the one before it
    assert writer.counts == [1, 2, 3, 4, 1, 2]
    assert experiment.best_score == 1.0
    np.testing.assert_array_equal(module.arrays["head"]["weight"], net(seed=1).arrays["head"]["weight"])


def test_random_numbers_go_on_from_another_runs_checkpoint_too(net: Callable[..., Net], tmp_path: Path) -> None:
    """NumPy draws what it would have drawn next when the checkpoint was taken."""
    with start(net(), tmp_path / "other", writers=[]) as experiment:
        np.random.seed(5)  # noqa: NPY002  (the generator that everybody shares)
        experiment.write_checkpoint(1)
    expected = np.random.random(3)  # noqa: NPY002
    with start(net(), tmp_path, writers=[]) as experiment:
        assert experiment.resume(tmp_path / "other" / "run") == 1
        assert np.random.random(3).tolist() == expected.tolist()  # noqa: NPY002


class DrawingWriter(keepfast.Writer):
    """Draws a random number at its end, for a name perhaps."""

    def __init__(self, context: keepfast.WriterContext) -> None:
        pass

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        pass

    def close(self) -> None:
        np.random.random(5)  # noqa: NPY002


def test_writers_that_end_at_a_resume_draw_no_number_of_the_run(net: Callable[..., Net], tmp_path: Path) -> None:
    """The generators are put back last, so that the run goes on with the numbers it would have had."""

    @keepfast.hookimpl
    def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
        return {"drawing": DrawingWriter}

    plugin = SimpleNamespace(keepfast_writers=keepfast_writers)
    keepfast.plugins.registry().register(plugin, "drawing-writer")
    with start(net(), tmp_path, writers=["drawing"], on_writer_error="raise") as experiment:
        experiment.writer.add_scalar("a", 1.0, global_step=1)
        np.random.seed(5)  # noqa: NPY002  (the generator that everybody shares)
        experiment.write_checkpoint(1)
        expected = np.random.random(3)  # noqa: NPY002
        assert experiment.resume() == 1
        assert np.random.random(3).tolist() == expected.tolist()  # noqa: NPY002
    keepfast.plugins.registry().unregister(plugin)


def test_what_a_file_tells_counts_more_than_its_name(net: Callable[..., Net], tmp_path: Path) -> None:
    """Whoever gives it another number does not make the run older."""
    train(start(net(), tmp_path / "other", writers=[]), 0, 20, score=7.0)
    path = tmp_path / "other" / "run" / "checkpoints" / "agent_20.safetensors"
    with start(net(), tmp_path, writers=[]) as experiment:
        assert experiment.resume(path.rename(path.with_name("agent_777.safetensors"))) == 20


def test_what_another_run_left_is_still_told_after_a_resume_from_elsewhere(
    net: Callable[..., Net], tmp_path: Path
) -> None:
    """A resume from elsewhere takes over nothing of what lies in the run's own directory."""
    train(start(net(), tmp_path, writers=["jsonl"]), 0, 20, score=1.0)
    train(start(net(), tmp_path / "other", writers=["jsonl"]), 0, 40, score=1.0)
    with start(net(), tmp_path, writers=["jsonl"]) as experiment:
        assert experiment.resume(tmp_path / "other" / "run") == 40
        with pytest.warns(keepfast.KeepfastWarning, match="holds the checkpoints and metrics of an earlier run"):
            experiment.step(40)


def test_asking_for_a_best_that_is_not_there_voids_nothing(net: Callable[..., Net], tmp_path: Path) -> None:
    """Also after a resume from the latest: only a directory without any checkpoint is begun anew."""
    train(start(net(), tmp_path, writers=["jsonl"], keep_best=0), 0, 20, score=1.0)
    with start(net(), tmp_path, writers=["jsonl"], keep_best=0) as experiment:
        assert experiment.resume() == 20
        assert experiment.resume("best") == 0
        experiment.writer.add_scalar("note", 1.0, global_step=20)
    assert keepfast.read_metrics(tmp_path / "run")["Score"].steps.tolist() == [5, 10, 15, 20]


def test_a_file_without_a_runs_state_gives_modules_and_timestep(net: Callable[..., Net], tmp_path: Path) -> None:
    """As one that `Agent.save` wrote, its name telling the timestep: what the run tracked itself is kept."""
    path = keepfast.Agent({"policy": net(seed=1)}).save(tmp_path / "agent_30.safetensors")
    with start(net(), tmp_path, writers=["jsonl"]) as experiment:
        experiment.track_data("Score", 3.0)
        assert experiment.resume(path) == 30
        experiment.write_tracking_data(31)
    assert keepfast.read_metrics(tmp_path / "run")["Score"].values.tolist() == [3.0]


def anew(net: Net, directory: Path, name: str = "PPO", timesteps: int | None = 50, **settings: Any) -> Any:
    """Return an experiment without a name, as the next start of a program makes it."""
    own = {"directory": str(directory), "writers": ["jsonl", "csv"], "write_interval": 5, "checkpoint_interval": 10}
    experiment = keepfast.Experiment({**own, **settings}, name=name, timesteps=timesteps)
    experiment.register(policy=net)
    return experiment


def broken_off(net: Net, directory: Path, at: int = 20, **settings: Any) -> Path:
    with anew(net, directory, **settings) as experiment:
        for timestep in range(at):
            experiment.track_data("a", float(timestep))
            experiment.step(timestep)
    found: Path = experiment.directory
    return found


def test_a_start_without_a_name_is_told_of_the_unfinished_run(net: Callable[..., Net], tmp_path: Path) -> None:
    """`resume` returns 0 and tells the newest run of this agent that did not end, and the two ways on with it."""
    broken_off(net(), tmp_path)
    unfinished = broken_off(net(), tmp_path, at=30)
    broken_off(net(), tmp_path, at=50)
    broken_off(net(), tmp_path, name="DQN")
    with anew(net(), tmp_path) as experiment:
        with pytest.warns(keepfast.KeepfastWarning) as told:
            assert experiment.resume() == 0
        (message,) = (str(warning.message) for warning in told)
        assert f"The latest unfinished run of `PPO` is `{unfinished}` (30 of 50 timesteps)" in message
        assert '`resume("last")` goes on with it' in message
        assert f"`experiment_name` = `{unfinished.name}`" in message


@pytest.mark.parametrize("settings", [{"experiment_name": "named"}, {"name": "DQN"}, {"timesteps": 20}])
def test_a_start_that_cannot_mean_another_run_is_told_of_none(
    net: Callable[..., Net], tmp_path: Path, settings: dict[str, Any]
) -> None:
    """One that has a name, another agent, or whose earlier runs are complete; those without a checkpoint count not."""
    broken_off(net(), tmp_path, at=20, timesteps=settings.get("timesteps", 50))
    broken_off(net(), tmp_path, checkpoint_interval=0)
    with anew(net(), tmp_path, **settings) as experiment:
        assert experiment.resume() == 0


def test_the_last_run_goes_on_in_its_own_directory(net: Callable[..., Net], tmp_path: Path) -> None:
    """Files, intervals and the best are those of one run without a break, and the new start leaves nothing."""
    run = broken_off(net(seed=1), tmp_path, at=33)
    module = net(seed=2)
    with anew(module, tmp_path) as experiment:
        writer, own = experiment.writer, experiment.directory
        assert own.exists()
        assert experiment.resume("last") == 33
        assert experiment.directory == run
        assert not own.exists()
        assert experiment.writer is writer
        for timestep in range(33, 50):
            experiment.track_data("a", float(timestep))
            experiment.step(timestep)
    np.testing.assert_array_equal(module.arrays["head"]["weight"], net(seed=1).arrays["head"]["weight"])
    assert [path.name for path in tmp_path.iterdir()] == [run.name]
    for file in ("metrics.jsonl", "metrics.csv"):
        assert keepfast.read_metrics(run / file)["a"].steps.tolist()[-4:] == [35, 40, 45, 50]
    names = {path.name.partition(".")[0] for path in (run / "checkpoints").iterdir()}
    assert names == {"index", "agent_10", "agent_20", "agent_30", "agent_33", "agent_40", "agent_50"}


def test_an_agent_goes_on_with_its_last_run(net: Callable[..., Net], tmp_path: Path) -> None:
    """`agent.experiment_dir` is that run's directory from then on, and three starts make one run."""
    directories = set()
    for begin in (0, 20, 40):
        settings = {"directory": str(tmp_path), "writers": ["jsonl"], "write_interval": 5, "checkpoint_interval": 10}
        agent = keepfast.Agent({"policy": net()}, cfg={"experiment": settings})
        agent.init({"timesteps": 60})
        assert agent.resume("last") == begin
        for timestep in range(begin, begin + 20):
            agent.track_data("a", float(timestep))
            agent.post_interaction(timestep, 60)
        directories.add(agent.experiment_dir)
        agent.close()
    assert list(tmp_path.iterdir()) == list(directories)
    assert keepfast.read_metrics(*directories)["a"].steps.tolist() == list(range(5, 61, 5))


def test_a_directory_that_holds_something_stays(net: Callable[..., Net], tmp_path: Path) -> None:
    """What came into the new directory, a value or a file of the user's, is not removed with it."""
    run = broken_off(net(), tmp_path)
    for leave in (lambda one: one.writer.add_scalar("mine", 1.0, 1), lambda one: (one.directory / "a.txt").touch()):
        with anew(net(), tmp_path) as experiment:
            own = experiment.directory
            leave(experiment)
            assert experiment.resume("last") == 20
            assert experiment.directory == run
        assert own.exists()


def test_without_an_unfinished_run_the_last_is_the_latest(net: Callable[..., Net], tmp_path: Path) -> None:
    """`resume("last")` starts anew then, and says so of a run that is complete; checkpoints of its own go before."""
    with anew(net(), tmp_path, name="DQN") as experiment:
        assert experiment.resume("last") == 0
    complete = broken_off(net(), tmp_path, at=50)
    with anew(net(), tmp_path) as experiment:
        own = experiment.directory
        told = f"no run of `PPO` .* starts anew in `{own.name}`; the latest is complete: `{complete}` \\(50 of 50"
        with pytest.warns(keepfast.KeepfastWarning, match=told):
            assert experiment.resume("last") == 0
        assert experiment.directory == own
    with anew(net(), tmp_path / "named", experiment_name="run") as experiment:
        experiment.write_checkpoint(7)
    broken_off(net(), tmp_path / "named")
    with anew(net(), tmp_path / "named", experiment_name="run") as experiment:
        assert experiment.resume("last") == 7
        assert experiment.directory.name == "run"


def test_a_run_that_is_under_way_is_not_the_last(net: Callable[..., Net], tmp_path: Path) -> None:
    """What another experiment still writes is passed over, here and where `resume` names the unfinished one."""
    free = broken_off(net(), tmp_path)
    with anew(net(), tmp_path) as busy:
        busy.write_checkpoint(30)
        busy.wait()
        with anew(net(), tmp_path) as third, pytest.warns(keepfast.KeepfastWarning, match=f"is `{free}`"):
            assert third.resume() == 0
        with anew(net(), tmp_path) as fourth:
            assert fourth.resume("last") == 20
            assert fourth.directory == free


def test_files_of_metrics_without_an_entry_are_no_earlier_run(net: Callable[..., Net], tmp_path: Path) -> None:
    """A run that is killed before its first write leaves beginnings alone, of which the next start tells nothing."""
    writers = ["jsonl", "csv", "tensorboard"] if importlib.util.find_spec("tensorboard") else ["jsonl", "csv"]
    made = anew(net(), tmp_path, experiment_name="run", writers=writers)
    made.writer.flush()
    shutil.copytree(tmp_path / "run", tmp_path / "killed", ignore=shutil.ignore_patterns(".keepfast.lock"))
    made.close()
    assert (tmp_path / "killed" / "metrics.csv").read_text() == "step,wall_time,tag,value\n"
    with anew(net(), tmp_path, experiment_name="killed", writers=writers) as experiment:
        experiment.step(0)
    kept = anew(net(), tmp_path, experiment_name="run", writers=writers[-1:])
    kept.writer.add_scalar("a", 1.0, 1)
    kept.close()
    again = anew(net(), tmp_path, experiment_name="run", writers=writers, checkpoint_interval=0)
    with again as experiment, pytest.warns(keepfast.KeepfastWarning, match="holds the metrics of an earlier run"):
        experiment.step(0)


def test_a_last_run_that_does_not_fit_is_left_as_it_is(net: Callable[..., Net], tmp_path: Path) -> None:
    """Not a byte of it changes, its list of starts included, and the experiment's writers go on."""
    run = broken_off(net(), tmp_path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = net()
    other.arrays["head"]["weight"] = np.zeros((1, 1), np.float32)
    with anew(other, tmp_path) as experiment:
        health = experiment.writer.health
        with pytest.raises(keepfast.LoadMismatch, match="head"):
            experiment.resume("last")
        assert experiment.writer.health == health
        experiment.track_data("a", 1.0)
        experiment.write_tracking_data(1)
        own = experiment.directory
    assert keepfast.read_metrics(own)["a"].steps.tolist() == [1]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


class BegunElsewhere(keepfast.Writer):
    """A writer of something that lies in no run's directory."""

    ended: ClassVar[list[str]] = []

    def __init__(self, context: keepfast.WriterContext) -> None:
        self.context = context

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Keep nothing."""

    def undo(self) -> None:
        self.ended.append("undo")

    def close(self) -> None:
        self.ended.append("close")


@pytest.mark.parametrize(("written", "ended"), [(False, ["undo", "close"]), (True, ["close", "close"])])
def test_what_began_in_vain_is_taken_back(
    net: Callable[..., Net], tmp_path: Path, written: bool, ended: list[str]
) -> None:
    """Where a run goes on as the last one, writers may undo that they began, unless something was written."""

    @keepfast.hookimpl
    def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
        return {"elsewhere": BegunElsewhere}

    plugin = SimpleNamespace(keepfast_writers=keepfast_writers)
    keepfast.plugins.registry().register(plugin, "elsewhere")
    broken_off(net(), tmp_path)
    BegunElsewhere.ended.clear()
    try:
        with anew(net(), tmp_path, writers=["elsewhere", "jsonl"]) as experiment:
            if written:
                experiment.writer.add_scalar("a", 1.0, 1)
            assert experiment.resume("last") == 20
    finally:
        keepfast.plugins.registry().unregister(plugin)
    assert BegunElsewhere.ended == ended


def test_a_last_run_that_does_not_fit_changes_nothing(net: Callable[..., Net], tmp_path: Path) -> None:
    """The error tells what differs, and the experiment is where it was, with its directory."""
    broken_off(net(), tmp_path)
    other = net()
    other.arrays["head"]["weight"] = np.zeros((1, 1), np.float32)
    with anew(other, tmp_path) as experiment:
        own = experiment.directory
        with pytest.raises(keepfast.LoadMismatch, match="head"):
            experiment.resume("last")
        assert experiment.directory == own
        experiment.track_data("a", 1.0)
        experiment.write_tracking_data(1)
    assert keepfast.read_metrics(own)["a"].steps.tolist() == [1]


def test_a_run_that_is_complete_says_so(net: Callable[..., Net], tmp_path: Path) -> None:
    """`resume` returns its timesteps, and tells once what goes on and what starts anew."""
    broken_off(net(), tmp_path, at=50, experiment_name="run")
    with anew(net(), tmp_path, experiment_name="run") as experiment:
        with pytest.warns(
            keepfast.KeepfastWarning, match=r"run` is complete: .* timestep 50.*`timesteps` is 50"
        ) as told:
            assert experiment.resume() == 50
        assert len(told) == 1
    with anew(net(), tmp_path, experiment_name="run", timesteps=60) as experiment:
        assert experiment.resume() == 50


class UncloseableWriter(CountingWriter):
    """Raises as it is closed."""

    def close(self) -> None:
        raise OSError("no more of this")


def test_a_resume_that_fails_beside_the_modules_leaves_all_as_it_was(
    writer: type[CountingWriter], net: Callable[..., Net], tmp_path: Path
) -> None:
    """A writer that raises as it is closed for the resume: modules, best score and what was tracked are put back."""
    with start(net(1), tmp_path) as experiment:
        train(experiment, 0, 20, score=3.0)
    CountingWriter.close = UncloseableWriter.close  # type: ignore[method-assign]
    try:
        experiment = start(other := net(2), tmp_path, on_writer_error="raise")
        experiment.track_data("x", 1.0)
        experiment.write_tracking_data(1)
        experiment.track_data("x", 2.0)
        before = {name: array.copy() for name, array in flatten(other.arrays).items()}
        state = np.random.get_state(legacy=False)["state"]["key"]  # noqa: NPY002
        with pytest.raises(keepfast.KeepfastError, match="no more of this"):
            experiment.resume()
    finally:
        CountingWriter.close = keepfast.Writer.close  # type: ignore[method-assign]
    assert all((array == before[name]).all() for name, array in flatten(other.arrays).items())
    assert (np.random.get_state(legacy=False)["state"]["key"] == state).all()  # noqa: NPY002
    assert experiment.resumed is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing was ever due, and the writer lost what it was given
        experiment.close()


def _put(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts a value into the metadata of a checkpoint; a function makes it of what is there."""

    def put(metadata: dict[str, Any]) -> None:
        node = metadata
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value(node[path[-1]]) if callable(value) else value

    return put


ODD = {
    "resume is empty": _put("resume", value={}),
    "resume is a list": _put("resume", value=[1]),
    "resume has one part": _put("resume", value=lambda resume: {"random": resume["random"]}),
    "timestep is text": _put("timestep", value="abc"),
    "timestep is negative": _put("timestep", value=-5),
    "timestep is a fraction": _put("timestep", value=2.5),
    "time is text": _put("time", value="noon"),
    "modules are a text": _put("modules", value="policy"),
    "names are a list": _put("names", value=[1]),
    "backends are numbers": _put("backends", value={"policy": 1}),
    "metric is a number": _put("metric", value=3),
    "no random state": _put("resume", "random", value=None),
    "no state of Python": _put("resume", "random", value=lambda random: {**random, "python": None}),
    "Python's is too short": _put("resume", "random", "python", value=lambda state: (3, state[1][:9], None)),
    "Python's is of another version": _put("resume", "random", "python", value=lambda state: (9, *state[1:])),
    "NumPy's is of another generator": _put("resume", "random", "numpy", value={"bit_generator": "PCG64", "state": {}}),
    "NumPy's is text": _put("resume", "random", "numpy", value="MT19937"),
    "backends' are none": _put("resume", "random", "backends", value=[]),
    "no tracker": _put("resume", "recorder", value={}),
    "tracker is text": _put("resume", "recorder", "tracker", value="abc"),
    "a statistic is text": _put("resume", "recorder", "tracker", "statistics", value={"x": ["a", "b", "c", "d"]}),
    "a statistic is short": _put("resume", "recorder", "tracker", "statistics", value={"x": [1]}),
    "not finite are text": _put("resume", "recorder", "tracker", "nonfinite", value={"x": "many"}),
    "no episodes": _put("resume", "recorder", "tracker", "episodes", value={}),
    "returns are text": _put("resume", "recorder", "tracker", "episodes", "returns", value="abc"),
    "other environments": _put("resume", "recorder", "tracker", "episodes", "num_envs", value=7),
    "team is text": _put("resume", "recorder", "tracker", "episodes", "team", value="abc"),
    "writers are text": _put("resume", "recorder", "writers", value="abc"),
    "best is a number": _put("resume", "best", value=1),
    "best has no metric": _put("resume", "best", value={}),
    "the best score is text": _put("resume", "best", "score", value="abc"),
    "a later format": _put("format_version", value=99),
    "a later format of other keys": lambda metadata: metadata.update(format_version=2, timestep="ten", resume="later"),
}


@pytest.mark.parametrize("odd", ODD)
def test_metadata_that_is_not_as_expected_changes_nothing(
    odd: str, writer: type[CountingWriter], net: Callable[..., Net], tmp_path: Path
) -> None:
    """A sealed file of such is passed over for an earlier one, and by its own path an error, before all is touched."""
    with start(net(1), tmp_path) as experiment:
        train(experiment, 0, 20, score=3.0)
    path = tmp_path / "run" / "checkpoints" / "agent_20.safetensors"
    checkpoint = read_checkpoint(path)
    metadata = copy.deepcopy(dict(checkpoint.metadata))
    ODD[odd](metadata)
    format_of("checkpoint format", path).save(keepfast.Checkpoint(checkpoint.state, metadata), path)

    experiment = start(other := net(2), tmp_path)
    before = repr(flatten(other.arrays)), repr(random.getstate()), repr(np.random.get_state(legacy=False))  # noqa: NPY002
    with pytest.raises(keepfast.KeepfastError, match=re.escape(str(path))) as raised:
        experiment.resume(path)
    assert isinstance(raised.value, keepfast.CorruptCheckpoint | keepfast.NewerFormat)
    assert isinstance(raised.value, keepfast.NewerFormat) is ("later format" in odd)
    now = repr(flatten(other.arrays)), repr(random.getstate()), repr(np.random.get_state(legacy=False))  # noqa: NPY002
    assert now == before
    with pytest.warns(keepfast.KeepfastWarning, match=r"skipped .*agent_20.*going on with agent_10"):
        assert experiment.resume() == 10
    experiment.close()


def test_a_later_format_is_refused_by_its_version_everywhere(net: Callable[..., Net], tmp_path: Path) -> None:
    """The error names the version, the one that is known, and what wrote the file."""
    path = keepfast.save(net(1), tmp_path / "net.safetensors")
    checkpoint = read_checkpoint(path)
    metadata = {**checkpoint.metadata, "format_version": 99, "keepfast": "9.1"}
    format_of("checkpoint format", path).save(keepfast.Checkpoint(checkpoint.state, metadata), path)
    with pytest.raises(keepfast.NewerFormat, match=r"`format_version` 99, .* reads up to 1; Keepfast 9\.1 wrote"):
        keepfast.load(net(2), path)
