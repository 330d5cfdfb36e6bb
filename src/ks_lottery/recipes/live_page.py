"""Serves the report of a run on this machine alone, made anew whenever a file of the run changed."""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ks_lottery.config.report_commands import WatchSettings
from ks_lottery.errors import UserError
from ks_lottery.recipes.page import page_of
from ks_lottery.report.html_page import to_page
from ks_lottery.store.manifest import digest_json
from ks_lottery.store.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "127.0.0.1"


class LiveServer(ThreadingHTTPServer):
    """A server of one page, for this machine alone.

    A request that names another host is refused, so that no page of another site can read the run through a name of its own.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self._lock = Lock()
        self._state, self._page = "", ""
        super().__init__((HOST, port), _Handler)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def state(self) -> str:
        """Return what changes when a file of the run does: a digest of names, sizes and times."""
        files = [(file, file.stat()) for file in sorted(self.folder.rglob("*")) if file.is_file()]
        return digest_json(
            [[str(file.relative_to(self.folder)), about.st_size, about.st_mtime_ns] for file, about in files]
        )

    def page(self) -> str:
        """Return the page on the run as it is now."""
        with self._lock:
            state = self.state()
            if state != self._state:
                self._page = to_page(page_of([self.folder], refreshes=True))
                self._state = state
            return self._page


class _Handler(BaseHTTPRequestHandler):
    """Answers requests for the page and for its state, and nothing else."""

    server: LiveServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        answers: dict[str, tuple[str, Callable[[], str]]] = {
            "/": ("text/html; charset=utf-8", self.server.page), "/state": ("text/plain", self.server.state),
        }  # fmt: skip
        hosts = {f"{host}:{self.server.server_port}" for host in (HOST, "localhost")}
        if self.headers.get("Host") not in hosts:
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", "this server answers its own machine alone\n")
        elif self.path not in answers:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "there is no such page\n")
        else:
            kind, make = answers[self.path]
            try:
                text = make()
            except (UserError, OSError) as error:  # a file that is being written; the page asks again
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n")
            else:
                self._answer(HTTPStatus.OK, kind, text)

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        headers = {
            "Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }  # fmt: skip
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the class)
        """Print nothing for each request."""


def live_page(run: str | Path, *, port: int = WatchSettings.port) -> LiveServer:
    """Return a server of the report on a run; its `serve_forever` answers, and as a context manager it is closed at the end.

    Parameters
    ----------
    run
        Folder of a run, finished or in progress.
    port
        Port on 127.0.0.1; 0, the default, for a free one.

    Raises
    ------
    UserError
        When the folder is not that of a run, or the port is taken.
    """
    folder = Path(run).expanduser()
    RunFolder(folder).config()
    try:
        return LiveServer(folder, port)
    except OSError as error:
        raise UserError(
            f"port {port} of this machine cannot be used ({error.strerror or error}): give another `port`"
        ) from error
