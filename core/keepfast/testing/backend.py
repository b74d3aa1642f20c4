"""The contract of backends."""

from __future__ import annotations

import abc
import contextlib
import itertools
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast import codec
from keepfast.interfaces.backend import Backend
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.modules.comparing.matching import Match, match, match_open, reject
from keepfast.modules.options import FileModule, LoadOptions
from keepfast.plugins.discovery import registry
from keepfast.testing.checkpoint_store import assert_same
from keepfast.tree import Tree, grown, items, leaves, map_leaves

_PLAIN_CONTAINERS = (dict, OrderedDict, Counter, list, tuple)
_PLAIN_LEAVES = (type(None), bool, int, float, complex, str, bytes, np.ndarray)
_DTYPES = ("float32", "float16", "int32", "uint8", "bool")
_FOREIGN = (None, True, 3, 2.5, "policy", b"bytes", object(), len, int, Path("policy.pt"))


@final
@dataclass(frozen=True)
class BackendSubject:
    """What a backend is proven with.

    Attributes:
        backend: the backend.
        make_module: makes a module of the framework from a seed: of one structure, its arrays different with each seed.
        train: changes arrays of a module as a step of training does, in place where the framework can, to values that
            depend on nothing but the module's state; returns the module, or what replaces it.
        array: makes an array of the framework with the values and dtype of a NumPy array.
        draw: draws numbers from the framework's global random generator; None where it has none.
    """

    backend: Backend
    make_module: Callable[[int], Any]
    train: Callable[[Any], Any]
    array: Callable[[NDArray[Any]], Any]
    draw: Callable[[], Any] | None = None

    def host(self, module: Any) -> Tree:
        """Return an independent copy of a module's state."""
        return self.backend.host_copy(self.backend.capture(module))

    def match(self, module: Any, found: Tree) -> Match:
        """Compare a module with what a file holds of it."""
        own = self.backend.capture(module)
        if self.backend.is_open(module):
            return match_open("module", own, found, self.backend.mismatches(module, found))
        own = grown(own, found)
        matched = match("module", own, FileModule(found), LoadOptions())
        return reject(matched, own, self.backend.mismatches(module, matched.state))


class BackendContract(abc.ABC):
    """Proves a backend; inherit it, name the class ``Test...``, and give the fixture `subject`.

    Give the fixture parameters to prove several kinds of modules.

    Example::

        class TestMyBackend(keepfast.testing.BackendContract):
            @pytest.fixture
            def subject(self):
                return keepfast.testing.BackendSubject(MyBackend(), make_net, train_net, my_framework.asarray)
    """

    @pytest.fixture
    @abc.abstractmethod
    def subject(self) -> BackendSubject:
        """Return the backend to prove, and what to prove it with."""

    def test_its_checkpoint_format_exists(self, subject: BackendSubject) -> None:
        """The backend has a name, and the checkpoint format that it chooses is one that a plugin provides."""
        assert subject.backend.name
        assert subject.backend.checkpoint_format in registry().names("checkpoint format")

    def test_it_recognizes_its_own_modules(self, subject: BackendSubject) -> None:
        """A module of the framework is recognized, before and after training."""
        module = subject.make_module(0)
        assert subject.backend.recognizes(module) is True
        assert subject.backend.recognizes(subject.train(module)) is True

    def test_it_recognizes_nothing_else(self, subject: BackendSubject) -> None:
        """Plain objects, and a class in the place of its instance, are not recognized."""
        for foreign in (*_FOREIGN, type(subject.make_module(0))):
            assert subject.backend.recognizes(foreign) is False, foreign

    def test_a_copy_is_plain(self, subject: BackendSubject) -> None:
        """A host copy has plain containers, plain leaves, and NumPy arrays in C order."""
        copy = subject.host(subject.make_module(0))
        arrays = [leaf for _, leaf in leaves(copy) if isinstance(leaf, np.ndarray)]
        assert arrays
        assert all(array.flags.c_contiguous for array in arrays)
        _assert_plain(copy, "")

    def test_capturing_changes_nothing(self, subject: BackendSubject) -> None:
        """Two captures in a row give the same tree."""
        module = subject.make_module(0)
        assert_same(subject.host(module), subject.host(module))

    def test_modules_differ_with_their_seed_and_by_training(self, subject: BackendSubject) -> None:
        """The subject is one that proves something: another seed, or a step of training, gives other arrays."""
        before = subject.host(subject.make_module(0))
        assert list(dict(leaves(before))) == list(dict(leaves(subject.host(subject.make_module(1)))))
        assert _arrays(before) != _arrays(subject.host(subject.make_module(1)))
        assert _arrays(before) != _arrays(subject.host(subject.train(subject.make_module(0))))

    def test_training_on_does_not_reach_a_copy(self, subject: BackendSubject) -> None:
        """What is done to a module at once after it was copied is not in the copy, however often."""
        module, expected = subject.make_module(0), subject.host(subject.make_module(0))
        copy = subject.host(module)
        for _ in range(3):
            module = subject.train(module)
        assert_same(copy, expected)

    def test_changing_a_copy_does_not_reach_the_module(self, subject: BackendSubject) -> None:
        """A copy is its owner's: overwriting it changes neither the module nor another copy."""
        module = subject.make_module(0)
        copy, other = subject.host(module), subject.host(module)
        _overwrite(copy)
        assert_same(subject.host(module), other)
        assert_same(other, subject.host(subject.make_module(0)))

    def test_a_restored_module_is_bit_identical(self, subject: BackendSubject) -> None:
        """A module with other values gets every bit of the state."""
        expected = subject.host(subject.train(subject.make_module(0)))
        restored = subject.backend.restore(subject.train(subject.make_module(1)), expected)
        assert_same(subject.host(restored), expected)

    def test_a_restored_module_trains_on_identically(self, subject: BackendSubject) -> None:
        """Three steps of training later, a restored module still has the bits of the one it was copied from."""
        module = subject.train(subject.make_module(0))
        restored = subject.backend.restore(subject.train(subject.make_module(1)), subject.host(module))
        for _ in range(3):
            module, restored = subject.train(module), subject.train(restored)
        assert_same(subject.host(restored), subject.host(module))

    def test_a_restored_module_shares_nothing_with_the_state(self, subject: BackendSubject) -> None:
        """The state may be read-only; it is not changed by training on, nor the module by overwriting the state."""
        module = subject.train(subject.make_module(0))
        expected = subject.host(module)
        state = _writeable_copy(expected)
        _set_writeable(state, False)
        restored = subject.backend.restore(subject.train(subject.make_module(1)), state)
        trained = subject.train(restored)
        assert_same(state, expected)
        after = subject.host(trained)
        _set_writeable(state, True)
        _overwrite(state)
        assert_same(subject.host(trained), after)

    def test_restoring_twice_is_restoring_once(self, subject: BackendSubject) -> None:
        """A state can be restored again, into the same module and into another."""
        state = subject.host(subject.train(subject.make_module(0)))
        for module in (subject.make_module(1), subject.train(subject.make_module(2))):
            restored = subject.backend.restore(module, state)
            restored = subject.backend.restore(subject.train(restored), state)
            assert_same(subject.host(restored), state)

    def test_a_module_keeps_its_identity_unless_it_is_replaced(self, subject: BackendSubject) -> None:
        """`restore` returns the module itself, or, where `replaces` says so, another one and leaves the first alone."""
        module = subject.make_module(1)
        before, state = subject.host(module), subject.host(subject.make_module(0))
        restored = subject.backend.restore(module, state)
        if subject.backend.replaces(module):
            assert restored is not module
            assert_same(subject.host(module), before)
        else:
            assert restored is module

    def test_its_own_format_brings_every_bit_back(self, subject: BackendSubject, tmp_path: Path) -> None:
        """What is written in the backend's format and read again fits a module entry by entry, and restores it."""
        store: CheckpointStore = registry().get("checkpoint format", subject.backend.checkpoint_format)()
        module = subject.train(subject.make_module(0))
        expected = subject.host(module)
        store.save(Checkpoint({"module": expected}), tmp_path / f"agent_1{store.extension}")
        found = store.load(tmp_path / f"agent_1{store.extension}").state["module"]
        other = subject.train(subject.make_module(1))
        matched = subject.match(other, found)
        assert [str(entry) for entry in matched.entries if entry.status != "loaded"] == []
        assert_same(subject.host(subject.backend.restore(other, matched.state)), expected)

    def test_what_is_held_keeps_its_value(self, subject: BackendSubject) -> None:
        """A held array has the value it had when it was held, also after its owner has overwritten it."""
        for dtype, shape in itertools.product(_DTYPES, ((), (1,), (4, 1), (3, 0))):
            value = np.asarray(np.arange(np.prod(shape)).reshape(shape) % 2 + 1, dtype)
            array = subject.array(value.copy())
            held = subject.backend.hold(array)
            with contextlib.suppress(TypeError):  # arrays that cannot be changed need no copy
                array[...] = subject.array(np.zeros(shape, dtype))
            (fetched,) = subject.backend.fetch([held])
            assert_same(fetched, value, f"{dtype} {shape}")

    def test_held_values_of_all_kinds_are_fetched_in_order(self, subject: BackendSubject) -> None:
        """Values of different shapes and dtypes, alike ones among them, come back in order and independent."""
        values = [
            np.arange(size, dtype=dtype).reshape(shape)
            for _ in range(3)
            for dtype in _DTYPES[:-1]
            for size, shape in ((1, ()), (4, (4,)), (4, (4, 1)), (5, (5,)))
        ]
        held = [subject.backend.hold(subject.array(value.copy())) for value in values]
        for fetched, value in zip(subject.backend.fetch(held), values, strict=True):
            assert_same(fetched, value)

    def test_nothing_held_is_nothing_fetched(self, subject: BackendSubject) -> None:
        """Fetching nothing gives an empty list."""
        assert subject.backend.fetch([]) == []

    def test_a_process_by_itself_exchanges_with_nobody(self, subject: BackendSubject) -> None:
        """It gets what it gives."""
        assert list(subject.backend.exchange(b"what it gives", 1.0)) == [b"what it gives"]

    def test_the_random_state_comes_back(self, subject: BackendSubject) -> None:
        """Random numbers repeat from where the state was taken, also when that state went through a file."""
        state = subject.backend.random_state()
        if subject.draw is None:
            assert state == {}
            return
        _assert_plain(state, "")
        first, second = np.asarray(subject.draw()), np.asarray(subject.draw())
        assert not np.array_equal(first, second)
        for kept in (state, codec.loads(codec.dumps(state)), state):
            subject.backend.set_random_state(kept)
            np.testing.assert_array_equal(np.asarray(subject.draw()), first)
            np.testing.assert_array_equal(np.asarray(subject.draw()), second)


def _assert_plain(node: Tree, path: str) -> None:
    children = items(node)
    assert type(node) in (_PLAIN_LEAVES if children is None else _PLAIN_CONTAINERS), path
    for key, child in children or ():
        _assert_plain(child, f"{path}.{key}")


def _arrays(tree: Tree) -> list[tuple[str, bytes]]:
    return [(path, leaf.tobytes()) for path, leaf in leaves(tree) if isinstance(leaf, np.ndarray)]


def _overwrite(tree: Tree) -> None:
    """Flip every bit of every array that can be written to."""
    for array in {id(leaf): leaf for _, leaf in leaves(tree) if isinstance(leaf, np.ndarray)}.values():
        if array.flags.writeable:
            np.invert(array.reshape(-1).view(np.uint8), out=array.reshape(-1).view(np.uint8))


def _writeable_copy(tree: Tree) -> Tree:
    return map_leaves(lambda _path, leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, tree)


def _set_writeable(tree: Tree, writeable: bool) -> None:
    for _, leaf in leaves(tree):
        if isinstance(leaf, np.ndarray):
            leaf.flags.writeable = writeable
