"""CheckpointReader: what reads the checkpoints of another library."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, final

from keepfast.tree import Tree

Side = Literal["torch", "flax"]
"""How the arrays of a network are laid out: as PyTorch has them, or as Flax has."""


@final
@dataclass(frozen=True)
class ForeignCheckpoint:
    """What a checkpoint of another library holds.

    Attributes:
        modules: the tree of each module by name, arrays as NumPy arrays; the name may be "" where there is one alone.
        side: how the arrays are laid out; None leaves that to their names.
        library: the library that wrote it, with its version where the file tells.
        optimizers: the states of its optimizers, by name.
        logarithms: the full paths of lone parameters that are logarithms, though their names do not say so.
        notes: what a user should know of it that no array tells: that actions are squashed, for example.
        parameters: by the name of an optimizer of PyTorch, the names of its parameters by group, if the file has them.
        shared: how the paths of layers begin that serve policy and critic alike, though their names say one of them.
    """

    modules: Mapping[str, Tree]
    side: Side | None = None
    library: str = ""
    optimizers: Mapping[str, Tree] = field(default_factory=dict)
    logarithms: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    parameters: Mapping[str, Sequence[Sequence[str | None]]] = field(default_factory=dict)


class CheckpointReader(abc.ABC):
    """Reads the checkpoints of another library, and knows them by their content, whatever they are called.

    No code of a file is ever run. The smallest complete reader::

        class NpzReader(keepfast.CheckpointReader):
            library = "example"

            def recognizes(self, path):
                return zipfile.is_zipfile(path) and "policy_w.npy" in zipfile.ZipFile(path).namelist()

            def read(self, path):
                with numpy.load(path, allow_pickle=False) as file:
                    arrays = {"0.weight": file["policy_w"], "0.bias": file["policy_b"]}
                return keepfast.ForeignCheckpoint({"policy": arrays}, side="torch", library="example")

    Registered by a plugin: ``keepfast_migrations`` returns ``{"example": NpzReader}``.
    `keepfast.testing.CheckpointReaderContract` proves it.
    """

    library: ClassVar[str]
    """The library whose checkpoints it reads."""

    version: ClassVar[int] = 1
    """Its version, which stands in reports; raised when it reads a file otherwise than before."""

    general: ClassVar[bool] = False
    """Whether it reads what others may read better; it is asked after those that are not general."""

    @abc.abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Say whether a file is one of the library's, by its content; never raises for a file of anything else."""

    @abc.abstractmethod
    def read(self, path: Path) -> ForeignCheckpoint:
        """Read a file that it recognizes.

        Raises:
            CorruptCheckpoint: if the file is damaged, or carries what would have to be run.
            OSError: if it cannot be opened.
        """
