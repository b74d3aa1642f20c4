"""The contract of what an agent keeps beside its networks, whatever the framework of these."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import numpy as np
import pytest

from keepfast.errors import UnsupportedModule
from keepfast.experiment import Experiment
from keepfast.modules.parts import attribute, attributes
from keepfast.modules.single import load, save


@final
@dataclass(frozen=True)
class Kept:
    """Something that an agent keeps.

    Attributes:
        modules: what is registered, by name.
        observe: returns what tells one such thing from another: its values, or what comes of it next.
        train: what happens to it between its registration and its checkpoint.
    """

    modules: Mapping[Any, Any]
    observe: Callable[[], Any]
    train: Callable[[], object] = lambda: None

    @classmethod
    def of(cls, module: Any, observe: Callable[[Any], Any] = repr) -> Kept:
        """Return a module that is changed in place, observed as it is."""
        return cls({"kept": module}, lambda: observe(module))


@final
class RunningMeanStd:
    """Has the attributes of Gymnasium's and stable-baselines3's class of this name."""

    def __init__(self, value: float) -> None:
        self.mean: Any = np.full(3, value)
        self.var, self.count = np.full(3, value + 1), 1e-4 + value

    def __repr__(self) -> str:
        return repr((self.mean, self.var, self.count))


@final
class VecNormalize:
    """Has the attributes of stable-baselines3's class of this name, over a space of several observations."""

    def __init__(self, value: float) -> None:
        self.venv, self.norm_obs, self.gamma, self.clip_obs = object(), True, 0.99, 10.0
        self.obs_rms = {"image": RunningMeanStd(value), "state": RunningMeanStd(value + 1)}
        self.ret_rms, self.returns = RunningMeanStd(value + 2), np.full(4, value)
        self.ret_rms.mean = np.float64(value)  # a number, as its first update leaves it

    def __repr__(self) -> str:
        return repr((self.obs_rms, self.ret_rms, self.returns))


@final
class Scaler:
    """Looks after its own state, with what a state may have in it."""

    def __init__(self, value: int) -> None:
        self.mean, self.count = np.full(2, value), value
        self.last = deque([float(value)] * value, maxlen=9)

    def state_dict(self) -> dict[str, Any]:
        """Return what it has."""
        return {"mean": self.mean, "count": self.count, "last": self.last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.mean, self.count, self.last = state["mean"], state["count"], state["last"]

    def __repr__(self) -> str:
        return repr((self.mean, self.count, self.last))


def _held(value: Any, observe: Callable[[Any], Any] = repr) -> Kept:
    """Return what an owner holds and replaces."""
    owner = SimpleNamespace(value=value)
    return Kept({"kept": attribute(owner, "value")}, lambda: observe(owner.value))


def growing(fresh: Any, grown: Any, seed: int, observe: Callable[[Any], Any] = repr) -> Kept:
    """Return what an owner holds and replaces, of another structure once there was some training.

    Args:
        fresh: as it is at the start.
        grown: as it is after some training, where the seed is 1.
        seed: tells what is to be saved, 1, from what it is to be loaded into.
        observe: returns its values.
    """
    owner = SimpleNamespace(value=fresh)
    train = (lambda: setattr(owner, "value", grown)) if seed == 1 else lambda: None
    return Kept({"kept": attribute(owner, "value")}, lambda: observe(owner.value), train)


def _shrunk(seed: int) -> Kept:
    pool = [np.full(2, seed)] * 3
    owner = SimpleNamespace(pool=pool, visits=np.full(4, seed))

    def train() -> None:
        del pool[1:]
        owner.visits = np.full(2, 9)

    kept = {"kept": attributes(owner, "pool", "visits")}
    return Kept(kept, lambda: repr((owner.pool, owner.visits)), train if seed == 1 else lambda: None)


def _chosen(seed: int) -> Kept:
    owner = SimpleNamespace(
        epsilon=1.0 / seed,
        steps=seed,
        mean=np.full(2, float(seed)),
        scale=np.float32(seed),
        none=None,
        rng=np.random.default_rng(seed),
        rms=RunningMeanStd(float(seed)),
        config={"lr": 0.1 * seed, "name": f"of {seed}"},
        clip=len,
    )
    names = ("epsilon", "steps", "mean", "scale", "none", "rng", "rms", "config")
    kept = attributes(owner, *names)
    return Kept(
        {"kept": kept}, lambda: repr([getattr(owner, name) for name in names if name != "rng"] + [owner.rng.random(3)])
    )


def _nested(seed: int) -> Kept:
    rng = np.random.default_rng(seed)
    agents: dict[Any, dict[str, Any]] = {
        "agent_0": {"epsilon": 1.0 / seed, "rng": rng, "rms": RunningMeanStd(float(seed))},
        1: {"returns": deque([float(seed)] * seed), "table": [Scaler(seed), (np.full(2, seed), Scaler(seed + 1))]},
    }
    first = agents["agent_0"]
    return Kept({"kept": agents}, lambda: repr((first["epsilon"], first["rms"], agents[1], rng.random(3))))


def _numbered(seed: int) -> Kept:
    arrays = [np.full(2, float(seed)), np.full(3, float(seed))]
    return Kept({0: arrays[0], 1: arrays[1]}, lambda: repr(arrays))


KINDS: dict[str, Callable[[int], Kept]] = {
    "a float": lambda seed: _held(1.0 / seed),
    "a float that began as an int": lambda seed: _held(1 if seed == 2 else 0.25),
    "an int": lambda seed: _held(seed),
    "an int of more than 64 bits": lambda seed: _held(2**70 + seed),
    "a bool": lambda seed: _held(seed == 1),
    "a complex number": lambda seed: _held(1j * seed),
    "a text": lambda seed: _held(f"text {seed}"),
    "a NumPy scalar": lambda seed: _held(np.float32(seed)),
    "a NumPy integer": lambda seed: _held(np.int64(seed)),
    "a tuple": lambda seed: _held((seed, 0.5 * seed, np.full(2, seed))),
    "a frozen set": lambda seed: _held(frozenset({seed, seed + 1})),
    "a NumPy array": lambda seed: Kept.of(np.full((2, 3), seed, np.float16)),
    "a NumPy array without dimensions": lambda seed: Kept.of(np.array(float(seed))),
    "a list of arrays": lambda seed: Kept.of([np.full(2, seed), np.arange(seed, seed + 3)]),
    "a dict of arrays and numbers": lambda seed: Kept.of(
        {"w": np.full(2, seed), "n": seed, "deep": {"x": (seed, "a")}}
    ),
    "an ordered dict": lambda seed: Kept.of(OrderedDict(b=seed, a=np.full(1, seed))),
    "a table by tuples": lambda seed: Kept.of({(0, 1): np.full(2, seed), (0, 2): np.full(2, seed + 1)}),
    "a set": lambda seed: Kept.of({seed, 7}),
    "a deque": lambda seed: Kept.of(deque([0.5 * seed] * seed, maxlen=5)),
    "a deque of NumPy scalars": lambda seed: Kept.of(deque([np.float64(seed)] * seed)),
    "a deque of arrays": lambda seed: Kept.of(deque([np.full(2, seed)] * seed)),
    "a deque of episodes": lambda seed: Kept.of(deque([{"r": np.float32(seed), "l": seed}] * seed, maxlen=100)),
    "a Generator": lambda seed: Kept.of(np.random.default_rng(seed), lambda rng: repr(rng.random(3))),
    "a Generator of another kind": lambda seed: Kept.of(
        np.random.Generator(np.random.MT19937(seed)), lambda rng: repr(rng.random(3))
    ),
    "a BitGenerator": lambda seed: Kept.of(np.random.Philox(seed), lambda bits: repr(bits.random_raw(3))),
    "a RandomState": lambda seed: Kept.of(np.random.RandomState(seed), lambda rng: repr(rng.normal(size=3))),
    "a generator of Python": lambda seed: Kept.of(
        random.Random(seed),  # noqa: S311  (its kind is what is kept)
        lambda rng: repr([rng.random(), rng.gauss(0, 1)]),
    ),
    "a RunningMeanStd": lambda seed: Kept.of(RunningMeanStd(float(seed))),
    "a VecNormalize": lambda seed: Kept.of(VecNormalize(float(seed))),
    "a learning rate": lambda seed: _held({"lr": 3e-4 / seed, "last_lr": [3e-4 / seed], "steps": seed}),
    "state that was None": lambda seed: growing(None, (np.ones(2), [np.zeros(3)]), seed),
    "state of which a part was None": lambda seed: growing({"h": None, "n": 0}, {"h": np.ones(2), "n": 5}, seed),
    "state that is None again": lambda seed: growing(np.full(2, seed), None, seed),
    "a pool one longer": lambda seed: growing([{"w": np.ones(2)}], [{"w": np.ones(2)}, {"w": np.full(2, 5)}], seed),
    "a pool that was empty": lambda seed: growing([], [np.ones(2), np.zeros(2)], seed),
    "a table with a new key": lambda seed: growing(
        {"s0": np.zeros(2)}, {"s0": np.ones(2), (1, 2): np.full(2, 3)}, seed
    ),
    "counts with a new key": lambda seed: growing(Counter(a=1), Counter(a=2, b=3), seed),
    "an array that grew": lambda seed: growing(np.zeros((2, 3), np.int16), np.ones((5, 3), np.int16), seed),
    "arrays that grew": lambda seed: growing({"q": np.zeros(1), "n": [1]}, {"q": np.ones(4), "n": [1, 2]}, seed),
    "a pool and an array that shrank": _shrunk,
    "an object with a state dict": lambda seed: Kept.of(Scaler(seed)),
    "chosen attributes": _chosen,
    "agents by id": _nested,
    "modules by number": _numbered,
}
"""Everything that is kept without a framework. A further kind is a row here."""


class KeptContract:
    """Proves that what an agent keeps beside its networks comes back; inherit it, and name the class ``Test...``.

    Give the fixture `companions` to have modules of a framework registered with it. `KINDS` may be another table.

    Example::

        class TestKeptBesideMyFramework(keepfast.testing.KeptContract):
            @pytest.fixture
            def companions(self):
                return lambda seed: {"policy": make_net(seed)}
    """

    @pytest.fixture
    def companions(self) -> Callable[[int], Mapping[str, Any]]:
        """Return a maker, from a seed, of modules that are registered first."""
        return lambda _seed: {}

    @pytest.mark.parametrize("separately", [False, True], ids=["in one file", "in files of their own"])
    @pytest.mark.parametrize("checkpoint_format", ["pt", "safetensors"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_comes_back(
        self,
        companions: Callable[[int], Mapping[str, Any]],
        kind: str,
        checkpoint_format: str,
        separately: bool,
        tmp_path: Path,
    ) -> None:
        """Registered with an experiment and checkpointed, it goes on in another one, where it was made otherwise."""
        config = {
            "directory": str(tmp_path),
            "experiment_name": "run",
            "writers": [],
            "checkpoint_format": checkpoint_format,
            "store_separately": separately,
        }
        saved, other = KINDS[kind](1), KINDS[kind](2)
        with Experiment(config, modules={**companions(1), **saved.modules}) as experiment:
            experiment.register()
            saved.train()
            experiment.write_checkpoint(5)
        with Experiment(config, modules={**companions(2), **other.modules}) as experiment:
            (trained := KINDS[kind](1)).train()
            assert other.observe() != trained.observe()
            assert experiment.resume() == 5
            assert experiment.resumed
        assert other.observe() == saved.observe()

    def test_what_is_changed_in_place_stays_the_object_that_it_was(
        self, companions: Callable[[int], Mapping[str, Any]], tmp_path: Path
    ) -> None:
        """Arrays, generators, deques and statistics are their owner's, who goes on using those very objects."""
        agents = [KINDS["agents by id"](seed).modules["kept"] for seed in (1, 2)]
        path = save({**companions(1), "kept": agents[0]}, tmp_path / "agent.safetensors")
        inner, array = dict(agents[1]["agent_0"]), agents[1][1]["table"][1][0]
        load({**companions(2), "kept": agents[1]}, path)
        assert all(agents[1]["agent_0"][name] is inner[name] for name in ("rng", "rms"))
        assert agents[1][1]["table"][1][0] is array

    @pytest.mark.parametrize(
        "module",
        [
            SimpleNamespace(mean=np.zeros(2), scale=1.0, fn=len),
            {"deep": [SimpleNamespace(mean=np.zeros(2), scale=1.0), np.random.default_rng(0)]},
        ],
    )
    def test_an_object_without_a_state_is_refused_when_it_is_registered(
        self, companions: Callable[[int], Mapping[str, Any]], module: Any, tmp_path: Path
    ) -> None:
        """The error tells how some of its attributes are registered."""
        with Experiment({"directory": str(tmp_path), "writers": []}) as experiment:
            experiment.register(**companions(1))
            with pytest.raises(UnsupportedModule, match=r'register keepfast\.attributes\(it, "mean", "scale"\)'):
                experiment.register(kept=module)
