"""What an agent keeps, of every kind: registered, saved, and loaded into a fresh one, or not at all."""

from __future__ import annotations

import abc
import zlib
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import keepfast
from keepfast.testing.kept import KINDS, Kept, RunningMeanStd, growing
from keepfast.tree import is_array, items
from tests.both_backends.framework import Framework
from tests.both_backends.undone import Steps, bits, load


def seen(value: Any) -> Any:
    """Return what there is in containers, each array with its type and dtype."""
    children = items(list(value) if isinstance(value, deque) else value)
    if children is not None:
        return [(key, seen(child)) for key, child in children]
    return (type(value).__name__, str(value.dtype), np.asarray(value).tolist()) if is_array(value) else repr(value)


class KeptSuite(Framework):
    """Has kinds of a framework beside those of `keepfast.testing`. A further one is a row of `rows`."""

    @abc.abstractmethod
    def array(self, *values: float) -> Any:
        """Return an array of the framework."""

    @abc.abstractmethod
    def network(self, seed: int) -> dict[str, Any]:
        """Return a network, its optimizer with a learning rate that the seed decides, and what else goes with it."""

    def kept(self, modules: Mapping[Any, Any], owner: Any = None) -> Kept:
        """Return modules that are observed bit for bit, and what an owner holds of them."""
        return Kept(modules, lambda: (repr(bits(modules)), seen(vars(owner)) if owner else None))

    def held(self, value: Any) -> Kept:
        owner = SimpleNamespace(value=value)
        return self.kept({"kept": keepfast.attribute(owner, "value")}, owner)

    def with_learning_rate(self, seed: int) -> Kept:
        owner = SimpleNamespace(learning_rate=0.5 / seed, epsilon=1.0 / seed)
        names = ("learning_rate", "epsilon")
        chosen = {name: keepfast.attribute(owner, name) for name in names}
        return self.kept({**self.network(seed), **chosen}, owner)

    def agents(self, seed: int) -> Kept:
        agents = {
            name: {
                **self.network(seed + number),
                "epsilon": 1.0 / seed,
                "mean": self.array(seed, number),
                "rms": RunningMeanStd(float(seed)),
                "rng": np.random.default_rng(seed),
                "returns": deque([float(seed)] * seed, 5),
            }
            for number, name in enumerate(("agent_0", 1))
        }
        return self.kept({"agents": agents})

    def chosen(self, seed: int) -> Kept:
        owner = SimpleNamespace(
            net=self.network(seed)["policy"], mean=self.array(seed), steps=seed, rng=np.random.default_rng(seed)
        )
        return self.kept({"kept": keepfast.attributes(owner, "net", "mean", "steps", "rng")})

    def grown(self, seed: int) -> Kept:
        """Return what one owner holds, each of another structure after some training."""
        owner = SimpleNamespace(
            hidden=None, pool=[self.array(1, 1)], table={"s0": self.array(0)}, counts=Counter(a=1), log=np.zeros((0, 2))
        )
        kept = keepfast.attributes(owner, *vars(owner))

        def train() -> None:
            owner.hidden = {"h": self.array(3), "c": self.array(4, 5)}
            owner.pool.append(self.array(2, 2))
            owner.table["s1"] = self.array(7)
            owner.counts["b"] += 2
            owner.log = np.ones((3, 2))

        return Kept({"kept": kept}, lambda: seen(vars(owner)), train if seed == 1 else lambda: None)

    def pool(self, seed: int) -> Kept:
        """Return opponents with their ratings, one more after some training."""
        owner = SimpleNamespace(pool={"first": {"w": self.array(seed, 1), "rating": 1000.0 * seed}})

        def train() -> None:
            owner.pool["second"] = {"w": self.array(3, 4), "rating": 1200.0}

        kept = {"kept": keepfast.attribute(owner, "pool")}
        return Kept(kept, lambda: seen(owner.pool), train if seed == 1 else lambda: None)

    rows: ClassVar[dict[str, Callable[[Any, int], Kept]]] = {
        "an array": lambda self, seed: self.held(self.array(seed, 1)),
        "arrays in containers": lambda self, seed: self.held(
            {"a": (self.array(seed), [self.array(1, seed)]), "n": seed}
        ),
        "a deque of trees of arrays": lambda self, seed: self.kept(
            {"kept": deque([{"w": self.array(seed)}] * seed, 5)}
        ),
        "a network, its optimizer and a learning rate": with_learning_rate,
        "agents by id": agents,
        "modules by number": lambda self, seed: self.kept(
            dict(enumerate(self.network(seed + number)["policy"] for number in range(2)))
        ),
        "an ensemble": lambda self, seed: self.kept(
            {"kept": [self.network(seed + number)["policy"] for number in range(2)]}
        ),
        "chosen attributes": chosen,
        "recurrent state that was None": lambda self, seed: growing(
            None, (self.array(1, 2), [self.array(3)]), seed, seen
        ),
        "recurrent state of which a part was None": lambda self, seed: growing(
            {"h": None, "n": 1.0}, {"h": self.array(1, 2), "n": 2.0}, seed, seen
        ),
        "a pool one longer": lambda self, seed: growing(
            [{"w": self.array(1)}], [{"w": self.array(2)}, {"w": self.array(3)}], seed, seen
        ),
        "a table with a new key": lambda self, seed: growing(
            {"s0": self.array(0, 0)}, {"s0": self.array(1, 1), "s1": self.array(2, 2)}, seed, seen
        ),
        "a deque that was empty, as an attribute": lambda self, seed: growing(
            deque(maxlen=3), deque([self.array(1), self.array(2)], 3), seed, seen
        ),
        "an array that grew": lambda self, seed: growing(self.array(1, 2), self.array(1, 2, 3), seed, seen),
        "chosen attributes that grew": grown,
        "a pool of networks' weights, and what else it has": pool,
        "a network within a table of statistics": lambda self, seed: self.kept(
            {"kept": {"net": self.network(seed)["policy"], "seen": RunningMeanStd(float(seed)), "n": [seed, None]}}
        ),
    }
    """Everything that is kept of a framework. A backend adds what it alone has."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Have each test run once for each row, those without a framework first."""
        rows = {f"of the framework: {name}": partial(row, self) for name, row in self.rows.items()}
        metafunc.parametrize("make", [*KINDS.values(), *rows.values()], ids=[*KINDS, *rows])

    def agent(self, modules: Mapping[Any, Any], directory: Path) -> keepfast.Agent:
        """Return an agent that has modules, and stores them at every timestep."""
        settings = {"directory": str(directory), "experiment_name": "run", "writers": [], "checkpoint_interval": 1}
        agent = keepfast.Agent(cfg={"experiment": settings})
        agent.checkpoint_modules.update(modules)
        return agent

    def trained(self, make: Callable[[int], Kept], directory: Path) -> tuple[Kept, Path]:
        """Return what an agent had at its last checkpoint, and that."""
        saved = make(1)
        agent = self.agent(saved.modules, directory)
        agent.init({"timesteps": 2})
        saved.train()
        agent.post_interaction(0, 2)
        agent.close()
        return saved, directory / "run" / "checkpoints" / f"agent_1{self.written(saved.modules)}"

    def written(self, modules: Mapping[Any, Any]) -> str:
        """Return the extension of an agent's checkpoints, which is the plain one where no module is of a framework."""
        return self.extension if any(each.backend.name == self.backend for each in _leaves(modules)) else ".safetensors"

    def test_an_agent_has_it_back(self, make: Callable[[int], Kept], tmp_path: Path) -> None:
        """Loaded from the file into a fresh agent, and resumed by another: it is what it was, and nothing is told."""
        saved, path = self.trained(make, tmp_path)
        loaded, resumed = make(2), make(2)
        (again := make(1)).train()
        assert make(2).observe() != again.observe()  # of others, since what a generator draws is gone
        assert self.agent(loaded.modules, tmp_path).load(path)
        with_run = self.agent(resumed.modules, tmp_path)
        assert with_run.resume() == 1
        with_run.close()
        expected = saved.observe()
        assert loaded.observe() == expected
        assert resumed.observe() == expected

    steps: ClassVar[int] = 40
    """About how many of a load's steps are made to fail in each row, evenly spread, and others from row to row."""

    # A generator that is given up is closed by a call, and what that raises Python only tells of.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_every_step_of_its_load_may_fail(
        self, make: Callable[[int], Kept], tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        """Each once: bit for bit it is what it was, beside an array that was loaded, and the error names the file."""

        def with_array(kept: Kept, value: float) -> dict[Any, Any]:
            return {"first": np.full(2, value), **kept.modules, "last": np.full(2, value)}

        saved = make(1)
        modules = with_array(saved, 1)
        saved.train()
        path = keepfast.Agent(modules).save(tmp_path / f"agent{self.extension}")
        counting, kept, expected = Steps(), make(2), saved.observe()
        load(with_array(make(2), 2), path, counting, spent=False)
        other = with_array(kept, 2)
        before, failed = bits(other), 0
        between = max(1, counting.count // self.steps)
        for step in range(1 + zlib.crc32(request.node.name.encode()) % between, counting.count + 1, between):
            error = load(other, path, Steps(step), spent=False)
            if error is None:  # it was expected where it came, and the load went on
                assert kept.observe() == expected
                before = bits(other := with_array(kept := make(2), 2))
                continue
            failed += 1
            assert bits(other) == before, step
            assert str(path) in str(error)
        assert failed > min(self.steps, counting.count) / 2
        assert load(other, path, Steps(), spent=False) is None
        assert kept.observe() == expected
        assert [other[name].tolist() for name in ("first", "last")] == [[1, 1], [1, 1]]


def _leaves(modules: Mapping[Any, Any]) -> list[Any]:
    from keepfast.modules.registered import registered

    return [leaf for module in registered(modules, None) for leaf in module.leaves()]
