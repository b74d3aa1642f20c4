"""The modes of networks: in that of training some of their layers do other than in that of evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from keepfast.errors import InvalidValue, as_given
from keepfast.interfaces.loading.report import LoadReport
from keepfast.modules.registered import RegisteredModule


def is_training(mode: str) -> bool:
    """Say whether a mode as trainers name it is that of training.

    Raises:
        InvalidValue: if it is neither ``"train"`` nor ``"eval"``.
    """
    if not isinstance(mode, str) or mode not in ("train", "eval"):
        raise InvalidValue(f'`mode` is {as_given(mode)}; allowed: "train" or "eval"')
    return mode == "train"


def checked_enabled(enabled: bool) -> bool:
    """Return whether a mode is switched on.

    Raises:
        InvalidValue: if it is neither true nor false.
    """
    if not isinstance(enabled, bool | np.bool):
        raise InvalidValue(f"`enabled` is {as_given(enabled)}; allowed: True or False")
    return bool(enabled)


def set_modes(models: Iterable[Any], *, training: bool) -> None:
    """Set the mode of those models that have one."""
    for model in models:
        change = getattr(model, "train", None) if training else getattr(model, "eval", None)
        if callable(tell := getattr(model, "set_mode", None)):
            tell("train" if training else "eval")
        elif callable(change):
            change()


def evaluate_loaded(modules: Iterable[RegisteredModule], report: LoadReport) -> None:
    """Set the networks that a load reached to evaluation."""
    for module in modules:
        evaluate = getattr(module.value, "eval", None) if getattr(module.value, "training", False) else None
        if callable(evaluate) and any(entry.startswith(f"{module.name}.") for entry in report.loaded):
            evaluate()
