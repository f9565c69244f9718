"""A hub in miniature: an HTTP server on 127.0.0.1 that answers `/{repo}/resolve/{revision}/{path}` like the real one.

HEAD gives size, etag and commit; GET knows ranges and redirects large files to another address, as the hub does to
its CDN. Faults are switched on per server: cut connections, lying sizes, wrong bytes, refusals, silence.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BLOCK = 4096


@dataclass
class Hub:
    """What the server holds, how it misbehaves, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Content by "repo/path"; the revision is answered whatever it is, and recorded."""
    cut_after: list[int] = field(default_factory=list)
    """Body bytes after which the next GETs drop the connection; one entry is used up by each."""
    lie_about_size: int = 0
    """Bytes added to the size that HEAD announces."""
    status: int = 0
    """Answer everything with this HTTP status."""
    silent: bool = False
    """Accept the GET and never send the body."""
    ignores_ranges: bool = False
    redirects: bool = False
    """GET answers 302 to another path of this server, as the hub does to its CDN."""
    url: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, Range header) of every request."""
    sent: int = 0
    """Body bytes sent so far."""
    closing: threading.Event = field(default_factory=threading.Event)

    def gets(self) -> list[tuple[str, str | None]]:
        """(path, Range header) of all GETs that sent a body."""
        return [(path, span) for method, path, span in self.asked if method == "GET" and "/cdn/" not in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _find(self) -> bytes | None:
        match = re.fullmatch(r"(?:/cdn)?/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path)
        return self.hub.files.get(f"{match[1]}/{match[2]}") if match else None

    def _refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _known(self) -> bytes | None:
        """The content asked for, after the refusals that are the same for HEAD and GET."""
        self.hub.asked.append((self.command, self.path, self.headers.get("Range")))
        content = self._find()
        if self.hub.status:
            self._refuse(self.hub.status)
        elif content is None:
            self._refuse(404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        else:
            return content
        return None

    def do_HEAD(self) -> None:
        content = self._known()
        if content is None:
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content) + self.hub.lie_about_size))
        self.send_header("Content-Length", str(len(content) + self.hub.lie_about_size))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        content = self._known()
        if content is None:
            return
        if self.hub.silent:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.flush()
            self.hub.closing.wait(30)
            self.close_connection = True
            return
        if self.hub.redirects and not self.path.startswith("/cdn/"):
            self._refuse(302, {"Location": f"/cdn{self.path}"})
            return
        self._send(content)

    def _send(self, content: bytes) -> None:
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(span[1]) if span and not self.hub.ignores_ranges else 0
        if start >= len(content):
            self._refuse(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        ranged = bool(span) and not self.hub.ignores_ranges
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = len(content)
        if self.hub.cut_after:
            end = min(end, start + self.hub.cut_after.pop(0))
            self.close_connection = True
        for at in range(start, end, BLOCK):
            self.wfile.write(content[at : min(at + BLOCK, end)])
            self.hub.sent += min(BLOCK, end - at)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that stops in the middle is what the tests are about; nothing to say."""


@contextmanager
def running_hub(**settings: object) -> Iterator[Hub]:
    """A `Hub` with the given fields, served on a free port of this machine until the block ends."""
    hub = Hub(**settings)  # type: ignore[arg-type]
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
