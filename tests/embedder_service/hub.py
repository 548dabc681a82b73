"""A stand-in for the Hub: the few answers that downloading a repository by its name takes."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves folders by the names of repositories on the loopback interface. `asked` are the paths so far."""

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, *, with_body: bool) -> None:
                path = self.path.split("?")[0].strip("/")
                hub.asked.append(path)
                name = path.removeprefix("api/models/")
                name = re.split("/(?:revision|tree|resolve)/", name)[0]
                folder = repositories.get(name)
                if folder is None:
                    self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
                elif path.startswith("api/models/"):
                    files = sorted(file for file in folder.rglob("*") if file.is_file())
                    names = [str(file.relative_to(folder)) for file in files]
                    siblings = [{"rfilename": each} for each in names]
                    repository = {"id": name, "sha": _COMMIT, "siblings": siblings, "private": False}
                    tree = [{"type": "file", "path": each, "size": 1, "oid": "0" * 40} for each in names]
                    body = json.dumps(tree if "/tree/" in path else repository).encode()
                    self._send(200, body, {"Content-Type": "application/json"})
                else:
                    self._file(folder / path.split("/resolve/")[1].split("/", 1)[1], with_body=with_body)

            def _file(self, file: Path, *, with_body: bool) -> None:
                if not file.is_file():
                    self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": _COMMIT})
                    return
                content = file.read_bytes()
                headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": _COMMIT}
                self._send(200, content, headers, with_body=with_body)

            def _send(
                self, code: int, body: bytes, headers: Mapping[str, str], *, with_body: bool = True
            ) -> None:
                self.send_response(code)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
