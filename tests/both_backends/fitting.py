"""A registered memory of other sizes than the checkpoint's: refused with the way out, or fitted."""

from __future__ import annotations

import abc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast

DIFFERENT = 'refused: .* it has .* = {own}, and the file has {found}; `fit="newest"` or `fit="oldest"` keeps what fits'


class FitSuite(abc.ABC):
    """What `load` and `resume` make of a memory with another number of rows or environments."""

    @pytest.fixture
    @abc.abstractmethod
    def make(self) -> Callable[..., keepfast.Memory]:
        """Return the class of the memory."""

    @pytest.fixture
    def saved(self, make: Callable[..., keepfast.Memory], tmp_path: Path) -> Path:
        """Return the directory of a run with a checkpoint of timestep 1, whose memory has 4 rows, 2 of them full."""
        agent = self.agent(tmp_path, self.filled(make(4, 2), 2))
        agent.post_interaction(0, 9)
        agent.close()
        return tmp_path / "run"

    def filled(self, memory: keepfast.Memory, rows: int) -> keepfast.Memory:
        memory.create_tensor("x", 1)
        for row in range(rows):
            memory.add_samples(x=row * 10.0 + np.arange(memory.num_envs)[:, None])
        return memory

    def agent(self, directory: Path, memory: keepfast.Memory) -> keepfast.Agent:
        experiment = {"directory": str(directory), "experiment_name": "run", "writers": [], "checkpoint_interval": 1}
        agent = keepfast.Agent(cfg={"experiment": experiment})
        agent.checkpoint_modules["memory"] = memory
        agent.init({"timesteps": 9})
        return agent

    def values(self, memory: keepfast.Memory) -> Any:
        return memory.snapshot().tensors["x"][..., 0].tolist()

    @pytest.mark.parametrize("sizes", [(4, 3), (2, 2), (8, 2), (4, 1)])
    def test_other_sizes_are_refused_with_the_way_out(
        self, make: Callable[..., keepfast.Memory], saved: Path, sizes: tuple[int, int]
    ) -> None:
        """`load` and `resume` name the memory, both sizes and `fit`, and change nothing."""
        memory = self.filled(make(*sizes), 1)
        before = self.values(memory)
        agent = self.agent(saved.parent, memory)
        checkpoint = next(saved.glob("checkpoints/agent_1.*"))
        told = DIFFERENT.format(own=r"\({}, {}\)".format(*sizes), found=r"\(4, 2\)")
        for call in (agent.resume, lambda: agent.load(checkpoint)):
            with pytest.raises(keepfast.LoadMismatch, match=f"memory: {told}"):
                call()
        with pytest.raises(keepfast.LoadMismatch, match=told):
            keepfast.load(memory, checkpoint, modules=["memory"])
        assert self.values(memory) == before
        agent.close()

    @pytest.mark.parametrize(("fit", "values"), [("newest", [[10.0, 11.0]]), ("oldest", [[0.0, 1.0]])])
    def test_what_fits_is_kept_where_that_is_asked_for(
        self, make: Callable[..., keepfast.Memory], saved: Path, fit: Any, values: Any
    ) -> None:
        """With `fit`, every way to load takes the newest or the oldest samples, and goes on from there."""
        for way in ("resume", "load", "keepfast.load"):
            memory = self.filled(make(1, 2), 0)
            agent = self.agent(saved.parent, memory)
            checkpoint = next(saved.glob("checkpoints/agent_1.*"))
            if way == "resume":
                assert agent.resume(fit=fit) == 1
            elif way == "load":
                assert agent.load(checkpoint, fit=fit)
            else:
                assert keepfast.load(memory, checkpoint, modules=["memory"], fit=fit)
            assert self.values(memory) == values
            memory.add_samples(x=np.full((2, 1), 7.0))
            assert self.values(memory) == [[7.0, 7.0]]
            agent.close()

    def test_samples_of_more_environments_are_laid_out_anew(
        self, make: Callable[..., keepfast.Memory], saved: Path
    ) -> None:
        """What belongs to one environment stays together, as `Memory.load` has it."""
        memory = make(4, 1)
        agent = self.agent(saved.parent, memory)
        agent.resume(fit="newest")
        agent.close()
        assert self.values(memory) == [[0.0], [10.0], [1.0], [11.0]]

    def test_a_fit_that_is_none_is_refused(self, make: Callable[..., keepfast.Memory], saved: Path) -> None:
        """Whatever is loaded."""
        agent = self.agent(saved.parent, self.filled(make(4, 2), 0))
        for call in (agent.resume, lambda fit: agent.load(next(saved.glob("checkpoints/agent_1.*")), fit=fit)):
            with pytest.raises(keepfast.InvalidValue, match="`fit` is 'both'; allowed: error, newest, oldest"):
                call(fit="both")
        agent.close()
