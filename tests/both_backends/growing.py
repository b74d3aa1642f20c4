"""State that grows: what is replaced comes back as large as it was, and what could not is told at once."""

from __future__ import annotations

import abc
import re
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.testing.kept import RunningMeanStd


class Fresh:
    """State as it is at the start of a training.

    Args:
        array: makes an array of the framework.
    """

    def __init__(self, array: Any) -> None:
        self.hidden = None
        self.pool = [{"w": array([1.0, 2.0])}]
        self.empty: list[Any] = []
        self.table = {"s0": array([0.0, 0.0])}
        self.scores = {"s0": 0.5}
        self.counts: defaultdict[Any, float] = defaultdict(float)
        self.seen = {"s0": np.zeros(2)}
        self.recurrent = {"h": None, "steps": 0}
        self.path: tuple[int, ...] = (1,)
        self.names = ["x"]
        self.last = array([1.0])


class Refusing:
    """Takes no state."""

    def state_dict(self) -> dict[str, Any]:
        return {"n": 1}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise ValueError("never")


class GrowingSuite(abc.ABC):
    """What a file makes of plain containers that are replaced, and what is told of others."""

    @abc.abstractmethod
    def array(self, values: Any) -> Any:
        """Return an array of floats of the framework."""

    def grown(self) -> Fresh:
        """Return the state after some training."""
        state, array = Fresh(self.array), self.array
        state.hidden = (array([1.0, 2.0]), array([3.0]))  # type: ignore[assignment]
        state.pool.append({"w": array([5.0, 6.0])})
        state.empty.append({"w": array([7.0])})
        state.table["s1"] = array([1.0, 1.0])
        state.scores["s1"] = 2
        state.counts[1, 2] += 3
        state.seen["s1"] = np.ones(2)
        state.recurrent = {"h": array([4.0]), "steps": 9}
        state.path, state.names, state.last = (1, 2, 3), [], None
        return state

    def modules(self, state: Fresh) -> dict[str, Any]:
        return {name: keepfast.attribute(state, name) for name in vars(state)}

    def check_same(self, found: Fresh, expected: Fresh) -> None:
        """Every value is there, of the same types."""
        for name, value in vars(expected).items():
            self._check(getattr(found, name), value, name)
        found.counts["another"] += 1  # what makes entries is still there

    def _check(self, found: Any, expected: Any, path: str) -> None:
        assert type(found) is type(expected), path
        if isinstance(expected, dict):
            assert found.keys() == expected.keys(), path
            for key, value in expected.items():
                self._check(found[key], value, f"{path}.{key}")
        elif isinstance(expected, list | tuple):
            assert len(found) == len(expected), path
            for number, pair in enumerate(zip(found, expected, strict=True)):
                self._check(*pair, f"{path}.{number}")
        elif hasattr(expected, "shape"):
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
        else:
            assert found == expected, path

    def experiment(self, directory: Path, **modules: Any) -> keepfast.Experiment:
        config = {"directory": str(directory), "experiment_name": "run", "writers": [], "checkpoint_interval": 1}
        experiment = keepfast.Experiment(config, timesteps=9)
        experiment.register(**modules)
        return experiment

    @pytest.mark.parametrize("extension", [".safetensors", ".pt"])
    def test_what_is_replaced_comes_back_as_it_was(self, tmp_path: Path, extension: str) -> None:
        """What was None, a longer pool, a table with a new key, a shorter list: the file decides, either way round."""
        for source, target in ((self.grown(), Fresh(self.array)), (Fresh(self.array), self.grown())):
            target.recurrent = Fresh(self.array).recurrent
            for name, module in self.modules(source).items():
                path = keepfast.save(module, (tmp_path / name).with_suffix(extension))
                assert keepfast.load(keepfast.attribute(target, name), path)
            self.check_same(target, source)

    def test_a_run_that_grew_is_resumed(self, tmp_path: Path) -> None:
        """A fresh process takes up what grew, and nothing is told of it while it is stored."""
        state = Fresh(self.array)
        experiment = self.experiment(tmp_path, **self.modules(state))
        experiment.step(0)
        vars(state).update(vars(self.grown()))
        experiment.step(1)
        experiment.close()
        other = Fresh(self.array)
        experiment = self.experiment(tmp_path, **self.modules(other))
        assert experiment.resume() == 2
        experiment.close()
        self.check_same(other, self.grown())

    def arrays(self, *, grown: bool) -> SimpleNamespace:
        """Return an owner of arrays as they are at the start, or after some training."""
        rng = np.random.default_rng(3)
        return SimpleNamespace(
            ours=self.array([[1.0, 2.0]] * (4 if grown else 2)),
            visits=np.arange(5 if grown else 3),
            flat=np.zeros((2, 3), np.float16) if grown else np.zeros((), np.float16),
            fixed=np.full(2, 7.0) if grown else np.zeros(2),
            tables={"q": np.ones((3, 2) if grown else (2, 2)), "deep": [np.zeros(9 if grown else 1)], "n": 1.5},
            mixed={"seen": np.ones(6 if grown else 2), "rng": rng},
        )

    @pytest.mark.parametrize("extension", [".safetensors", ".pt"])
    @pytest.mark.parametrize("chosen", [False, True], ids=["attribute", "attributes"])
    def test_an_array_that_grew_comes_back(self, chosen: bool, extension: str, tmp_path: Path) -> None:
        """Of the framework or of NumPy, by itself or among numbers: the file decides how large, either way round."""
        for grown in (True, False):
            source, target = self.arrays(grown=grown), self.arrays(grown=not grown)
            names = vars(source)
            array, dtype = target.fixed, target.ours.dtype
            for number, (one, other) in enumerate(
                [(keepfast.attributes(source, *names), keepfast.attributes(target, *names))]
                if chosen
                else [(keepfast.attribute(source, name), keepfast.attribute(target, name)) for name in names]
            ):
                assert keepfast.load(other, keepfast.save(one, (tmp_path / str(number)).with_suffix(extension)))
            for owner in (source, target):
                del owner.mixed["rng"]
            self._check(vars(target), vars(source), "")
            assert target.ours.dtype == dtype
            assert target.fixed is array  # what is as large as it was is overwritten, as before

    def test_a_run_whose_arrays_grew_is_resumed(self, tmp_path: Path) -> None:
        """Nothing is told of them while they are stored, and a fresh process takes them up."""
        state = self.arrays(grown=False)
        experiment = self.experiment(tmp_path, **{name: keepfast.attribute(state, name) for name in vars(state)})
        experiment.step(0)
        vars(state).update(vars(self.arrays(grown=True)))
        experiment.step(1)
        experiment.close()
        other = self.arrays(grown=False)
        modules = {name: keepfast.attribute(other, name) for name in vars(other)}
        experiment = self.experiment(tmp_path, **modules)
        assert experiment.resume() == 2
        experiment.close()
        del state.mixed["rng"], other.mixed["rng"]
        self._check(vars(other), vars(state), "")

    def test_an_array_that_grew_is_put_back_where_another_module_refuses(self, tmp_path: Path) -> None:
        """Its owner has the very array that it had."""
        source, target = self.arrays(grown=True), self.arrays(grown=False)
        before = dict(vars(target))
        path = keepfast.save({"all": keepfast.attributes(source, *before), "object": Refusing()}, tmp_path / "a.pt")
        with pytest.raises(keepfast.LoadMismatch, match="never"):
            keepfast.load({"all": keepfast.attributes(target, *before), "object": Refusing()}, path)
        assert all(getattr(target, name) is value for name, value in before.items())
        self._check(target.tables, self.arrays(grown=False).tables, "")

    @pytest.mark.parametrize("name", ["ours", "visits"])
    def test_a_kind_of_numbers_is_compared_all_the_same(self, name: str, tmp_path: Path) -> None:
        """Of another dtype an array is told, and `cast` converts what fits."""
        source, target = self.arrays(grown=True), self.arrays(grown=False)
        setattr(source, name, np.asarray(getattr(source, name)).astype(np.complex64) + 1j)
        before = getattr(target, name)
        path = keepfast.save(keepfast.attribute(source, name), tmp_path / "a.safetensors")
        for options in ({}, {"cast": True}):
            with pytest.raises(keepfast.LoadMismatch, match=r"dtype|value|kind"):
                keepfast.load(keepfast.attribute(target, name), path, **options)
        setattr(source, name, np.asarray(self.arrays(grown=True).visits, np.float64))
        path = keepfast.save(keepfast.attribute(source, name), tmp_path / "b.safetensors")
        with pytest.raises(keepfast.LoadMismatch, match="dtype"):
            keepfast.load(keepfast.attribute(target, name), path)
        report = keepfast.load(keepfast.attribute(target, name), path, strict=False, cast=True)
        assert report
        assert (tuple(getattr(target, name).shape), getattr(target, name).dtype) == ((5,), before.dtype)

    def test_what_is_loaded_where_it_is_keeps_its_shape(self, tmp_path: Path) -> None:
        """Arrays that nobody replaces, those of a framework in a dict, and statistics of an environment's spaces."""
        owner = SimpleNamespace(params={"w": self.array([1.0, 2.0])}, rms=RunningMeanStd(1.0))
        larger = SimpleNamespace(params={"w": self.array([1.0] * 3)}, rms=RunningMeanStd(1.0))
        larger.rms.mean = np.zeros(5)
        kinds = {
            "params": (keepfast.attribute(larger, "params"), keepfast.attribute(owner, "params")),
            "rms": (larger.rms, owner.rms),
            "attribute": (keepfast.attribute(larger, "rms"), keepfast.attribute(owner, "rms")),
            "in place": (np.zeros(5), np.zeros(3)),
            "agents": ({"a": {"seen": np.zeros(5), "rms": larger.rms}}, {"a": {"seen": np.zeros(3), "rms": owner.rms}}),
        }
        for name, (source, target) in kinds.items():
            path = keepfast.save(source, tmp_path / f"{name}.pt")
            with pytest.raises(keepfast.LoadMismatch, match="shape"):
                keepfast.load(target, path)

    def test_containers_stay_the_objects_that_they_are(self, tmp_path: Path) -> None:
        """Whoever else holds a pool or a table has the restored one too."""
        source, target = self.grown(), Fresh(self.array)
        held = {name: getattr(target, name) for name in ("pool", "empty", "table", "scores", "counts", "seen", "names")}
        for name in held:
            keepfast.load(
                keepfast.attribute(target, name), keepfast.save(self.modules(source)[name], tmp_path / "a.pt")
            )
            assert getattr(target, name) is held[name]

    def test_a_load_that_fails_leaves_all_as_it_was(self, tmp_path: Path) -> None:
        """Also what had grown already before another module refused."""
        source, target = self.grown(), Fresh(self.array)
        path = keepfast.save({**self.modules(source), "net": {"w": self.array([1.0])}}, tmp_path / "a.pt")
        with pytest.raises(keepfast.LoadMismatch, match=r"net\.w: shape"):
            keepfast.load({**self.modules(target), "net": {"w": self.array([1.0, 2.0])}}, path)
        self.check_same(target, Fresh(self.array))

    @pytest.mark.parametrize("layers", [1, 3])
    def test_another_network_is_noticed_all_the_same(self, tmp_path: Path, layers: int) -> None:
        """Parameters in a plain dict that is replaced are no table: a layer too few or too many is a difference."""

        state = Fresh(self.array)
        state.last = {f"layer{each}": {"w": self.array([1.0] * (each + 1))} for each in range(2)}
        path = keepfast.save(keepfast.attribute(state, "last"), tmp_path / "a.pt")
        state.last = {f"layer{each}": {"w": self.array([1.0] * (each + 1))} for each in range(layers)}
        with pytest.raises(keepfast.LoadMismatch, match=r"layer\d\.w: (extra|missing)"):
            keepfast.load(keepfast.attribute(state, "last"), path)

    def test_what_could_not_be_taken_back_is_told_at_the_first_checkpoint(self, tmp_path: Path) -> None:
        """A dict with a new key, and an array that grew: once, by name, with what differs and what to do."""

        state, table = Fresh(self.array), {"a": self.array([0.0])}
        state.last = {"w": self.array([0.0] * 3)}
        experiment = self.experiment(tmp_path, table=table, seen=keepfast.attribute(state, "last"))
        table["b"], state.last = self.array([1.0, 2.0]), {"w": self.array([0.0] * 5)}
        with pytest.warns(keepfast.KeepfastWarning, match="another structure than when it was registered") as told:
            experiment.step(0)
        messages = [str(each.message) for each in told]
        assert len(messages) == 2
        assert re.search(r"`table` .*table\.b: extra.*keepfast\.attribute\(owner, \"table\"\)", messages[0])
        assert re.search(r"`seen` .*seen\.w: shape.*\(5,\).*or make it as large from the start", messages[1])
        table["c"] = self.array([1.0])
        experiment.step(1)
        experiment.close()

    def test_an_object_in_the_place_of_none_is_told_at_the_first_checkpoint(self, tmp_path: Path) -> None:
        """A file has its state, and of a fresh owner's None makes no generator: by name, with what to do."""
        state = Fresh(self.array)
        state.last = None
        experiment = self.experiment(tmp_path, seen=keepfast.attribute(state, "last"))
        state.last = np.random.default_rng(0)
        with pytest.warns(keepfast.KeepfastWarning, match=r"`seen` was None .* is a Generator now.*Make it before"):
            experiment.step(0)
        experiment.close()

    def test_what_is_loaded_later_or_replaced_is_not_told_of(self, tmp_path: Path) -> None:
        """Another object under the name is another structure by right, and so is what is of the same one."""
        state = Fresh(self.array)
        experiment = self.experiment(
            tmp_path, fixed={"a": self.array([0.0])}, scores=keepfast.attribute(state, "scores")
        )
        experiment.register(fixed={"a": self.array([0.0]), "b": self.array([1.0, 2.0])})
        experiment.step(0)
        experiment.close()
