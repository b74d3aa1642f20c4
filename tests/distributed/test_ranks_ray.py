"""Ray's sweeps and trainers have the results and checkpoints of experiments, and go on from them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast

pytestmark = [
    pytest.mark.needs("ray", "torch"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of files and sockets that it leaves to be collected
    pytest.mark.xdist_group("ray"),
]


@pytest.fixture(scope="module")
def ray(project: Path) -> Iterator[Any]:
    """Return Ray, on this machine alone, with two processors."""
    ray = pytest.importorskip("ray")
    parts = [str(project), *map(str, (project / "core", project / "backends" / "torch", project / "writers"))]
    paths = os.pathsep.join([*parts, os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short name: sockets lie in it
        runtime = {"env_vars": {"PYTHONPATH": paths, "RAY_AIR_NEW_OUTPUT": "0"}}
        ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, _temp_dir=folder, runtime_env=runtime)
        yield ray
        ray.shutdown()


def starts(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("start-*"))


def rewards(run: Path) -> dict[int, float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["scalars"]["Reward"] for line in lines}


def sweep(ray: Any, root: Path, function: Any, space: dict[str, Any], **settings: Any) -> list[Any]:
    from ray import tune

    scheduler = settings.pop("scheduler", None)
    tuner = tune.Tuner(
        function,
        param_space={"root": str(root), **space},
        tune_config=tune.TuneConfig(metric="Reward", mode="max", scheduler=scheduler),
        run_config=tune.RunConfig(
            storage_path=str(root / "ray"),
            name="sweep",
            failure_config=tune.FailureConfig(max_failures=1),
            verbose=0,
            **settings,
        ),
    )
    return list(tuner.fit())


def test_a_killed_trial_of_a_sweep_is_restored_exactly(ray: Any, tmp_path: Path) -> None:
    """It ends where one that was not killed ends, with one curve in its own run and its checkpoint in Ray's hands."""
    from tests.distributed.ranks_ray_programs import train

    space = {"lr": 1.0, "dies_at": ray_grid(None, 17)}
    results = sweep(ray, tmp_path, train, space)
    assert [result.error for result in results] == [None, None]
    whole, killed = sorted(results, key=lambda result: result.config["dies_at"] or 0)
    assert len([name for name in starts(tmp_path) if name.endswith("-10")]) == 1
    for result in results:
        assert result.metrics["timestep"] == 40
    assert killed.metrics["Reward"] == whole.metrics["Reward"]
    curves = [rewards(run) for run in (tmp_path / "own").iterdir()]
    assert curves[0] == curves[1]
    assert sorted(curves[0]) == list(range(5, 41, 5))
    stored = [keepfast.read_checkpoint(next(Path(result.checkpoint.path).glob("agent_40.*"))) for result in results]
    np.testing.assert_array_equal(stored[0]["policy"]["weight"], stored[1]["policy"]["weight"])


def ray_grid(*values: Any) -> Any:
    from ray import tune

    return tune.grid_search(list(values))


def test_population_based_training_takes_over_a_checkpoint(ray: Any, tmp_path: Path) -> None:
    """The worse trial goes on with the weights of the better one, at another rate, in its own run."""
    from ray import tune

    from tests.distributed.ranks_ray_programs import perturbed

    scheduler = tune.schedulers.PopulationBasedTraining(
        time_attr="timestep",
        perturbation_interval=10,
        hyperparam_mutations={"lr": [0.5, 2.0]},
        quantile_fraction=0.5,
        synch=True,
    )
    results = sweep(ray, tmp_path, perturbed, {"lr": ray_grid(0.001, 1.0)}, scheduler=scheduler)
    assert [result.error for result in results] == [None, None]
    worse = min(float(result.metrics["Reward"]) for result in results)
    assert worse > 5  # at its own rate it would have come to 0.04
    taken = [name.split("-") for name in starts(tmp_path) if not name.endswith(("-0-0-0.001", "-0-0-1"))]
    assert any(float(weight) >= 10 * 0.999 for _, _, _, weight, _ in taken)
    assert {max(rewards(run)) for run in (tmp_path / "own").iterdir()} == {40}


def test_the_page_runs(project: Path, tmp_path: Path) -> None:
    """A sweep of two trials, of which the better one is told, with its checkpoint."""
    page = (project / "docs" / "how-to" / "ray.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "sweep.py").write_text(code)
    command = [sys.executable, "-W", "ignore", "sweep.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("1.0 ")
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.parametrize("metrics", ["first", "mean"])
def test_workers_of_a_trainer_report_together(ray: Any, tmp_path: Path, metrics: str) -> None:
    """One of two is killed; Ray starts both again, and they go on from the checkpoint that the first reported."""
    from ray import train
    from ray.train.torch import TorchTrainer

    from tests.distributed.ranks_ray_programs import worker

    trainer = TorchTrainer(
        worker,
        train_loop_config={"root": str(tmp_path), "metrics": metrics, "dies_at": 27},
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=train.RunConfig(
            storage_path=str(tmp_path / "ray"), name="run", failure_config=train.FailureConfig(max_failures=1)
        ),
    )
    result = trainer.fit()
    assert starts(tmp_path) == ["start-0-0", "start-0-20", "start-1-0", "start-1-20"]
    assert result.metrics["timestep"] == 40
    expected = 0.5 if metrics == "mean" else 0.0
    assert rewards(tmp_path / "own" / "run") == dict.fromkeys(range(5, 41, 5), expected)
    stored = keepfast.read_checkpoint(next(Path(result.checkpoint.path).glob("agent_40.*")))
    assert set(stored) == {"net", "optimizer"}
