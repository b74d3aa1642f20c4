"""The objects below an address: read, listed, put whole, copied and removed, whatever keeps them."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from keepfast._system.commit import commit_own
from keepfast._system.remote.addresses import Address, is_below
from keepfast._system.warnings import announce
from keepfast.errors import KeepfastError, MissingDependency, RemoteError, WriteFailed, shown

_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "memory", "oss"}
"""Where an object shows under its name once all of it is there; elsewhere a file is put under another name first."""

_AT_ONCE = 1 << 22
"""So many bytes are put, or fetched, in one piece."""

_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}
_PACKAGES |= {"adl": "adlfs", "hf": "huggingface_hub", "oss": "ossfs", "sftp": "paramiko", "ssh": "paramiko"}
"""By scheme: the package that fsspec needs for it."""

_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "xet_hash", "mtime", "created", "LastModified", "last_modified")
"""What stores tell that changes when an object does, the surest first."""

TEMPORARY = ".keepfast-tmp"
"""How the names end of what is not whole yet."""


@final
@dataclass(frozen=True)
class Object:
    """What a store tells of an object.

    Attributes:
        size: its size in bytes.
        tag: what changes when it does.
    """

    size: int
    tag: str


@final
class Store:
    """The objects below an address.

    Each call raises `RemoteError` where the store refuses, cannot be reached, or sends less than there is, and
    FileNotFoundError where there is no such object.

    Args:
        address: the address.

    Raises:
        MissingDependency: if what reaches it is not installed; says what to run.
        RemoteError: if nothing reaches such an address.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._files, self._root = _opened(address)

    def read(self, name: str) -> bytes:
        """Return the content of an object."""
        with self._told(name):
            return bytes(self._files.cat_file(self._path(name)))

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of many objects, side by side where the store can; those that are gone are left out."""
        paths = {self._path(name): name for name in names}
        with self._told("objects"):
            found = self._files.cat(list(paths), on_error="omit") if len(paths) > 1 else {}
            if len(paths) == 1:
                with contextlib.suppress(FileNotFoundError):
                    found = {path: self._files.cat_file(path) for path in paths}
        return {paths[path]: bytes(content) for path, content in found.items()}

    def fetch(self, name: str, path: Path, size: int | None = None) -> None:
        """Write an object into a file, which is whole or absent.

        Args:
            name: the object.
            path: the file.
            size: how many bytes it has, if that is known.
        """

        def write(file: Any) -> None:
            with self._told(name):
                if size is not None and size <= _AT_ONCE:
                    file.write(self._files.cat_file(self._path(name)))
                else:
                    self._files.get_file(self._path(name), file.name)
                    file.seek(0, os.SEEK_END)

        with told_as_it_is():
            fetched = commit_own(path, write)
        if size is not None and fetched != size:
            path.unlink()
            raise RemoteError(f"`{self.address / name}` has {size} bytes, and {fetched} came; try again")

    def put(self, name: str, path: Path) -> None:
        """Make a file an object; it shows under its name once all of it is there."""
        if path.stat().st_size <= _AT_ONCE or self.address.scheme == "memory":
            self.write(name, path.read_bytes())
            return
        with self._told(name), self._placed(name) as target:
            self._files.put_file(str(path), target)

    def write(self, name: str, content: bytes) -> None:
        """Make bytes an object, as `put`."""
        with self._told(name), self._placed(name) as target:
            self._files.pipe_file(target, content)

    def create(self, name: str, content: bytes) -> bool:
        """Make bytes an object where there is none of that name, and say whether there was none.

        Stores that know a conditional put decide that in one step; of others it is asked before.
        """
        with self._told(name):
            self._make_room(name)
            try:
                self._files.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if "PreconditionFailed" in repr(error) or "ConditionalRequestConflict" in repr(error):
                    return False
                raise
        return True

    def copy(self, name: str, other: str) -> None:
        """Give a copy of an object another name; its bytes come here where the store does not copy by itself."""
        with self._told(name), self._placed(other) as target:
            try:
                self._files.cp_file(self._path(name), target)
            except NotImplementedError:
                self._files.pipe_file(target, self._files.cat_file(self._path(name)))

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are gone already are no error."""
        for name in names:
            with contextlib.suppress(FileNotFoundError), self._told(name):
                self._files.rm_file(self._path(name))

    def listed(self, below: str = "") -> dict[str, Object]:
        """Return all objects at any depth below a name, by their names; those that no file can be named by are not."""
        with self._told(below or "."):
            self._files.invalidate_cache()
            try:
                found = self._files.find(self._path(below), detail=True)
            except FileNotFoundError:
                found = {}
        named = {self._name(path): _object(about) for path, about in found.items() if self._is_below(path, below)}
        return {name: about for name, about in named.items() if is_below(name)}

    def children(self) -> dict[str, Object | None]:
        """Return what is right below the address, a directory as None; as `listed`.

        Raises:
            FileNotFoundError: if there is nothing.
        """
        with self._told("."):
            self._files.invalidate_cache()
            found = self._files.ls(self._root, detail=True)
        if [self._stripped(each["name"]) for each in found] == [self._stripped(self._root)] and found[0][
            "type"
        ] == "file":
            return {"": _object(found[0])}
        named = {self._name(each["name"].rstrip("/")): each for each in found}
        return {
            name: None if each["type"] == "directory" else _object(each)
            for name, each in named.items()
            if is_below(name)
        }

    def _stripped(self, path: str) -> str:
        return str(self._files._strip_protocol(path)).strip("/")  # noqa: SLF001  (fsspec's own way to compare paths)

    def _is_below(self, path: str, below: str) -> bool:
        return self._stripped(path) != self._stripped(self._path(below)) and not path.endswith(TEMPORARY)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    def _name(self, path: str) -> str:
        return self._stripped(path).removeprefix(self._stripped(self._root)).removeprefix("/")

    def _make_room(self, name: str) -> None:
        if self.address.scheme not in _WHOLE:
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    @contextlib.contextmanager
    def _placed(self, name: str) -> Iterator[str]:
        """Yield where an object is to be written, which gets its name once it is whole."""
        self._make_room(name)
        if self.address.scheme in _WHOLE:
            yield self._path(name)
            return
        above, _, last = self._path(name).rpartition("/")
        temporary = f"{above}/.{last}.{secrets.token_hex(4)}{TEMPORARY}"
        try:
            yield temporary
            self._files.mv(temporary, self._path(name))
        except BaseException:
            with contextlib.suppress(Exception):
                self._files.rm_file(temporary)
            raise

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, KeepfastError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise RemoteError(f"`{self.address / name}`: {reason:.300}") from error


@contextlib.contextmanager
def told_as_it_is() -> Iterator[None]:
    """Tell what a store refused while a file was written as that, and not as what the disk did."""
    try:
        yield
    except WriteFailed as error:
        if isinstance(error.__cause__, RemoteError | FileNotFoundError):
            raise error.__cause__ from None
        raise


@contextlib.contextmanager
def told_by_name(address: Address) -> Iterator[None]:
    """Tell of names that objects may have and files may not: too long, or both a file and a directory."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        cause = error.__cause__ if isinstance(error, WriteFailed) else error
        if isinstance(cause, KeepfastError) or not (isinstance(cause, UnicodeError) or _is_lasting(cause)):
            raise
        raise RemoteError(f"`{shown(address)}` cannot be a file on this machine: {cause}") from cause


def _object(about: Mapping[str, Any]) -> Object:
    told = next((str(about[key]) for key in _TAGS if about.get(key)), "")
    return Object(int(about.get("size") or 0), f"{told}/{about.get('size')}")


def _opened(address: Address) -> tuple[Any, str]:
    if importlib.util.find_spec("fsspec") is None:
        raise MissingDependency(
            f'`{address}` needs `fsspec`, which is not installed; run: pip install "keepfast[remote]"'
        )
    import fsspec

    package = _PACKAGES.get(address.scheme)
    try:
        files, root = fsspec.core.url_to_fs(str(address), skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        told = f"; run: pip install {package}" if package else ""
        raise MissingDependency(f"`{address}` needs a package that is not installed ({error}){told}") from error
    except Exception as error:
        raise RemoteError(f"`{address}` cannot be reached: {type(error).__name__}: {error}") from error
    return files, str(root)


_PATIENCE_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0

_LASTING = {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""What an operating system says of a name that cannot be."""

_T = TypeVar("_T")


def _is_lasting(error: BaseException | None) -> bool:
    """Say whether an error is one of a name, which trying again does not change."""
    return isinstance(error, OSError) and error.errno in _LASTING


def patiently(action: Callable[[], _T]) -> _T:
    """Do what a store may refuse for a while, again and again for a minute; tells once that it is waited for.

    Raises:
        RemoteError: if it still refuses, or says that it will never do it.
    """
    began, pause, told = time.monotonic(), _FIRST_PAUSE, False
    while True:
        try:
            return action()
        except RemoteError as error:
            left = _PATIENCE_SECONDS - (time.monotonic() - began)
            cause = error.__cause__
            if left <= 0 or _is_lasting(cause) or isinstance(cause, PermissionError | NotImplementedError | ValueError):
                raise
            if not told:
                announce(f"{error}; it is tried again for {_PATIENCE_SECONDS:g} seconds")
                told = True
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
