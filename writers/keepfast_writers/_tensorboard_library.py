"""The library that makes TensorBoard's events: PyTorch's, tensorboardX, or the tensorboard package alone."""

from __future__ import annotations

import importlib
import importlib.util
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from keepfast import InvalidValue, MissingDependency


@final
@dataclass(frozen=True)
class EventLibrary:
    """What we take of a library; all have it under the same names.

    Attributes:
        name: ``"torch"``, ``"tensorboardX"`` or ``"tensorboard"``.
        event: the class of events, a protocol buffer.
        summary: the class of summaries, a protocol buffer.
        summaries: the module whose functions make summaries of histograms, images, texts and hyperparameters.
        writer: the class SummaryWriter.
        figure_to_image: draws a matplotlib figure.
    """

    name: str
    event: Any
    summary: Any
    summaries: Any
    writer: Any
    figure_to_image: Callable[..., Any]

    def create_file(self, directory: Path, purge_step: int | None) -> tuple[Path, Any]:
        """Have the library's SummaryWriter begin a new event file.

        The name, the first records and the note to whoever has hooked into the library (Weights & Biases) are the
        library's. It names files after the second and, one of the two, the process: our suffix makes them unique.
        TensorBoard reads files in the order of their names, so the new name comes after those that are there.

        Args:
            directory: where to.
            purge_step: TensorBoard hides what other files of the directory hold of this step and later ones.

        Returns:
            The file, and the bins that histograms have by default.
        """
        suffix = f".{time.time_ns()}.{secrets.token_hex(2)}"
        begun = self.writer(log_dir=str(directory), purge_step=purge_step, filename_suffix=suffix)
        begun.close()
        (path,) = directory.glob(f"{_PREFIX}*{suffix}")
        return _named_last(path), begun.default_bins


def _named_last(path: Path) -> Path:
    """Give an event file a later second in its name where another one of its directory would be read after it.

    That is so for the tenth file that one process makes in a second, and where another machine's clock is ahead.
    """
    last = max(other.name for other in path.parent.glob(f"{_PREFIX}*"))
    second = last.removeprefix(_PREFIX).split(".")[0]
    if last == path.name or not (second.isascii() and second.isdigit()):
        return path
    rest = path.name.removeprefix(_PREFIX).split(".", 1)[1]
    return path.rename(path.with_name(f"{_PREFIX}{int(second) + 1:010d}.{rest}"))


_PREFIX = "events.out.tfevents."


def _torch() -> EventLibrary:
    protocol = "tensorboard.compat.proto"
    tensorboard = importlib.import_module("torch.utils.tensorboard")
    return EventLibrary(
        "torch",
        importlib.import_module(f"{protocol}.event_pb2").Event,
        importlib.import_module(f"{protocol}.summary_pb2").Summary,
        importlib.import_module("torch.utils.tensorboard.summary"),
        tensorboard.SummaryWriter,
        importlib.import_module("torch.utils.tensorboard._utils").figure_to_image,
    )


def _tensorboardx() -> EventLibrary:
    protocol = "tensorboardX.proto"
    return EventLibrary(
        "tensorboardX",
        importlib.import_module(f"{protocol}.event_pb2").Event,
        importlib.import_module(f"{protocol}.summary_pb2").Summary,
        importlib.import_module("tensorboardX.summary"),
        importlib.import_module("tensorboardX").SummaryWriter,
        importlib.import_module("tensorboardX.utils").figure_to_image,
    )


def _tensorboard() -> EventLibrary:
    protocol = "tensorboard.compat.proto"
    summaries = importlib.import_module("keepfast_writers._tensorboard_package")
    return EventLibrary(
        "tensorboard",
        importlib.import_module(f"{protocol}.event_pb2").Event,
        importlib.import_module(f"{protocol}.summary_pb2").Summary,
        summaries,
        summaries.SummaryWriter,
        summaries.figure_to_image,
    )


# Each library with the packages that must be there, in the order of preference.
_LIBRARIES: dict[str, tuple[tuple[str, ...], Callable[[], EventLibrary]]] = {
    "torch": (("torch", "tensorboard"), _torch),
    "tensorboardX": (("tensorboardX",), _tensorboardx),
    "tensorboard": (("tensorboard",), _tensorboard),
}

_INSTALL = (
    'pip install "keepfast[torch]", pip install "keepfast[jax]", pip install tensorboardX, or pip install tensorboard'
)


def event_library(name: str = "auto") -> EventLibrary:
    """Return the library of a name, or for "auto" the first that is installed.

    Raises:
        InvalidValue: if there is no such library.
        MissingDependency: if it, or for "auto" every one, is not installed; says what to run.
    """
    if name != "auto" and name not in _LIBRARIES:
        raise InvalidValue(f"`library` is {name!r}; allowed: auto, {', '.join(_LIBRARIES)}")
    for candidate in _LIBRARIES if name == "auto" else (name,):
        packages, load = _LIBRARIES[candidate]
        if all(importlib.util.find_spec(package) is not None for package in packages):
            return load()
    wanted = "a library for TensorBoard's event files" if name == "auto" else " and ".join(_LIBRARIES[name][0])
    raise MissingDependency(f"the `tensorboard` writer needs {wanted}, which is not installed; run: {_INSTALL}")
