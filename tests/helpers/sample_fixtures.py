"""A server that does as it is told, wrong too."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers as its server was told."""

    server: "Server"

    def do_GET(self) -> None:
        """Send the file, or the range asked for, up to the cut."""
        server, span = self.server, self.headers["Range"]
        server.asked.append(span)
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        status = server.status(start)
        if status >= 400:
            self.send_error(status)
            return
        body = server.data[start:] if status == 206 else server.data
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            whole = len(server.data)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.end_headers()
        self.wfile.write(body[: server.cut])
        server.after()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class Server(ThreadingHTTPServer):
    """Serves `data` as told: which status, cut after how many bytes, and what happens then."""

    data = b""
    cut: int | None = None

    def __init__(self) -> None:
        """Listen on a free port, and obey Range."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.status: Callable[[int], int] = lambda start: 206 if start else 200
        self.after: Callable[[], None] = lambda: None
