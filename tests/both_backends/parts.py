"""Parts of what is in a file, loaded by their paths, with and without a target."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from tests.both_backends.framework import Framework


class PartsSuite(Framework):
    """Loads parts of an agent's module."""

    path: str
    """That of the actor within the agent's module."""

    @abc.abstractmethod
    def agent(self, seed: int) -> Any:
        """Return a module that has an actor and a critic."""

    @abc.abstractmethod
    def actor(self, seed: int) -> Any:
        """Return an actor by itself."""

    @abc.abstractmethod
    def actor_of(self, agent: Any) -> Any:
        """Return the actor of an agent."""

    @abc.abstractmethod
    def values(self, actor: Any) -> Mapping[str, Any]:
        """Return the arrays of an actor, by path."""

    @pytest.mark.parametrize("alone", [False, True])
    @pytest.mark.parametrize("by_rename", [False, True])
    def test_an_actor_is_taken_out_of_an_agent(self, by_rename: bool, alone: bool, tmp_path: Path) -> None:
        """From a checkpoint of several modules, and from a file of the agent's module alone."""
        saved, other, file = self.agent(1), self.actor(2), tmp_path / f"agent{self.extension}"
        if alone:
            keepfast.save(saved, file)
        else:
            keepfast.Agent({"agent": saved, "other": self.actor(3)}).save(file)
        part = self.path if alone else f"agent.{self.path}"
        report = keepfast.load(other, file, **({"rename": {part: ""}} if by_rename else {"modules": [part]}))
        assert report
        own, theirs = self.values(other), self.values(self.actor_of(saved))
        assert {path: array.tolist() for path, array in own.items()} == {
            path: array.tolist() for path, array in theirs.items()
        }
        assert {entry.path for entry in report.entries} == set(own)

    def test_a_file_is_read_without_a_target(self, tmp_path: Path) -> None:
        """As NumPy arrays by module, with what is told beside them."""
        saved = self.actor(1)
        file = keepfast.Agent({"actor": saved}).save(tmp_path / f"agent{self.extension}")
        read = keepfast.read_checkpoint(file)
        found = keepfast.tree.flatten(read["actor"])
        assert {path: array.tolist() for path, array in found.items()} == {
            path: array.tolist() for path, array in self.values(saved).items()
        }
        assert all(isinstance(array, np.ndarray) for array in found.values())
        assert read.about.backend == self.backend
