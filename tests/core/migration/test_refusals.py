"""A damaged or hostile file, in the layout of any library, is a clear error: no code is run, and nothing is loaded."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.formats.checkpoints.pt import PtStore
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.plugins.discovery import registry
from keepfast.plugins.formats import stores
from tests.both_backends import foreign

pytestmark = pytest.mark.needs("msgpack")


def save(content: Any, path: Path) -> None:
    PtStore().save(keepfast.Checkpoint(content), path)


def skrl_on_jax(path: Path) -> None:
    inner = path.with_suffix(".inner")
    stores()[".msgpack"].save(keepfast.Checkpoint(foreign.flax_mlp()), inner)
    path.write_bytes(pickle.dumps({"policy": inner.read_bytes(), "value": inner.read_bytes()}, 4))
    inner.unlink()


def flax_bytes(path: Path) -> None:
    statistics, policy, value = foreign.brax()
    stores()[".msgpack"].save(keepfast.Checkpoint({"0": statistics, "1": policy, "2": value}), path)


FILES: dict[str, Callable[[Path], Any]] = {
    "stable_baselines3": lambda path: foreign.stable_baselines3(save, path),
    "stable_baselines3 statistics": foreign.vec_normalize,
    "rl_games": lambda path: foreign.rl_games(save, path),
    "rsl_rl": lambda path: foreign.rsl_rl(save, path),
    "rsl_rl of version 3": lambda path: foreign.rsl_rl(save, path, 3),
    "skrl": lambda path: foreign.skrl(save, path),
    "skrl on JAX": skrl_on_jax,
    "tianshou": lambda path: foreign.tianshou(save, path),
    "torchrl": lambda path: foreign.torchrl(save, path),
    "brax": flax_bytes,
    "plain": lambda path: foreign.clean_rl(save, path),
    "plain as safetensors": lambda path: SafetensorsStore().save(keepfast.Checkpoint(foreign.flax_mlp()), path),
    "keepfast": lambda path: keepfast.save({"w": np.zeros((2, 2))}, path.with_suffix(".safetensors")).rename(path),
}


def unmoved(path: Path) -> None:
    """Migrate a file that is no checkpoint; it is a clear error that names it, and the module is as before."""
    module = {"0.weight": np.full((16, 4), 7.0), "0.bias": np.full(16, 7.0)}
    with pytest.raises(keepfast.KeepfastError, match=path.name):
        keepfast.migrate(module, path)
    assert all(np.all(array == 7) for array in module.values())


class Hostile:
    """Writes a file when it is unpickled."""

    victim: Path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.victim, "code of a file was run")


def test_every_reader_is_in_the_table() -> None:
    """A library whose files are not tried would be a claim."""
    built_in = {each.name for each in registry().provided("checkpoint reader") if each.distribution == "keepfast"}
    assert {name.split(" ")[0] for name in FILES} == built_in


@pytest.mark.parametrize("library", FILES)
def test_a_truncated_file_is_a_clear_error(library: str, tmp_path: Path) -> None:
    """Wherever it is cut off."""
    FILES[library](path := tmp_path / "checkpoint")
    content = path.read_bytes()
    for share in (0.01, 0.3, 0.6, 0.9, 0.999):
        path.write_bytes(content[: int(len(content) * share)])
        unmoved(path)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    "library", [name for name in FILES if "safetensors" not in name and name not in ("brax", "keepfast")]
)
def test_a_hostile_pickle_runs_nothing(library: str, protocol: int, tmp_path: Path) -> None:
    """In the place of the library's own, whatever of the file is a pickle."""
    Hostile.victim = tmp_path / "victim"
    FILES[library](path := tmp_path / "checkpoint")
    attack = pickle.dumps({"model": Hostile(), "policy": Hostile(), "0.weight": Hostile()}, protocol)
    path.write_bytes(_with(path.read_bytes(), attack))
    unmoved(path)
    assert not Hostile.victim.exists()


def _with(content: bytes, attack: bytes) -> bytes:
    """Return an archive with the attack in the place of each pickle, also within an inner one; or the attack alone."""
    if not content.startswith(b"PK"):
        return attack
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            inner = old.read(name)
            is_pickled = name.endswith(".pkl")
            new.writestr(name, attack if is_pickled else _with(inner, attack) if inner.startswith(b"PK") else inner)
    return made.getvalue()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4 cut off", b"\x80\4.", b"\0" * 64, bytes(range(200)), b"{}"])
def test_a_file_that_nobody_knows_is_a_clear_error(content: bytes, tmp_path: Path) -> None:
    """It says which readers there are."""
    (tmp_path / "checkpoint").write_bytes(content)
    unmoved(tmp_path / "checkpoint")
