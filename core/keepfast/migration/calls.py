"""What users call to migrate a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keepfast._system.arguments.checks import table, truth
from keepfast._system.arguments.guarding import guarded
from keepfast._system.disk.bounded import within_memory
from keepfast._system.disk.special import require_file
from keepfast.errors import CorruptCheckpoint, InvalidValue, KeepfastError, NotFound, as_given
from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.migration.engine import MigrationOptions, Source, migrate_all
from keepfast.migration.files.opening import forget
from keepfast.migration.report import MigrationReport
from keepfast.modules.parts import Module
from keepfast.modules.registered import RegisteredModule, registered
from keepfast.plugins.backends import configured, recognize
from keepfast.plugins.discovery import Provided, registry
from keepfast.plugins.formats import is_checkpoint
from keepfast.plugins.locations import located
from keepfast.tree import is_array, map_leaves


@guarded
def migrate(
    module: Module,
    path: str | Path | None = None,
    state_dict: Mapping[str, Any] | None = None,
    name_map: Mapping[str, Any] | None = None,
    auto_mapping: bool = True,
    verbose: bool = False,
    *,
    dry_run: bool = False,
    check: Any = None,
    strict: bool = True,
    layers: Mapping[str, str] | None = None,
    flatten: bool = True,
    reader: str | None = None,
    device: Any = None,
) -> MigrationReport:
    """Load a checkpoint of another library, or of the other framework, into a module.

    Layers find each other by their structure, their names, what they are for and their order. What stays ambiguous is
    refused, and nothing is loaded halfway. Optimizers get what the file's keep for their parameters, where all of these
    were migrated.

    Args:
        module: a network, a tree of arrays or whatever `keepfast.load` takes, of any framework; or a dict of several.
        path: the checkpoint; its library is known by the content. No code of it is run.
        state_dict: the arrays or tensors themselves, in the place of a file.
        name_map: own name -> name in the file, of entries or of whole layers; for a dict of modules, such a map for
            each by its name.
        auto_mapping: whether what `name_map` does not name is looked for.
        verbose: whether the entries of both sides are printed, and what goes where.
        dry_run: whether to load nothing and only report.
        check: a pair of observations and the outputs that the module must have for them afterwards, to 1e-5; else
            nothing is loaded. A third element may be the function that makes outputs of observations.
        strict: whether anything the file lacks is an error; else what is there is loaded.
        layers: own layer -> its kind, where shapes and names leave it open: ``{"up": "ConvTranspose2d"}``.
        flatten: whether the inputs of dense layers behind a flatten are put into the other framework's order.
        reader: the name of the reader, where several know the file.
        device: where restored arrays are placed; None leaves each where the module has it.

    Returns:
        What came from where; true when complete.

    Raises:
        LoadMismatch: if anything is ambiguous, missing or without a place, or the check fails; nothing was loaded.
        CorruptCheckpoint: if the file is damaged, of no known kind, or would have to run code.
        NotFound: if there is no such file.
    """
    options = options_of(
        name_map=name_map,
        auto_mapping=auto_mapping,
        verbose=verbose,
        dry_run=dry_run,
        strict=strict,
        check=check,
        layers=layers,
        flatten=flatten,
        device=device,
    )
    modules = registered(_named(module), configured("auto"))
    return migrate_modules(modules, path, state_dict, reader, options)


def migrate_modules(
    modules: Sequence[RegisteredModule],
    path: str | Path | None,
    state_dict: Mapping[str, Any] | None,
    reader: str | None,
    options: MigrationOptions,
) -> MigrationReport:
    """Migrate a checkpoint into registered modules, as `migrate` does into one."""
    if (path is None) is (state_dict is None):
        raise InvalidValue("give one of `path` and `state_dict`, the file or what it would hold")
    source = read_foreign(path, reader) if path is not None else _given(state_dict)
    return migrate_all(modules, source, options)


_SWITCHES = ("auto_mapping", "verbose", "dry_run", "strict", "flatten")


def options_of(**given: Any) -> MigrationOptions:
    """Return the options that the keywords of a public call mean.

    Raises:
        InvalidValue: if one of them means nothing.
        TypeError: if there is none of that name.
    """
    switches = {name: truth(name, given[name]) for name in _SWITCHES if name in given}
    tables: dict[str, Any] = {name: table(name, given[name]) for name in ("name_map", "layers") if name in given}
    if isinstance(given.get("check"), Mapping):
        tables["check"] = table("check", given["check"])
    return MigrationOptions(**{**given, **switches, **tables})


def _named(module: Module) -> dict[str, Module]:
    """Return a module under no name, or several of a dict by theirs."""
    if isinstance(module, dict) and module and not any(map(is_array, module.values())) and _are_modules(module):
        return {str(name): each for name, each in module.items()}
    return {"module": module}


def _are_modules(modules: dict[Any, Any]) -> bool:
    return all(not isinstance(each, dict | list | tuple) and recognize(each) is not None for each in modules.values())


def _given(state_dict: Any) -> Source:
    try:
        backend = recognize(state_dict)
        tree = backend.host_copy(backend.capture(state_dict)) if backend else map_leaves(_host, state_dict)
    except KeepfastError:
        raise
    except RecursionError as error:
        raise InvalidValue(f"`state_dict` is {as_given(state_dict)}: nested too deep, or in itself") from error
    except Exception as error:
        raise InvalidValue(f"`state_dict` is {as_given(state_dict)}, which cannot be read: {error}") from error
    side = "torch" if backend is not None and backend.name == "torch" else None
    return Source(ForeignCheckpoint({"": tree}, side))  # type: ignore[arg-type]


def _host(_path: str, leaf: Any) -> Any:
    return np.array(leaf) if is_array(leaf) else leaf


def read_foreign(path: str | Path, reader: str | None = None) -> Source:
    """Read a checkpoint of any library that there is a reader for.

    Args:
        path: the file.
        reader: the name of the reader; None asks all of them.

    Raises:
        NotFound: if there is no such file.
        Unreadable: if it is a file of the kernel.
        CorruptCheckpoint: if it is damaged, or nobody knows it.
        UnknownPlugin: if there is no reader of that name.
        InvalidValue: if several know it.
    """
    if reader is not None and not isinstance(reader, str):
        raise InvalidValue(f"`reader` is {as_given(reader)}; allowed: the name of a reader, or None")
    path = located(path)
    if not path.is_file() and not (path.is_dir() and is_checkpoint(path)):
        raise NotFound(f"cannot migrate `{path}`: there is no such file")
    require_file(path)
    try:
        name, chosen = (reader, registry().get("checkpoint reader", reader)()) if reader else _recognized(path)
        with within_memory(path):
            return Source(chosen.read(path), path, name, chosen.version)
    finally:
        forget()


def _recognized(path: Path) -> tuple[str, CheckpointReader]:
    """Return the reader that knows a file; those that know anything are asked last."""
    made: list[tuple[Provided, CheckpointReader]] = [
        (provided, reader)
        for provided in registry().provided("checkpoint reader")
        if (reader := registry().make(provided)) is not None
    ]
    for general in (False, True):
        found = [(each.name, reader) for each, reader in made if reader.general is general and reader.recognizes(path)]
        if len(found) > 1:
            names = ", ".join(f"`{name}`" for name, _ in found)
            raise InvalidValue(f"several readers know `{path}`: {names}; say which one, `reader=` in the call")
        if found:
            return found[0]
    known = ", ".join(sorted(each.name for each, _ in made))
    raise CorruptCheckpoint(_unknown(path, known))


def _unknown(path: Path, known: str) -> str:
    from keepfast.errors import KeepfastError
    from keepfast.migration.files.opening import opened

    try:
        opened(path)
    except (KeepfastError, OSError) as error:
        return f"{error}; no reader knows it, and nothing of it was run. Known: {known}"
    return f"`{path}` holds no network that a reader knows; known: {known}"
