"""OrbaxStore: checkpoints of Orbax, in a directory that all processes write together and Keepfast seals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from keepfast import CorruptCheckpoint, ShardedArray, ShardedFormat, WriteFailed

ARRAYS = "arrays"
"""The directory that is Orbax's, in that of the checkpoint; its own tools read it."""


@final
class OrbaxStore(ShardedFormat):
    """Writes and reads arrays by Orbax, a flat dictionary of them by their paths."""

    extension: ClassVar[str] = ".orbax"
    parts = ("keepfast.json", ARRAYS)

    def write_arrays(self, arrays: Mapping[str, NDArray[Any] | ShardedArray], directory: Path) -> Any:
        """Have Orbax write what this process has of the arrays; the first writes those that are not spread.

        Raises:
            WriteFailed: if it could not.
        """
        if not arrays:
            return None
        import orbax.checkpoint as ocp

        held = {path: each.held if isinstance(each, ShardedArray) else each for path, each in arrays.items()}
        among = None if self.peers is None else set(range(self.peers.size))
        options = ocp.options.MultiprocessingOptions(  # its barriers are then the coordinator's, not the devices'
            primary_host=0, active_processes=among, barrier_sync_key_prefix=directory.name
        )
        try:
            with _checkpointer(options) as checkpointer:
                checkpointer.save((directory / ARRAYS).absolute(), args=ocp.args.PyTreeSave(held))
        except OSError:
            raise
        except (RuntimeError, ValueError) as error:
            raise WriteFailed(f"Orbax could not write `{directory}`: {error}") from error
        return None

    def read_arrays(
        self, directory: Path, told: Any, outlines: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
    ) -> Mapping[str, NDArray[Any]]:
        """Return whole arrays; this process asks no other."""
        if not outlines:
            return {}
        import jax
        import orbax.checkpoint as ocp

        alone = jax.process_index()
        options = ocp.options.MultiprocessingOptions(
            primary_host=alone, active_processes={alone}, barrier_sync_key_prefix=f"{directory.name} {alone}"
        )
        wanted = {path: ocp.RestoreArgs(restore_type=np.ndarray) for path in outlines}
        with _checkpointer(options) as checkpointer:
            args = ocp.args.PyTreeRestore(item=wanted, restore_args=wanted)
            read: dict[str, NDArray[Any]] = checkpointer.restore((directory / ARRAYS).absolute(), args=args)
        for path, (dtype, shape) in outlines.items():
            array = np.asarray(read[path])
            if (array.dtype, array.shape) != (dtype, shape):
                raise CorruptCheckpoint(f"`{directory}` is damaged: `{path}` is {array.dtype}{list(array.shape)} there")
            read[path] = array
        return read


def _checkpointer(options: Any) -> Any:
    import orbax.checkpoint as ocp

    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)
