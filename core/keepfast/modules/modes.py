"""Whether an agent trains or is evaluated, and its models with it, in the calls that trainers have for it."""

from __future__ import annotations

import abc
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from keepfast._system.arguments.checks import truth
from keepfast._system.arguments.guarding import guarded_calls
from keepfast.errors import InvalidValue, as_given
from keepfast.interfaces.loading.report import LoadReport
from keepfast.modules.registered import RegisteredModule


@guarded_calls()
class Modes(abc.ABC):
    """The calls by which trainers tell an agent its mode.

    Attributes:
        models: the agent's models by role.
        training: whether the agent trains or is evaluated.
    """

    models: dict[str, Any]
    training: bool

    def set_running_mode(self, mode: str) -> None:
        """Set whether the agent trains (``"train"``) or is evaluated (``"eval"``), as trainers tell it.

        Raises:
            InvalidValue: if the mode is neither.
        """
        self.training = _is_training(mode)

    def set_mode(self, mode: str) -> None:
        """Set the mode of the models that have one: ``"train"`` or ``"eval"``.

        Raises:
            InvalidValue: if the mode is neither.
        """
        self.enable_models_training_mode(_is_training(mode))

    def enable_training_mode(self, enabled: bool = True, *, apply_to_models: bool = False) -> None:
        """Set whether the agent trains, and on request the mode of its models.

        Raises:
            InvalidValue: if `enabled` is neither true nor false.
        """
        enabled = _checked(enabled)
        reach = truth("apply_to_models", apply_to_models)
        self.training = enabled
        if reach:
            self.enable_models_training_mode(enabled)

    def enable_models_training_mode(self, enabled: bool = True) -> None:
        """Set the mode of the models that have one.

        Raises:
            InvalidValue: if `enabled` is neither true nor false.
        """
        enabled = _checked(enabled)
        for model in self.models.values():
            change = getattr(model, "train", None) if enabled else getattr(model, "eval", None)
            if callable(tell := getattr(model, "set_mode", None)):
                tell("train" if enabled else "eval")
            elif callable(change):
                change()

    def _empty_preprocessor(self, _input: Any, *_args: Any, **_kwargs: Any) -> Any:
        """Return what it is given; what agents of skrl have in the place of a preprocessor that is switched off."""
        return _input


def evaluate_loaded(modules: Iterable[RegisteredModule], report: LoadReport) -> None:
    """Set the networks that a load reached to evaluation."""
    for module in modules:
        evaluate = getattr(module.value, "eval", None) if getattr(module.value, "training", False) else None
        if callable(evaluate) and any(entry.startswith(f"{module.name}.") for entry in report.loaded):
            evaluate()


def gives_arrays_of_jax() -> bool:
    """Say whether agents of skrl 1.4 on JAX are given arrays of JAX, and not of NumPy, as its configuration says."""
    configured = getattr(getattr(sys.modules.get("skrl"), "config", None), "jax", None)
    return bool(getattr(configured, "backend", "jax") == "jax")


def _is_training(mode: str) -> bool:
    if not isinstance(mode, str) or mode not in ("train", "eval"):
        raise InvalidValue(f'`mode` is {as_given(mode)}; allowed: "train" or "eval"')
    return mode == "train"


def _checked(enabled: bool) -> bool:
    if not isinstance(enabled, bool | np.bool):
        raise InvalidValue(f"`enabled` is {as_given(enabled)}; allowed: True or False")
    return bool(enabled)
