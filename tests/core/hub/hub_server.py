"""A Hugging Face Hub of the suite's own, on 127.0.0.1: repositories in memory, with the calls that the client makes."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """The server, and what is in it.

    Attributes:
        files: by the name of a repository, its files.
        gated: the repositories that ask for access.
        cut_off: names of files of which the connection breaks in the middle.
        damaged: names of files that arrive with a byte changed, so many times more.
        token: what a request must carry to push; None takes anybody.
        requests: how many were answered.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.cut_off: set[str] = set()
        self.damaged: dict[str, int] = {}
        self.token: str | None = None
        self.requests = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a client hangs up."""


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub as long as the block lasts."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args: Any) -> None:
        """Keep the output of the tests clean."""

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if not path.startswith("/api/"):
            self._file(body=True)
            return
        parts = path.removeprefix("/api/models/").split("/")
        repo = "/".join(parts[:2])
        if (files := self._repo(repo)) is None:
            return
        if len(parts) > 2 and parts[2] == "tree":
            rows = [(name, len(content), digest(content)) for name, content in files.items()]
            self._json([{"type": "file", "path": name, "size": size, "oid": oid} for name, size, oid in rows])
        else:
            self._json(
                {
                    "id": repo,
                    "modelId": repo,
                    "sha": COMMIT,
                    "siblings": [{"rfilename": name} for name in files],
                    "tags": [],
                    "private": False,
                    "downloads": 0,
                    "likes": 0,
                }
            )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.token is not None and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._error(401, "", "Invalid username or password.")
            return
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
            self.server.files.setdefault(repo, {})
            self._json({"url": f"{self.server.address}/{repo}", "name": repo, "id": repo})
        elif "/preupload/" in path:
            self._json(
                {
                    "files": [
                        {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for each in json.loads(body)["files"]
                    ]
                }
            )
        elif "/commit/" in path:
            self._commit("/".join(path.removeprefix("/api/models/").split("/")[:2]), body)
        else:
            self._json({})

    def _commit(self, repo: str, body: bytes) -> None:
        for line in body.decode().splitlines():
            row = json.loads(line)
            if row["key"] == "file":
                self.server.files[repo][row["value"]["path"]] = base64.b64decode(row["value"]["content"])
        address = f"{self.server.address}/{repo}/commit/{COMMIT}"
        self._json({"success": True, "commitUrl": address, "commitOid": COMMIT, "hookOutput": ""})

    def _repo(self, repo: str) -> dict[str, bytes] | None:
        if repo in self.server.gated:
            self._error(403, "GatedRepo", "Access to this model is restricted.")
        elif repo not in self.server.files:
            self._error(404, "RepoNotFound", "Repository not found")
        else:
            return self.server.files[repo]
        return None

    def _file(self, *, body: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        repo, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        if (files := self._repo(repo)) is None:
            return
        if revision not in ("main", COMMIT):
            self._error(404, "RevisionNotFound", "Invalid rev id")
        elif name not in files:
            self._error(404, "EntryNotFound", "Entry not found")
        else:
            self._send(files[name], name, body=body)

    def _send(self, content: bytes, name: str, *, body: bool) -> None:
        self.server.requests += 1
        self.send_response(200)
        for header, value in {
            "ETag": f'"{digest(content)}"',
            "X-Repo-Commit": COMMIT,
            "Content-Length": str(len(content)),
            "Accept-Ranges": "bytes",
        }.items():
            self.send_header(header, value)
        self.end_headers()
        if not body:
            return
        if name in self.server.cut_off:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        if self.server.damaged.get(name, 0) > 0:
            self.server.damaged[name] -= 1
            content = bytes([content[0] ^ 1]) + content[1:]
        self.wfile.write(content)

    def _error(self, status: int, code: str, message: str) -> None:
        content = json.dumps({"error": message}).encode() if self.command != "HEAD" else b""
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _json(self, document: Any) -> None:
        self.server.requests += 1
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
