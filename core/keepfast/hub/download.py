"""From the Hub: one file, or what a run was pushed as."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

from keepfast._system.arguments.guarding import guarded
from keepfast._system.commit import commit
from keepfast._system.disk.directories import make_directory
from keepfast.errors import HubError, InvalidValue, shown
from keepfast.hub.failures import endpoint, told
from keepfast.plugins.locations import writable

_ADDRESS = re.compile(r"([^/@]+/[^/@]+)(?:@(refs/(?:pr|convert)/[^/]+|[^/]+))?/(.+)")
"""A slash in a branch's name is written ``%2F``, as the client has it; but for the references that the Hub makes."""

_SHA256, _SHA1 = 64, 40
_CHUNK = 1 << 20

_EXTRA = {"config.json", "results.json", "metrics.json", "README.md"}
_LONGEST_LIST, _LONGEST_NAME = 1000, 200
_PLACES = frozenset("/\\:")
"""What leads elsewhere, on one system or another."""

_CHECKPOINTS = (".pt", ".safetensors", ".msgpack", ".pickle")


@guarded
def download_model_from_huggingface(repo_id: str, filename: str = "agent.pt", revision: str | None = None) -> Path:
    """Download one file of a repository, or take it from the cache; what arrives damaged is fetched once more.

    Args:
        repo_id: the repository, ``"organisation/name"``.
        filename: the file in it.
        revision: a branch, tag or commit; the main branch if None.

    Returns:
        The path of the file in the cache of the Hugging Face Hub, where nothing should be changed.

    Raises:
        NotFound: if there is no such repository, file or revision.
        HubError: if the Hub refuses or cannot be reached and the file is not in the cache, or the download is damaged.
        InvalidValue: if the repository's name is none.
        MissingDependency: if huggingface_hub is not installed; says what to run.

    Example:
        ``agent.load(keepfast.hub.download_model_from_huggingface("org/ppo-pendulum"))``
    """
    path = _fetched(repo_id, filename, revision, force=False)
    if not _is_whole(path):
        path = _fetched(repo_id, filename, revision, force=True)
        if not _is_whole(path):
            raise HubError(
                f"`{filename}` of `{repo_id}` arrives damaged: its digest is not the one that the Hub tells; try again "
                "later, or have whoever pushed it push it again"
            )
    return path


def _fetched(repo_id: str, filename: str, revision: str | None, *, force: bool) -> Path:
    with told(repo_id, filename, revision):
        import huggingface_hub

        return Path(
            huggingface_hub.hf_hub_download(
                repo_id, filename, revision=revision, library_name="keepfast", force_download=force, endpoint=endpoint()
            )
        )


def _is_whole(path: Path) -> bool:
    """Say whether a file in the cache has the digest that is its name there: SHA-256, or git's of small files."""
    name = path.resolve().name
    if len(name) not in (_SHA256, _SHA1) or re.fullmatch(r"[0-9a-f]+", name) is None:
        return True  # a cache without links has no digests
    digest = hashlib.sha256() if len(name) == _SHA256 else hashlib.sha1(f"blob {path.stat().st_size}\0".encode())  # noqa: S324  (git's)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == name


def fetch(address: str) -> Path:
    """Return the file of an address ``org/name[@revision]/file``, which stands behind ``hf://``.

    Raises:
        InvalidValue: if it is no such address.
        KeepfastError: as `download_model_from_huggingface`.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InvalidValue(f"`hf://{address}` is no address of a file; allowed: hf://org/name[@revision]/file")
    return download_model_from_huggingface(found[1], found[3], found[2] and unquote(found[2]))


@guarded
def pull(repo_id: str, directory: str | Path, revision: str | None = None) -> list[Path]:
    """Copy what `push` put into a repository into a directory: checkpoints, configuration, results and card.

    Args:
        repo_id: the repository.
        directory: where to; made if it is not there. Files of the same names are replaced.
        revision: a branch, tag or commit; the main branch if None.

    Returns:
        The files.

    Raises:
        NotFound: if there is no such repository or revision, or it holds no checkpoint.
        HubError: if the Hub refuses or cannot be reached.
    """
    directory = writable(directory)
    with told(repo_id, "", revision):
        import huggingface_hub

        names = huggingface_hub.HfApi(endpoint=endpoint(), library_name="keepfast").list_repo_files(
            repo_id, revision=revision
        )
    wanted = [name for name in names if _is_plain(name) and (name in _EXTRA or name.endswith((*_CHECKPOINTS, ".svg")))]
    if not any(name.endswith(_CHECKPOINTS) for name in wanted):
        has = shown(", ".join(names), _LONGEST_LIST) or "(no files)"
        raise InvalidValue(f"`{repo_id}` holds no checkpoint; it has: {has}")
    make_directory(directory)
    return [_copied(download_model_from_huggingface(repo_id, name, revision), directory / name) for name in wanted]


def _is_plain(name: str) -> bool:
    """Say whether a name, which somebody chose, is of a file in a directory on any system, and can be shown."""
    short = len(name.encode("utf-8", "replace")) <= _LONGEST_NAME
    return short and name.isprintable() and not name.startswith(".") and not _PLACES.intersection(name)


def _copied(source: str | Path, path: Path) -> Path:
    """Copy a file to a path; what was there is replaced, not written into, for it may have other names."""
    with Path(source).open("rb") as content:
        commit(path, lambda file: shutil.copyfileobj(content, file))
    return path
