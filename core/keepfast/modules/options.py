"""How a load is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

from keepfast._system.arguments.checks import listed, table, truth
from keepfast.errors import InvalidValue, LoadMismatch, as_given
from keepfast.memories.fitting import Fit, checked_fit
from keepfast.tree import Tree, map_leaves


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
        fit: what to do with a memory of another size or number of environments; see `Memory.load`.
    """

    modules: tuple[str, ...] | None = None
    strict: bool = True
    cast: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
    device: Any = None
    fit: Fit = "error"

    @classmethod
    def of(
        cls,
        modules: Sequence[str] | None,
        strict: bool,
        cast: bool,
        rename: Mapping[str, str] | None,
        device: Any = None,
        fit: Fit = "error",
    ) -> LoadOptions:
        """Return the options that the keywords of a public call mean.

        Raises:
            InvalidValue: if one of them means nothing.
        """
        chosen = None if modules is None else tuple(map(_name, listed("modules", modules, "a list of names, or None")))
        renamed = table("rename", rename, "a mapping from file to own path, or None")
        if not all(isinstance(name, str) for name in (*renamed, *renamed.values())):
            raise InvalidValue(f"`rename` is {as_given(rename)}; allowed: a mapping from text to text")
        return cls(chosen, truth("strict", strict), truth("cast", cast), renamed, device, checked_fit(fit))

    def wanted(self, own: Iterable[str] | None = None) -> set[str] | None:
        """Return what a file may call the modules that are asked for, also by a path in them; None where all are.

        Args:
            own: the names of the modules to load into; all that the file has if None.
        """
        names = self.modules if self.modules is not None else own
        if names is None:
            return None
        paths = {*names, *(old for old, new in self.rename.items() if new.partition(".")[0] in {*names, ""})}
        parts = (path.split(".") for path in paths)
        return {".".join(part[:count]) for part in parts for count in range(1, len(part) + 1)}

    def of_file(self, single: str | None) -> LoadOptions:
        """Return the options for a file of a single module, which is the only one wanted if no other was asked for.

        Args:
            single: the name that the file has for its module; None where it holds several.
        """
        if self.modules is not None or single is None:
            return self
        return replace(self, modules=(self.rename.get(single, single),))

    def renamed_modules(
        self, found: Mapping[str, Tree], names: Mapping[str, Tree], *, is_foreign: bool = False
    ) -> dict[str, FileModule]:
        """Return the file's modules under the names that `rename` gives whole modules.

        Args:
            found: the file's modules, by name.
            names: what `Backend.names` gave for open modules when the file was written.
            is_foreign: whether another tool wrote the file.

        Raises:
            LoadMismatch: if two of them get one name.
        """
        renamed: dict[str, FileModule] = {}
        for name, state in found.items():
            target = self.rename.get(name, name)
            if target in renamed:
                raise LoadMismatch(f"`rename` makes two modules of the file `{target}`: {', '.join(found)}")
            renamed[target] = FileModule(state, self._rows(name, target, found), is_foreign=is_foreign)
        own = {self._renamed(name, renamed): self._renamed_all(tree, renamed) for name, tree in names.items()}
        return {name: replace(module, names=own) for name, module in renamed.items()}

    def _renamed(self, name: str, files: Mapping[str, FileModule]) -> str:
        """Return the own name of an entry of a file, the module's name before it."""
        module, dot, path = name.partition(".")
        target = self.rename.get(module, module)
        return f"{target}{dot}{files[target].renamed(path)}" if target in files and path else f"{target}{dot}{path}"

    def _renamed_all(self, names: Tree, files: Mapping[str, FileModule]) -> Tree:
        return map_leaves(lambda _path, each: self._renamed(each, files) if isinstance(each, str) else each, names)

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


def _name(given: object) -> str:
    if isinstance(given, str | int):
        return str(given)
    raise InvalidValue(f"`modules` names {as_given(given)}; allowed: names, which are text or integers")


@final
@dataclass(frozen=True)
class FileModule:
    """One module as a file has it.

    Attributes:
        state: its tree, arrays as NumPy arrays.
        rename: path in the file -> own path, both within the module; a path also stands for all below it.
        names: what `Backend.names` gave for each open module when the file was written.
        is_foreign: whether another tool wrote the file, so that what it does not tell is not as of today.
    """

    state: Tree
    rename: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, Tree] = field(default_factory=dict)
    is_foreign: bool = False

    def rows_below(self, source: str, target: str) -> dict[str, str]:
        """Return the rows of `rename` for what is below a path of the file, relative to it and to its own path."""
        below = {old: new for old, new in self.rename.items() if old.startswith(f"{source}.")}
        return {old.removeprefix(f"{source}."): new.removeprefix(f"{target}.") for old, new in below.items()}

    def renamed(self, path: str) -> str:
        """Return the own path that a path of the file stands for."""
        fitting = [old for old in self.rename if old in ("", path) or path.startswith(f"{old}.")]
        if not fitting:
            return path
        old = max(fitting, key=len)
        rest = path[len(old) :].removeprefix(".")
        return ".".join(part for part in (self.rename[old], rest) if part)
