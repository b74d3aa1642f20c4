"""What a process runs on and in: the machine, Python, the packages, and how it was called."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keepfast.errors import shown
from keepfast.provenance.secrets import masked_arguments

_LONGEST_ARGUMENT, _MOST_ARGUMENTS = 1000, 200

_READ = 1 << 16
"""How many bytes of one of the kernel's tables are read; that of the processors has a row for each."""

_GPU_SECONDS = 10.0
"""How long the driver's own program may take, which is asked behind training."""


def call() -> dict[str, Any]:
    """Return how the process was called: command line, working directory, process number."""
    given = sys.orig_argv or sys.argv
    command = [shown(argument, _LONGEST_ARGUMENT) for argument in masked_arguments(given[:_MOST_ARGUMENTS])]
    return {"command": command, "directory": _working_directory()}


def _working_directory() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return None


@functools.cache
def machine() -> dict[str, Any]:
    """Return what the machine is, as far as the operating system tells at once: host, system, processors, memory."""
    found: dict[str, Any] = {
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _processor(),
        "cores": os.cpu_count(),
    }
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found["memory"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if gpus := _gpus_of_kernel():
        found |= gpus
    return found


def python() -> dict[str, str]:
    """Return which Python runs, and where it is."""
    version = f"{platform.python_implementation()} {platform.python_version()}"
    return {"version": version, "executable": sys.executable or ""}


def _processor() -> str:
    found = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    return shown(found[1].strip() if found else platform.processor() or platform.machine())


def _text(path: str | Path) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(_READ).decode("utf-8", "replace")
    except OSError:
        return ""


def _gpus_of_kernel() -> dict[str, Any]:
    """Return NVIDIA's GPUs and driver as Linux's kernel tells of them; nothing where it does not."""
    about = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    names = [found[1].strip() for path in about if (found := re.search(r"^Model:\s*(.+)$", _text(path), re.MULTILINE))]
    version = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", _text("/proc/driver/nvidia/version"))
    driver = {"driver": version[1]} if version else {}
    return {"gpus": [shown(name) for name in names], **driver} if names else {}


@functools.cache
def gpus() -> dict[str, Any]:
    """Return NVIDIA's GPUs and driver as its own program tells of them, which may take seconds."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_SECONDS, check=True).stdout  # noqa: S603
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    rows = [row.split(", ") for row in told.splitlines() if ", " in row]
    return {"gpus": [shown(row[0]) for row in rows], "driver": shown(rows[0][1])} if rows else {}


def packages() -> dict[str, str]:
    """Return the version of each installed package, by the names of the folders that installers leave for each.

    Their metadata are not opened, which would take a hundred times as long.
    """
    return dict(_packages(tuple(sys.path)))


@functools.lru_cache(maxsize=4)
def _packages(path: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for place in path:
        for name, version in _installed_in(place or "."):
            found.setdefault(name, version)  # as an import, the first one counts
    return dict(sorted(found.items()))


_INSTALLED = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")


def _installed_in(place: str) -> Iterator[tuple[str, str]]:
    try:
        names = [path.name for path in Path(place).iterdir()]
    except OSError:  # a zip, or nothing
        return
    for name in names:
        if name.endswith("-info") and (found := _INSTALLED.fullmatch(name)):
            yield re.sub(r"[-_.]+", "-", found["name"]).lower(), found["version"]
