"""Nobody looks for garbage while many objects are made, and whoever did before does again."""

from __future__ import annotations

import contextlib
import gc
import pickle
from pathlib import Path

import pytest

from keepfast._system.memory.garbage import unsearched
from keepfast.errors import CorruptCheckpoint
from keepfast.formats.checkpoints.pt import PtStore
from tests.hostile.making import archive


@pytest.fixture(autouse=True)
def enabled() -> None:
    """The collector is on, as it is when Python starts."""
    gc.enable()


@pytest.mark.parametrize("was", [True, False])
def test_the_collector_is_as_it_was(was: bool) -> None:
    """Off meanwhile, and then on only where it was, also after an error."""
    if not was:
        gc.disable()
    try:
        with contextlib.suppress(KeyError), unsearched():
            found = gc.isenabled()
            raise KeyError
        assert (found, gc.isenabled()) == (False, was)
    finally:
        gc.enable()


def test_no_garbage_is_looked_for_while_a_file_of_torch_is_read(tmp_path: Path) -> None:
    """However many entries it has; and afterwards it is, whether the file was read or refused."""
    whole = archive(tmp_path / "whole.pt", pickle.dumps([[index] for index in range(100_000)], 2))
    before = gc.get_stats()[0]["collections"]
    assert len(PtStore().read(whole).state) == 100_000
    assert gc.get_stats()[0]["collections"] - before < 10  # each thousand lists, as Python has it
    with pytest.raises(CorruptCheckpoint):
        PtStore().read(archive(tmp_path / "torn.pt", b"\x80\x02}"))
    assert gc.isenabled()
