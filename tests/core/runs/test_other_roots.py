"""A file that holds no modules is no checkpoint, whatever its name, and can be read as what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.formats.checkpoints.pt import PtStore
from keepfast.interfaces.checkpoint_store import Checkpoint

ROOTS: dict[str, Any] = {
    "list": [np.ones(2)],
    "array": np.ones(2),
    "scalar": np.float32(3),
    "seven": 7,
    "text": "policy",
    "nothing": None,
    "truth": True,
    "tuple": (np.ones(1), 3),
    "numbered": {0: np.ones(2)},
    "pairs": {(1, 2): np.ones(2)},
    "settings": {"lr": 0.1, "name": "x"},
    "weights": {"weights": np.ones(2)},
    "empty": {},
    "of_lists": {"policy": [np.ones(2)]},
}
NAMES = ["agent_20.pt", "best_agent.pt"]


def _run(tmp_path: Path, root: Any, name: str) -> Path:
    path = tmp_path / "run" / "checkpoints" / name
    path.parent.mkdir(parents=True)
    PtStore().save(Checkpoint(root, {}), path)
    return path


def _experiment(tmp_path: Path, name: str = "run") -> keepfast.Experiment:
    settings = {"directory": str(tmp_path), "experiment_name": name, "writers": [], "best_metric": "Reward / x"}
    experiment = keepfast.Experiment(settings, timesteps=20)
    experiment.register(policy={"weight": np.zeros(2)})
    return experiment


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("root", ROOTS)
def test_a_resume_passes_over_what_holds_no_modules(tmp_path, root, name):
    """The run starts anew with a warning that names the file, as if it were not there."""
    _run(tmp_path, ROOTS[root], name)
    with _experiment(tmp_path) as experiment:
        which = "best" if name.startswith("best") else "latest"
        with pytest.warns(keepfast.KeepfastWarning, match=f"{name}` is no checkpoint"):
            assert experiment.resume(which) == 0


@pytest.mark.parametrize("root", ROOTS)
def test_a_resume_goes_on_with_the_checkpoint_beside_what_holds_no_modules(tmp_path, root):
    """An older checkpoint is taken where the newer file is none."""
    with _experiment(tmp_path) as experiment:
        for timestep in range(10):
            experiment.step(timestep)
    PtStore().save(Checkpoint(ROOTS[root], {}), tmp_path / "run" / "checkpoints" / "agent_20.pt")
    with (
        _experiment(tmp_path) as experiment,
        pytest.warns(keepfast.KeepfastWarning, match="agent_20.pt` is no checkpoint"),
    ):
        assert experiment.resume() == 10


@pytest.mark.parametrize("root", ROOTS)
def test_nothing_foreign_is_raised_for_a_path_that_holds_no_modules(tmp_path, root):
    """A path is asked for by name, so that a resume, a load and a part say that nothing in it fits."""
    path = _run(tmp_path, ROOTS[root], "agent_20.pt")
    agent = keepfast.Agent(cfg={"experiment": {"directory": str(tmp_path), "experiment_name": "a", "writers": []}})
    agent.checkpoint_modules["policy"] = {"weight": np.zeros(2)}
    agent.init(trainer_cfg={"timesteps": 10})
    for call in (agent.resume, agent.load):
        for given in (path, path.parent.parent):
            with pytest.raises(keepfast.KeepfastError):
                call(given)
        with pytest.raises(keepfast.KeepfastError):
            call(path, modules=["policy"])
    agent.close()
    with pytest.raises(keepfast.KeepfastError):
        keepfast.load({"weight": np.zeros(2)}, path, modules=["absent"])


@pytest.mark.parametrize("root", [name for name, root in ROOTS.items() if isinstance(root, list | dict | np.ndarray)])
def test_what_holds_no_modules_is_loaded_as_what_it_is(tmp_path, root):
    """`load` takes it into a tree like it, and `read_checkpoint` gives it."""
    path = _run(tmp_path, ROOTS[root], "agent_20.pt")
    content = keepfast.read_checkpoint(path)
    np.testing.assert_equal(content.get("module", dict(content)), ROOTS[root])
    assert not keepfast.load(ROOTS[root], path).differences
