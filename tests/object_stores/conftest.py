"""An S3 server of the tests' own, and a way to it that can be cut off at any moment."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import pytest

BUCKET = "keepfast"


@final
class Wire:
    """Passes on what comes at a port to another one; cut off, each connection is reset and no other is taken.

    Args:
        target: the port of the server.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._whole = threading.Event()
        self._whole.set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._take, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection, whatever is under way, and take none until `mend`."""
        self._whole.clear()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Take connections again."""
        self._whole.set()

    def _take(self) -> None:
        while True:
            near, _ = self._listening.accept()
            if not self._whole.is_set():
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open |= {near, far}
            threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        with near, far, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while self._whole.is_set():
                for key, _ in selector.select(0.2):
                    data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    if not data:
                        return
                    key.data.sendall(data)
        self._open -= {near, far}


@pytest.fixture(scope="session")
def server() -> Iterator[int]:
    """Return the port of an S3 server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)
    yield port
    process.kill()
    process.wait()


@pytest.fixture
def wire(server: int) -> Wire:
    """Return a way to the server."""
    return Wire(server)


@pytest.fixture
def files(server: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return fsspec's files of the server, straight, with an empty bucket."""
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    made = s3fs.S3FileSystem(
        endpoint_url=f"http://127.0.0.1:{server}", skip_instance_cache=True, use_listings_cache=False
    )
    if made.exists(BUCKET):
        made.rm(BUCKET, recursive=True)
    made.mkdir(BUCKET)
    return made


@pytest.fixture
def s3(files: Any, wire: Wire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Have ``s3://`` go over the wire, with a spool of the test's own; return the files, straight."""
    import fsspec

    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": f"http://127.0.0.1:{wire.port}"})
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", f"http://127.0.0.1:{wire.port}")
    monkeypatch.setenv("KEEPFAST_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setitem(os.environ, "PYTHONPATH", os.pathsep.join(sys.path))
    return files
