"""Files that mean harm are refused by the readers of other libraries too, within limits of memory and time."""

from __future__ import annotations

import json
import os
import pickle
import sys
import zipfile
from pathlib import Path

import pytest

from keepfast.migration.files.opening import kind_of
from tests.hostile import read_all, refused
from tests.hostile.attacks import ATTACKS
from tests.hostile.making import archive, tensor, text

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's"),
    pytest.mark.needs("msgpack"),
]

NORMALISER = b"\x80\x02cstable_baselines3.common.vec_env.vec_normalize\nVecNormalize\n)\x81}"


def in_normaliser(attack: bytes, name: str) -> bytes:
    """Return the pickle of a VecNormalize with an attack in the place of an attribute."""
    return NORMALISER + text(name) + attack.removesuffix(b".") + b"sb."


def archived(path: Path, policy: bytes, kind: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive of stable-baselines3, with a member that is to be its policy."""
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("data", json.dumps({}))
        file.writestr("policy.pth", policy)
    return path


CALLS = {name for name, attack in ATTACKS.items() if b"c" in attack[:1] or "often" in name or "counter" in name}
"""Attacks by what a function is given, which do nothing where nothing is called."""

PAIRS = ("doubled value", "deep value", "deep lists", "deep key", "array often")


def test_pickles_of_objects_are_refused_within_their_limits(tmp_path: Path) -> None:
    """Where every name is inert, as the statistics of a normaliser, and as a pair, which one library writes."""
    contents = {f"statistics {name}": in_normaliser(attack, "obs_rms") for name, attack in ATTACKS.items()}
    contents |= {f"pair {name}": b"\x80\x04" + ATTACKS[name].removesuffix(b".") + b"}\x86." for name in PAIRS}
    files = []
    for name, content in contents.items():
        (path := tmp_path / f"{name.replace(' ', '_')}.pkl").write_bytes(content)
        files.append(("foreign", path))
    wrong = refused(read_all(files))
    assert set(wrong) <= {f"statistics_{name.replace(' ', '_')}.pkl" for name in CALLS}
    assert set(wrong.values()) <= {"value"}


def test_a_normaliser_with_anything_in_it_is_read_or_refused(tmp_path: Path) -> None:
    """Dicts in each other without end, arrays that share their bytes, states that are none."""
    jax = b"cjax._src.array\n_reconstruct_array\n("
    attacks = {
        "deep": b"}" + (text("a") + b"}") * 5000 + b"s" * 5000,
        "few arguments": jax + b"K\1tR",
        "short": b"cnumpy._core.multiarray\nscalar\n)R",
        "shapeless": b"cnumpy._core.multiarray\n_reconstruct\n)R(K\1)K\1K\1K\1tb",
        "long number": pickle.LONG4 + (4000).to_bytes(4, "little") + b"\x7f" * 4000,
        "named": b"cnumpy\nndarray\n",
        "itself": b"}q\0" + text("a") + b"h\0s",
    }
    files = []
    for name, attack in attacks.items():
        for attribute in ("obs_rms", "epsilon", "clip_obs"):
            path = tmp_path / f"{name.replace(' ', '_')}_{attribute}.pkl"
            path.write_bytes(in_normaliser(attack, attribute))
            files.append(("foreign", path))
    wrong = refused(read_all(files))
    assert set(wrong.values()) <= {"value"}


def test_the_members_of_an_archive_are_bounded(tmp_path: Path) -> None:
    """Compressed ones may inflate to so much, whatever the directory says, and what is no state dict is told."""
    zeros, few = bytes(1 << 27), bytes(1 << 10)
    small = archive(tmp_path / "list.pt", b"]" + tensor((1,), (1,)) + b"a.").read_bytes()
    files = [
        archived(tmp_path / "bomb.zip", zeros, zipfile.ZIP_DEFLATED),
        archived(tmp_path / "bzip.zip", few, zipfile.ZIP_BZIP2),
        archived(tmp_path / "lzma.zip", few, zipfile.ZIP_LZMA),
        archived(tmp_path / "list.zip", small),
        archived(tmp_path / "text.zip", b"text"),
    ]
    lying = bytearray((tmp_path / "bomb.zip").read_bytes())
    place = lying.rindex(b"PK\1\2", 0, lying.rindex(b"policy.pth"))
    lying[place + 24 : place + 28] = (10).to_bytes(4, "little")
    (tmp_path / "lying.zip").write_bytes(lying)
    assert refused(read_all([("foreign", path) for path in [*files, tmp_path / "lying.zip"]])) == {}


@pytest.mark.timeout(60)
@pytest.mark.skipif(os.name == "nt", reason="there are no such pipes there")
def test_a_pipe_is_of_no_kind_and_not_waited_for(tmp_path: Path) -> None:
    """It may lie beside an archive, in the place of its statistics."""
    os.mkfifo(tmp_path / "vecnormalize.pkl")
    assert kind_of(tmp_path / "vecnormalize.pkl") == "other"
