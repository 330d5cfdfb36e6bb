"""Downloads from a server on this machine: whole content, and in one reason what came broken, late, too large or not at all."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from ks_lottery.store.download import DownloadError, download

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Only this machine itself can be reached."""
    look_up = socket.getaddrinfo

    def here_only(host, *rest, **named):
        assert host in {"127.0.0.1", "localhost"}, f"a test reached for {host}"
        return look_up(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", here_only)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def serve() -> Iterator:
    """Serve one answer on this machine, and return its address."""
    servers, ended = [], threading.Event()

    def start(content: bytes, *, promised: int | None = None, status: int = 200, pause_at: int | None = None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if pause_at == 0:
                    ended.wait(30)
                self.send_response(status)
                if promised is None or promised >= 0:
                    self.send_header("Content-Length", str(promised or len(content)))
                self.end_headers()
                self.wfile.write(content[:pause_at])
                if pause_at:
                    ended.wait(30)

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_):  # the client hung up, as it should
                pass

        server = Quiet(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/model"

    yield start
    ended.set()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("size", [0, 1, 1024, 100_000])
@pytest.mark.parametrize("promised", [None, -1], ids=["length known", "length unknown"])
def test_the_content_is_what_the_server_sent(serve, size, promised, capfd):
    content = bytes(i % 251 for i in range(size))
    assert download(serve(content, promised=promised)) == content
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"content": b"gone", "status": 404}, "404 Not Found"),
        ({"content": b"half", "promised": 1400}, "4 of 1,400 bytes came"),
        ({"content": b"x" * 3000}, "more than 2,000 bytes"),
        ({"content": b"x" * 9000, "promised": -1}, "more than 2,000 bytes"),
        ({"content": b"x", "promised": 10**9}, "more than 2,000 bytes"),
        ({"content": b"late", "pause_at": 0}, r"no answer within 0\.2 s"),
        ({"content": b"x" * 1500, "pause_at": 1100}, r"no answer within 0\.2 s"),
    ],
)
def test_what_comes_broken_is_one_reason(serve, answer, reason, capfd):
    with pytest.raises(DownloadError, match=reason):
        download(serve(**answer), largest=2000, stall=0.2)
    assert capfd.readouterr() == ("", "")


def test_a_slow_server_is_given_up(serve):
    with pytest.raises(DownloadError, match="not complete within 0 s"):
        download(serve(b"x" * 5000), limit=0.0)


def test_no_network_is_one_reason(monkeypatch):
    def refuse(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DownloadError, match="^Name or service not known$"):
        download("https://example.org/model")


def test_nobody_listens(serve):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match="^Connection refused$"):
        download(f"http://127.0.0.1:{port}/model")


def test_what_is_no_address_is_one_reason():
    with pytest.raises(DownloadError):
        download("http://")
