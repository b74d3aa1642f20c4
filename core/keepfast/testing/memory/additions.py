"""The contract of memories: the rows that checkpoints lack are what was added, and what was changed otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.interfaces.loading.memory_log import MemoryLog, NewRows, Segment
from keepfast.memories.memory import Memory
from keepfast.memories.tensors.additions import RowLog
from keepfast.testing.memory.loading import MemoryLoadingContract


class MemoryAdditionsContract(MemoryLoadingContract):
    """Proves that a memory is made up of the rows of its checkpoints."""

    def test_new_rows_make_up_the_memory(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """However many are added between two checkpoints, round and round; each is stored once."""
        memory, stored = make(5, 2), _Stored()
        self.counting(memory, array, 2)
        stored.checkpoint(memory)
        for rows, places in ((1, 2), (4, 8), (0, 0), (5, 10), (12, 10), (2, 4)):
            for row in range(rows):
                memory.add_samples(steps=array(np.full((2, 1), row + rows, np.int32)))
            assert stored.checkpoint(memory) == places
        memory.add_samples(states=array(np.full(3, 7.0, np.float32)), steps=array(np.full(1, 7, np.int32)))
        assert stored.checkpoint(memory) == 1

    def test_what_is_changed_otherwise_is_stored_too(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """A tensor that is set, samples that are loaded or forgotten, and marks that come later."""
        memory, stored = make(4, 2), _Stored()
        self.counting(memory, array, 6)
        stored.checkpoint(memory)
        changes: list[Callable[[], object]] = [
            lambda: memory.set_tensor_by_name("steps", array(np.full((4, 2, 1), 9, np.int32))),
            lambda: memory.create_tensor("late", 2),
            lambda: memory.add_samples(steps=array(np.full((2, 1), 1, np.int32)), valid=np.array([True, False])),
            lambda: memory.restore(memory.snapshot()),
            memory.reset,
            lambda: memory.add_samples(steps=array(np.full((2, 1), 3, np.int32))),
            lambda: setattr(memory, "memory_index", 0),
        ]
        for change in changes:
            change()
            stored.checkpoint(memory)

    def test_what_is_written_to_a_tensor_itself_is_noticed(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Of one that was given out, whenever it is written to; where that is a copy, of a buffer that is replaced."""
        memory, stored = make(4, 2), _Stored()
        self.counting(memory, array, 4)
        tensor = memory.get_tensor_by_name("steps")
        stored.checkpoint(memory)
        for row in (0, 3):
            memory.add_samples(steps=array(np.full((2, 1), row, np.int32)))
            if make(1).storage.gives_views:
                tensor[row] = 50 + row
            else:
                memory.storage.buffers["steps"] = array(np.full((8, 1), 50 + row, np.int32))
            stored.checkpoint(memory)


@final
class _Stored:
    """The segments that the checkpoints of one memory have."""

    def __init__(self) -> None:
        self._log, self._rows = RowLog(), dict[str, NewRows]()

    def checkpoint(self, memory: Memory) -> int:
        """Store what is new; compare all that is stored with the memory; return how many places of `steps` were new."""
        _, new = self._log.take(memory, self._rows)
        log = new.log
        if new.parts:
            file = f"memory_log/segment_{new.position}_{len(self._rows):08x}.pt"
            self._rows[file] = new
            log = log.with_segment(Segment(file, 1, "", new.parts))
        new.durable(MemoryLog.of(log.as_mapping()))
        found = log.assembled(lambda segment: self._rows[segment.file].rows)
        expected = memory.snapshot().tensors
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert found[name].tobytes() == tensor.tobytes(), name
        return new.parts.get("steps", (0, 0))[1]
