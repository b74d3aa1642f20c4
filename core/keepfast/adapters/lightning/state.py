"""What a fit of Lightning goes on from beside its modules: loops, callbacks, and where its data is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

from keepfast.adapters.environments import captured, restored
from keepfast.adapters.lightning.data import Position
from keepfast.plain.state import Kept


@final
class TrainerState(Kept):
    """The loops of a trainer, its callbacks and precision, what its module and data module add, and the data's place.

    Args:
        trainer: the trainer, in a fit.
        position: where its data is.
    """

    def __init__(self, trainer: Any, position: Position) -> None:
        self._trainer, self._position = trainer, position

    def state_dict(self) -> dict[str, Any]:
        """Return what it is now."""
        trainer, own = self._trainer, dict[str, Any]()
        trainer.lightning_module.on_save_checkpoint(own)
        states = {
            "loops": trainer.fit_loop.state_dict(),
            "callbacks": {key: state for key, each in _callbacks(trainer).items() if (state := each.state_dict())},
            "precision": trainer.precision_plugin.state_dict(),
            "module": own,
            "data module": {} if trainer.datamodule is None else trainer.datamodule.state_dict(),
            "position": self._position.state_dict(),
        }
        return {name: captured(state) for name, state in states.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it into the trainer, before its loops begin."""
        trainer = self._trainer
        found = {name: restored(None, each) for name, each in state.items()}
        trainer.fit_loop.load_state_dict(found["loops"])
        for key, callback in _callbacks(trainer).items():
            if key in found["callbacks"]:
                callback.load_state_dict(found["callbacks"][key])
        others: list[tuple[str, Callable[[Any], object]]] = [
            ("precision", trainer.precision_plugin.load_state_dict),
            ("module", trainer.lightning_module.on_load_checkpoint),
            ("position", self._position.load_state_dict),
        ]
        if trainer.datamodule is not None:
            others.append(("data module", trainer.datamodule.load_state_dict))
        for name, load in others:
            if found[name]:
                load(found[name])


def _callbacks(trainer: Any) -> dict[str, Any]:
    return {callback.state_key: callback for callback in trainer.callbacks}
