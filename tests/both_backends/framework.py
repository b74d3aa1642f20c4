"""What the suites of both backends ask of a framework."""

from __future__ import annotations

import abc
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from numpy.typing import NDArray


class Framework(abc.ABC):
    """A backend, seen from outside; a suite inherits it, and each backend inherits the suite."""

    backend: ClassVar[str]
    extension: ClassVar[str]
    """That of the backend's own checkpoints, with the dot."""

    @property
    @abc.abstractmethod
    def demo(self) -> ModuleType:
        """Return the module of the backend's demo, which needs Gymnasium."""

    @abc.abstractmethod
    def arrays(self, checkpoint: Path) -> dict[str, NDArray[Any]]:
        """Return what somebody who has the framework and not Keepfast reads of a file, by ``module.path``."""
