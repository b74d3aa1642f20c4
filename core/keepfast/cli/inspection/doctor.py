"""``keepfast doctor``: what is installed, what works in a directory, and what to install."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.text import Text

from keepfast._system.disk.trial import Trial, try_directory
from keepfast._version import __version__
from keepfast.cli import console
from keepfast.plugins.discovery import registry
from keepfast.plugins.lazy import lazy
from keepfast.runs.directory import DEFAULT_DIRECTORY

_PACKAGES: tuple[tuple[str, str, str], ...] = (
    ("torch", "agents of PyTorch", "torch"),
    ("jax", "agents of JAX", "jax"),
    ("flax", "agents of JAX", "jax"),
    ("optax", "optimizers of JAX", "jax"),
    ("tensorboard", "event files, and looking at them", "torch"),
    ("tensorboardX", "event files without PyTorch", "jax"),
    ("wandb", "Weights & Biases", "wandb"),
    ("huggingface_hub", "models of the Hugging Face Hub", "hub"),
    ("polars", "memories as csv", "data"),
    ("pyarrow", "memories as parquet", "data"),
    ("h5py", "memories as Minari datasets", "data"),
    ("gymnasium", "the demo's environments", "demo"),
    ("matplotlib", "pictures in files", "plot"),
    ("pillow", "images for TensorBoard", "jax"),
)
"""What can be installed beside Keepfast: the package, what it is for, and the extra that brings it."""

_SLOW_SYNC = 1.0
"""After how many seconds an fsync counts as slow: every checkpoint takes three."""


def doctor(
    directory: Annotated[Path, typer.Argument(help="The directory to try: where runs will lie.")] = Path(
        DEFAULT_DIRECTORY
    ),
    as_json: console.AsJson = False,
) -> None:
    """Say what is installed, what works in a directory and how fast, and what to install; exit with 1 if runs fail."""
    trials = list(try_directory(directory))
    found = {
        "kind": "doctor",
        "machine": dict(_machine()),
        "packages": [dict(zip(("name", "version", "for", "install"), row, strict=True)) for row in _packages()],
        "broken_plugins": [f"{broken.entry_point}: {broken.cause}" for broken in registry().broken],
        "directory": str(directory),
        "free_bytes": _free(directory),
        "trials": [vars(trial) for trial in trials],
        "advice": list(_advice(trials)),
    }
    if as_json:
        console.print_json(found)
    else:
        _show(found, trials)
    if any(trial.needed and trial.problem for trial in trials):
        raise typer.Exit(1)


def _machine() -> Iterator[tuple[str, str]]:
    yield "keepfast", __version__
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "system", platform.platform()
    yield "processors", str(os.cpu_count())
    driver = Path("/proc/driver/nvidia/version")
    if driver.exists():
        yield "gpu driver", driver.read_text(errors="replace").splitlines()[0].removeprefix("NVRM version: ")


def _packages() -> Iterator[tuple[str, str | None, str, str | None]]:
    for name, purpose, extra in _PACKAGES:
        version = _version(name)
        yield name, version, purpose, None if version else f'pip install "keepfast[{extra}]"'


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _free(directory: Path) -> int:
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return shutil.disk_usage(place).free


def _advice(trials: list[Trial]) -> Iterator[str]:
    """Yield what to do."""
    backends = [provided for provided in registry().provided("backend") if provided.name != "plain"]
    if not any(isinstance(each.factory, lazy) and not each.factory.missing() for each in backends):
        yield 'there is no framework: run pip install "keepfast[torch]" or pip install "keepfast[jax]"'
    if _version("tensorboard") is None and _version("tensorboardX") is None:
        yield 'runs are kept as jsonl for want of TensorBoard: run pip install "keepfast[torch]" or "keepfast[jax]"'
    for broken in registry().broken:
        yield f"the plugin `{broken.entry_point}` of {broken.distribution} is broken: update or uninstall it"
    for trial in trials:
        if trial.problem and trial.needed:
            yield f"no run can live there, since it cannot {trial.what}: {trial.problem}; choose another directory"
        elif trial.problem:
            yield f"a run does without what that file system lacks ({trial.what}: {trial.problem}), as it will tell"
        elif "fsync" in trial.what and trial.seconds > _SLOW_SYNC:
            yield f"that disk is slow ({trial.seconds:.1f} s for an fsync); a local one makes checkpoints quicker"


def _show(found: dict[str, Any], trials: list[Trial]) -> None:
    out = console.output()
    for label, value in found["machine"].items():
        out.print(Text.assemble((f"{label}: ", "bold"), value))
    table = console.table("package", "version", "for", "install")
    for row in found["packages"]:
        table.add_row(*(Text(row[name] or "-") for name in ("name", "version", "for", "install")))
    out.print("", table, "", sep="\n")
    out.print(Text.assemble(("directory: ", "bold"), f"{found['directory']} ({decimal(found['free_bytes'])} free)"))
    tried = console.table("tried", "works", "time", right=("time",))
    for trial in trials:
        tried.add_row(Text(trial.what), Text(trial.problem or "yes"), f"{1000 * trial.seconds:.1f} ms")
    out.print(tried, "", sep="\n")
    for advice in found["advice"] or ["everything that a run needs works"]:
        out.print(Text(advice))
