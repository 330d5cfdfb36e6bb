"""What is missing when a hub id cannot be had: the network, the permission to use it, or the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

ASK = """
import sys
from ks_lottery.errors import UserError
from ks_lottery.models.load import open_checkpoint
try:
    open_checkpoint("owner/model")
except UserError as error:
    print(error)
"""


class Refusal(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def absent():
    """A server on this machine that has no repository."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def asked(folder, **environment) -> str:
    """Return what a process of its own says, since the hub's package reads its environment when it is imported."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    result = subprocess.run(
        [sys.executable, "-c", ASK], env={**known, "HF_HOME": str(folder), **environment}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return result.stdout


def test_the_hub_s_own_switch_is_named(tmp_path):
    said = asked(tmp_path, HF_HUB_OFFLINE="1")
    assert "model owner/model is neither a folder here nor in the hub's cache, and HF_HUB_OFFLINE is set" in said
    assert said.endswith("unset it\n")


def test_an_address_that_nobody_answers_is_a_missing_network(tmp_path):
    said = asked(tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="0")
    assert "the network is missing: http://127.0.0.1:9 cannot be reached (Connection refused)" in said


def test_a_repository_that_is_not_there_is_no_missing_network(tmp_path, absent):
    said = asked(tmp_path, HF_ENDPOINT=absent, HF_HUB_OFFLINE="0")
    assert "the hub answers 404" in said
    assert "network" not in said
