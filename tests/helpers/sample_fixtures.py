"""A server for tests of downloads, which may also answer wrongly."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers as its server says."""

    server: "Server"

    def do_GET(self) -> None:
        """Send the file, up to the cut."""
        server = self.server
        server.requests.append(self.path)
        if server.status >= 400:
            self.send_error(server.status)
            return
        self.send_response(server.status)
        if server.announces_size:
            self.send_header("Content-Length", str(len(server.data)))
        self.end_headers()
        self.wfile.write(server.data[: server.cut])
        self.wfile.flush()
        server.after()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class Server(ThreadingHTTPServer):
    """Serves `data` with `status`, cut after `cut` bytes; then it calls `after`."""

    data = b""
    cut: int | None = None
    status = 200
    announces_size = True

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.after: Callable[[], None] = lambda: None
