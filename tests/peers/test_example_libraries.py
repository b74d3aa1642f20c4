"""The examples of libraries that are not attached by a line: killed and started again, each ends as it would have."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfast.testing.checkpoint_store import assert_same
from tests.peers.killing import finished, killed_at_its_first_checkpoint, last_checkpoint, metrics, without_times

EXAMPLES = {
    "CleanRL-style": ("torch", "cleanrl_ppo", "losses/policy_loss"),
    "tianshou": ("tianshou", "tianshou_ppo", "loss"),
    "torchrl": ("torchrl", "torchrl_ppo", "train/loss_objective"),
    "rejax": ("rejax", "rejax_ppo", "eval/return"),
    "brax": ("brax", "brax_ppo", "eval/episode_reward"),
}
"""By the name of a library: its package, its example, and a tag that it tracks."""

INEXACT = {"brax": "goes on with its networks"}
"""Those that hand over too little for a resume to be exact, as their pages say, and what becomes of them."""

AVERAGED = {"tianshou": "loss"}
"""By the name of a library: how tags begin that are moving averages of its own, which begin anew, as its page says."""

BEFORE = {
    "brax": """
import jax
jax.device_put_replicated = lambda tree, devices: jax.tree.map(
    lambda leaf: jax.numpy.stack([jax.numpy.asarray(leaf)] * len(devices)), tree
)
"""
}
"""By the name of a library: what it calls, and the newest JAX has no more."""

MOST_LINES = 120


def program(project: Path, name: str) -> str:
    if importlib.util.find_spec(EXAMPLES[name][0]) is None:
        pytest.skip(f"{EXAMPLES[name][0]} is not installed")
    return (project / "examples" / "libraries" / f"{EXAMPLES[name][1]}.py").read_text("utf-8")


def prepared(source: str, name: str) -> str:
    """Return a program that finds what its library calls."""
    first, future, rest = source.partition("from __future__ import annotations\n")
    return first + future + BEFORE.get(name, "") + rest


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_that_is_killed_and_started_again_ends_as_if_it_had_not_been(
    name: str, project: Path, tmp_path: Path, tabled: Any
) -> None:
    """SIGKILL at the first checkpoint; the last one, and all metrics, are bit for bit those of an uninterrupted run."""
    source = prepared(program(project, name), name)
    finished(source, tmp_path / "through")
    killed_at_its_first_checkpoint(source, tmp_path / "killed")
    finished(source, tmp_path / "killed")
    through, killed = last_checkpoint(tmp_path / "through"), last_checkpoint(tmp_path / "killed")
    expected, found = metrics(tmp_path / "through"), metrics(tmp_path / "killed")
    assert through.keys() == killed.keys()
    assert EXAMPLES[name][2] in expected
    assert expected.keys() == found.keys()
    lines = sum(word in line for line in source.splitlines() for word in ("keepfast.", "experiment."))
    told = {"version": metadata.version(EXAMPLES[name][0]), "lines": f"{lines} (example)"}
    tabled("libraries beside skrl", name, {**told, "killed and resumed": INEXACT.get(name, "bit for bit")})
    if name in INEXACT:
        steps = [list(each[EXAMPLES[name][2]][0]) for each in (found, expected)]
        assert (steps[0][0], steps[0][-1]) == (steps[1][0], steps[1][-1])
        assert steps[0] == sorted(set(steps[0]))
        return
    for part in through.keys() - {"env"}:  # in which vector environments have generators that the machine seeds
        assert_same(without_times(killed[part]), without_times(through[part]), part)
    for tag in [each for each in expected if not each.startswith(AVERAGED.get(name, "(none)"))]:
        for ours, theirs in zip(found[tag], expected[tag], strict=True):
            np.testing.assert_array_equal(ours, theirs, tag)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short(name: str, project: Path) -> None:
    """It is a file that is read at one go."""
    assert len(program(project, name).splitlines()) < MOST_LINES
