"""Where the data of a fit is: which batches an epoch has had, and the draws that its order came from.

A loader draws its order when its epoch begins, and workers their seeds. So the generators are noted then, and a fit
that goes on in the middle of an epoch draws the same once more, takes as many batches as there were, and only then has
the generators of the moment that it goes on from.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, final

from keepfast.plugins.backends import in_use
from keepfast.runs.random_state import capture_random_state, restore_random_state

_NOT_RESUMABLE = "You're resuming from a checkpoint that ended before"
"""How Lightning's warning begins that a loader does not go on by itself, which it need not here."""


@final
class Position:
    """Stands in for four calls of one trainer's loops, between which its data is made and fetched.

    Args:
        trainer: the trainer.
        complete: called before a batch is fetched, and before an epoch's data is; all of the batch before is done then.
    """

    def __init__(self, trainer: Any, complete: Callable[[], None]) -> None:
        self._fit, self._epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
        self._trainer, self._complete = trainer, complete
        self._state: dict[str, Any] = {}
        self._go_on: dict[str, Any] | None = None
        self._validation = self._epoch.val_loop
        self._calls = (self._fit.setup_data, self._epoch.reset, self._epoch.on_run_start, self._validation.setup_data)

    def install(self) -> None:
        """Put the calls there."""
        self._fit.setup_data, self._epoch.reset = self._set_up, self._reset
        self._epoch.on_run_start, self._validation.setup_data = self._start_epoch, self._set_up_validation

    def remove(self) -> None:
        """Take them away."""
        for owner in (self._fit, self._epoch, self._validation):
            for name in ("setup_data", "reset", "on_run_start"):
                vars(owner).pop(name, None)

    def state_dict(self) -> dict[str, Any]:
        """Return the generators when the data was made, when this epoch's order was drawn, and at the last fetch ahead.

        At an epoch's start there are none of the last two.
        """
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned."""
        self._state = dict(state)

    def go_on(self) -> None:
        """Be told that the fit goes on, and has the generators now that it is to have where it does."""
        self._go_on = _random()

    def _set_up(self) -> None:
        self._make("made", self._calls[0], lambda: self._fit._data_fetcher)  # noqa: SLF001

    def _set_up_validation(self) -> None:
        self._make("validation made", self._calls[3], lambda: self._trainer.val_dataloaders)

    def _make(self, name: str, make: Callable[[], object], made: Callable[[], Any]) -> None:
        """Have loaders made, with the draws of the first time.

        Args:
            name: what the generators of that time are noted as.
            make: makes them, where they are to be made.
            made: returns them, or what is made with them.
        """
        before, there = _random(), made()
        if self._go_on is not None and name in self._state:
            _draw_from(self._state[name])
        now = _random()
        make()
        if made() is not there:
            self._state[name] = now
        if self._go_on is not None:
            _draw_from(before)

    def _reset(self) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_NOT_RESUMABLE)
            if self._go_on is not None and not self._is_under_way():
                self._fit.restarting = False  # another epoch begins, with batches from the first one on
            self._calls[1]()

    def _is_under_way(self) -> bool:
        epochs = self._fit.epoch_progress.current
        return bool(epochs.started > epochs.processed and "drawn" in self._state)

    def _start_epoch(self, fetcher: Any) -> None:
        """Begin the data of an epoch, or go on in the middle of one."""
        later, self._go_on = self._go_on, None
        if later is None:
            self._state.pop("drawn", None)
            self._state.pop("ahead", None)
            self._complete()
            before = _random()
            self._calls[2](fetcher)
        else:
            before = self._continue(fetcher, later)
        if "drawn" not in self._state:
            self._state["drawn"] = [before, _random()]
        fetcher._start_profiler = self._before_fetch(fetcher, fetcher._start_profiler)  # noqa: SLF001

    def _continue(self, fetcher: Any, later: Mapping[str, Any]) -> Any:
        """Have an epoch go on; return the generators as they are where it is one of which nothing was fetched."""
        batches = self._epoch.batch_progress.current.ready if self._is_under_way() else 0
        self._calls[2](fetcher)
        self._fit.restarting = False
        if self._is_under_way() and not self._goes_on_by_itself():
            made, first = self._state["drawn"]
            if self._trainer.current_epoch:
                _draw_from(made)
                iter(fetcher)
            _draw_from(first)
            fetcher.fetched = 0
            for batch in range(batches):
                if batch == batches - 1 and "ahead" in self._state:
                    _draw_from(self._state["ahead"])
                next(fetcher)
        _draw_from(later)
        if not self._is_under_way():
            iter(fetcher)
        return later

    def _goes_on_by_itself(self) -> bool:
        """Say whether the loaders keep their own place, which Lightning has restored then."""
        return bool(self._fit.state_dict()["state_dict"].get("combined_loader"))

    def _before_fetch(self, fetcher: Any, own: Callable[[], None]) -> Callable[[], None]:
        def before_fetch() -> None:
            self._complete()
            if fetcher.length is None:  # one batch is fetched ahead, with the draws of now
                self._state["ahead"] = _random()
            own()

        return before_fetch


def _random() -> dict[str, Any]:
    backends = [backend for name in ("torch",) if (backend := in_use(name)) is not None]
    return capture_random_state(backends)


def _draw_from(state: Mapping[str, Any]) -> None:
    backends = [backend for name in ("torch",) if (backend := in_use(name)) is not None]
    restore_random_state(state, backends)
