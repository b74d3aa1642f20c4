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

    LINES = "x.0,x.1,n,done\n" + "".join(f"{k / 10},{k},{k},{k % 2 == 0}\n" for k in range(6))
    """As skrl and others write a csv: a line for each sample, row by row and then environment by environment."""

    @pytest.mark.needs("polars")
    @pytest.mark.parametrize("sizes", [(3, 2), (6, 1), (5, 2), (4, 4), (100, 1)])
    def test_a_csv_of_another_tool_takes_what_the_memory_has_for_it(
        self, make: Callable[..., keepfast.Memory], tmp_path: Path, sizes: tuple[int, int]
    ) -> None:
        """It tells neither dtypes nor environments: both are the memory's."""
        (tmp_path / "x.csv").write_text(self.LINES)
        memory = make(*sizes)
        for name, size, dtype in (("x", 2, "float32"), ("n", 1, "float32"), ("done", 1, "int8")):
            memory.create_tensor(name, size, dtype)
        report = memory.load(tmp_path / "x.csv")
        assert sorted(report.cast) == ["memory.done", "memory.n", "memory.x"]
        snapshot = memory.snapshot()
        found = {name: tensor.reshape(-1, tensor.shape[-1])[:6] for name, tensor in snapshot.tensors.items()}
        np.testing.assert_array_equal(found["x"], np.array([[k / 10, k] for k in range(6)], np.float32))
        assert (found["n"].dtype, found["n"].ravel().tolist()) == (np.float32, [0, 1, 2, 3, 4, 5])
        assert (found["done"].dtype, found["done"].ravel().tolist()) == (np.int8, [1, 0, 1, 0, 1, 0])
        assert len(snapshot) == 6
        is_full = sizes[0] * sizes[1] == 6
        assert snapshot.ring.position == ((0, 0, True) if is_full else (*divmod(6, sizes[1]), False))

    @pytest.mark.needs("polars")
    @pytest.mark.parametrize(
        ("dtype", "column"), [("int32", "0.5"), ("uint8", "300"), ("bool", "2"), ("float16", "1e9")]
    )
    def test_no_number_of_a_csv_becomes_another_one(
        self, make: Callable[..., keepfast.Memory], tmp_path: Path, dtype: str, column: str
    ) -> None:
        """A float is rounded; else what the memory's dtype does not have is told."""
        (tmp_path / "x.csv").write_text(f"x\n{column}\n")
        memory = make(1, 1)
        memory.create_tensor("x", 1, dtype)
        with pytest.raises(keepfast.LoadMismatch, match=f"`x` has the dtype .* in the file and {dtype} in the memory"):
            memory.load(tmp_path / "x.csv")

    @pytest.mark.needs("polars")
    def test_more_lines_than_fit_are_told(self, make: Callable[..., keepfast.Memory], tmp_path: Path) -> None:
        """Until `fit` says which of them stay, of each environment its own."""
        (tmp_path / "x.csv").write_text("x\n" + "".join(f"{k}\n" for k in range(6)))
        memory = make(2, 2)
        with pytest.raises(keepfast.LoadMismatch, match=r"= \(2, 2\), and the file has \(3, 2\)"):
            memory.load(tmp_path / "x.csv")
        memory.load(tmp_path / "x.csv", fit="newest")
        assert self.values(memory) == [[2, 3], [4, 5]]
