"""How a load is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

from keepfast.errors import LoadMismatch
from keepfast.tree import Tree


@final
@dataclass(frozen=True)
class LoadOptions:
    """How a load treats what does not fit.

    Attributes:
        modules: the names of the modules to load; all if None.
        strict: whether any difference is an error.
        cast: whether another dtype is converted instead of being a difference.
        rename: file path -> own path. A path also stands for all below it, and may begin with a module's name: the
            file's on the left, the own one on the right. Of several that fit an entry, the longest counts, once. Of
            open modules (see `Backend.is_open`) only the names of whole modules are mapped.
        device: where restored arrays are placed; None keeps each where the module has it.
    """

    modules: tuple[str, ...] | None = None
    strict: bool = True
    cast: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
    device: Any = None

    @classmethod
    def of(
        cls,
        modules: Sequence[str] | None,
        strict: bool,
        cast: bool,
        rename: Mapping[str, str] | None,
        device: Any = None,
    ) -> LoadOptions:
        """Return the options that the keywords of a public call mean."""
        return cls(None if modules is None else tuple(modules), strict, cast, rename or {}, device)

    def of_file(self, single: str | None) -> LoadOptions:
        """Return the options for a file of a single module, which is the only one wanted if no other was asked for.

        Args:
            single: the name that the file has for its module; None where it holds several.
        """
        if self.modules is not None or single is None:
            return self
        return replace(self, modules=(self.rename.get(single, single),))

    def renamed_modules(self, found: Mapping[str, Tree]) -> dict[str, FileModule]:
        """Return the file's modules under the names that `rename` gives whole modules.

        Raises:
            LoadMismatch: if two of them get one name.
        """
        renamed: dict[str, FileModule] = {}
        for name, state in found.items():
            target = self.rename.get(name, name)
            if target in renamed:
                raise LoadMismatch(f"`rename` makes two modules of the file `{target}`: {', '.join(found)}")
            renamed[target] = FileModule(state, self._rows(name, target, found))
        return renamed

    def _rows(self, source: str, target: str, found: Iterable[str]) -> dict[str, str]:
        """Return the rows of `rename` for what is in one module of the file, without the module's names."""
        qualified, plain = {}, {}
        for old, new in self.rename.items():
            relative = new.removeprefix(f"{target}.")
            if old.startswith(f"{source}."):
                qualified[old.removeprefix(f"{source}.")] = relative
            elif old.partition(".")[0] not in found:  # else it speaks of a module as a whole, or of another one
                plain[old] = relative
        return plain | qualified


@final
@dataclass(frozen=True)
class FileModule:
    """One module as a file has it.

    Attributes:
        state: its tree, arrays as NumPy arrays.
        rename: path in the file -> own path, both within the module; a path also stands for all below it.
    """

    state: Tree
    rename: Mapping[str, str] = field(default_factory=dict)

    def renamed(self, path: str) -> str:
        """Return the own path that a path of the file stands for."""
        fitting = [old for old in self.rename if path == old or path.startswith(f"{old}.")]
        if not fitting:
            return path
        old = max(fitting, key=len)
        return self.rename[old] + path[len(old) :]
