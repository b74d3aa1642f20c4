"""DcpStore: checkpoints of ``torch.distributed.checkpoint``, a directory that all processes write together.

PyTorch writes the tensors (``__0_0.distcp`` and so on, ``.metadata``), so that its own tools read them. Its
``.metadata`` is a pickle that runs what it likes: nobody reads it here. Where each part of a tensor is stands in the
seal, and the parts are read as any `.pt` file is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from keepfast import ShardedArray, ShardedFormat, Written


@final
class DcpStore(ShardedFormat):
    """Writes and reads directories of ``torch.distributed.checkpoint``, sealed by Keepfast."""

    extension: ClassVar[str] = ".dcp"
    parts = ("keepfast.json", ".metadata", "*.distcp")
    apart: ClassVar[bool] = True

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """Say whether PyTorch has a dtype."""
        from keepfast_torch.sharding.writing import NAMES

        return str(dtype) in NAMES

    def write_arrays(self, arrays: Mapping[str, NDArray[Any] | ShardedArray], directory: Path) -> Written:
        """Write what this process has, in a file of its own.

        Raises:
            WriteFailed: if it could not.
        """
        from keepfast_torch.sharding.writing import write

        return write(arrays, directory, 0 if self.peers is None else self.peers.rank)

    def finish_arrays(self, directory: Path, told: Sequence[Any]) -> Any:
        """Have ``torch.distributed.checkpoint`` write its metadata, and return where it all is.

        Raises:
            WriteFailed: if it could not.
        """
        from keepfast_torch.sharding.writing import finish

        return finish(directory, told)

    def read_arrays(
        self, directory: Path, told: Any, outlines: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
    ) -> Mapping[str, NDArray[Any]]:
        """Return whole arrays, put together of their parts."""
        from keepfast_torch.sharding.writing import read

        return read(directory, told, outlines)
