"""To the Hub: a run or a checkpoint, with its configuration, its results and a card."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keepfast._system.arguments.guarding import guarded
from keepfast._system.disk.directories import make_directory
from keepfast._system.disk.special import is_plain_file
from keepfast.checkpoints.index import CHECKPOINTS
from keepfast.errors import InvalidValue, NotFound, as_given
from keepfast.hub.card import Facts, card, curve, evaluation
from keepfast.hub.failures import endpoint, told
from keepfast.interfaces.summary.checks import mapping, string
from keepfast.metrics.frames import Series
from keepfast.metrics.reading import has_metrics, read_metrics
from keepfast.plugins.formats import format_of, is_checkpoint, read_checkpoint
from keepfast.plugins.locations import located
from keepfast.provenance.starts import for_strangers
from keepfast.runs.reading import is_run, read_run

_REWARD = "Reward / Total reward (mean)"
_LAST = 10
"""Over how many of the last written intervals the score is taken, where none is given."""

_ENVIRONMENTS = ("environment", "env", "env_id", "env_name", "task")


@guarded
def push(
    run_or_checkpoint: str | Path,
    repo_id: str,
    *,
    environment: str = "",
    results: Mapping[str, Any] | None = None,
    private: bool | None = None,
    revision: str | None = None,
    message: str | None = None,
    token: str | None = None,
) -> str:
    """Push a run's best checkpoint, or its latest, with its configuration, results, metrics and a card.

    Args:
        run_or_checkpoint: a run's directory, or one checkpoint.
        repo_id: the repository, ``"organisation/name"``; made if it is not there.
        environment: where it was trained; what the configuration tells if "".
        results: what an evaluation gave: ``mean_reward``, ``std_reward``, ``episodes``; of the last written intervals
            of the training if None.
        private: whether a repository that is made is private.
        revision: the branch; the main one if None.
        message: the commit's message.
        token: a token with write access; that of the machine if None.

    Returns:
        The address of the commit.

    Raises:
        NotFound: if there is no such run or checkpoint, or the run has none.
        HubError: if the Hub refuses or cannot be reached.
        MissingDependency: if huggingface_hub is not installed; says what to run.
    """
    with told(repo_id, "", revision), tempfile.TemporaryDirectory(prefix="keepfast") as folder:
        fill(Path(folder), run_or_checkpoint, repo_id, environment, results)
        import huggingface_hub

        api = huggingface_hub.HfApi(endpoint=endpoint(), token=token, library_name="keepfast")
        api.create_repo(repo_id, private=private, exist_ok=True)
        made = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=message or "Push with Keepfast",
        )
        return str(made.commit_url)


def fill(
    folder: Path,
    run_or_checkpoint: str | Path,
    repo_id: str,
    environment: str = "",
    results: Mapping[str, Any] | None = None,
) -> Facts:
    """Put into a folder what is pushed, and return what its card tells.

    Raises:
        NotFound: if there is no such run or checkpoint, or the run has none.
        InvalidValue: if what is given is none.
    """
    path = located(run_or_checkpoint)
    environment = string(environment, "environment")
    results = None if results is None else _storable(mapping(results, "results"))
    if not path.exists():
        raise NotFound(f"there is no run or checkpoint at `{path}`")
    checkpoint = path if is_checkpoint(path) and not is_run(path) else _best_of(path)
    if checkpoint.is_dir():
        raise InvalidValue(f"`{checkpoint}` is a directory; convert it into a file first: `keepfast convert`")
    run = next((each for each in (path, *path.absolute().parents[:2]) if each.is_dir() and is_run(each)), None)
    read, name = read_checkpoint(checkpoint), f"agent{checkpoint.suffix}"
    about = read.about
    if read.segments:  # whose rows lie in other files
        format_of("checkpoint format", folder / name).save(read, folder / name)
    else:
        shutil.copyfile(checkpoint, folder / name)
    metrics = read_metrics(run) if run is not None and has_metrics(run) else {}
    document = _document(run)
    told_results = {"timestep": about.timestep, "time": about.time, "checkpoint": name}
    told_results |= results if results is not None else _results(metrics)
    modules = tuple(about.modules or ((about.module,) if about.module else ()))
    agent = str(document.get("agent") or "agent")
    facts = Facts(
        repo_id, name, about.backend or "torch", modules, agent, environment or _environment(document), told_results
    )
    _write(folder, facts, metrics, document)
    return facts


def _storable(results: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = {name: value.item() if getattr(value, "ndim", None) == 0 else value for name, value in results.items()}
        json.dumps(found)
    except Exception as error:
        raise InvalidValue(f"`results` is {as_given(results)}, which JSON cannot hold: {error}") from error
    for name in ("mean_reward", "std_reward"):
        if not isinstance(found.get(name), int | float | None):
            raise InvalidValue(f"`{name}` is {as_given(found[name])}; allowed: a number, or None")
    return found


def _best_of(run: Path) -> Path:
    checkpoints = read_run(run).checkpoints
    if not checkpoints:
        raise NotFound(f"the run at `{run}` has no checkpoint; push one once it has, or give the path of a checkpoint")
    best = [each for each in checkpoints if each.best] or checkpoints
    files = sorted(best[-1].names)
    if len(files) != 1:
        raise InvalidValue(f"the checkpoint of `{run}` is {len(files)} files, {', '.join(files)}; give the path of one")
    return run / CHECKPOINTS / files[0]


def _document(run: Path | None) -> dict[str, Any]:
    if run is None or not is_plain_file(run / "config.json"):
        return {}
    try:
        found = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return for_strangers(found) if isinstance(found, dict) else {}


def _environment(document: Mapping[str, Any]) -> str:
    config = document.get("config")
    levels = [document, config if isinstance(config, Mapping) else {}]
    levels += [level["trainer"] for level in levels if isinstance(level.get("trainer"), Mapping)]
    found = (level[key] for level in levels for key in _ENVIRONMENTS if isinstance(level.get(key), str))
    return next(found, "")


def _results(metrics: Mapping[str, Series]) -> dict[str, Any]:
    if _REWARD not in metrics:
        return {"mean_reward": None, "std_reward": None, "episodes": None}
    last = metrics[_REWARD].values[-_LAST:]
    return {
        "mean_reward": float(np.mean(last)),
        "std_reward": float(np.std(last)),
        "episodes": None,
        "of": f"the last {len(last)} written intervals of the training",
    }


def _write(folder: Path, facts: Facts, metrics: Mapping[str, Series], document: Mapping[str, Any]) -> None:
    summary = {
        tag: {"step": int(series.steps[-1]), "last": float(series.values[-1]), "mean": float(np.mean(series.values))}
        for tag, series in metrics.items()
        if len(series.values)
    }
    texts = {
        "config.json": json.dumps(document, indent=2),
        "results.json": json.dumps(dict(facts.results), indent=2),
        "metrics.json": json.dumps(summary, indent=2),
        "README.md": card(facts, curve=_REWARD in metrics),
    }
    if facts.results.get("mean_reward") is not None:
        texts[".eval_results/keepfast.yaml"] = evaluation(facts)
    if _REWARD in metrics:
        texts["curve.svg"] = curve(metrics[_REWARD], _REWARD)
    for name, text in texts.items():
        make_directory((folder / name).parent)
        (folder / name).write_text(text, encoding="utf-8")
