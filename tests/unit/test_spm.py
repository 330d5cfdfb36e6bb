"""The SentencePiece model: where it is looked for, what is said of one that is absent or damaged, and how it is fetched."""

from __future__ import annotations

import errno
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import sentencepiece
from sacrebleu import utils
from sacrebleu.tokenizers import tokenizer_spm

from ks_lottery.errors import UserError
from ks_lottery.evaluation import spm
from ks_lottery.evaluation.spm import MissingModelError, expected_file, fetched, find_model
from ks_lottery.store.files import write_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def small_model(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("spm")
    (folder / "text").write_text("la casa vella\nel gos menja\nno res més\n" * 20, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "m"), vocab_size=20, minloglevel=2
    )
    return (folder / "m.model").read_bytes()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Only this machine itself can be reached, and each test asks anew."""
    look_up = socket.getaddrinfo

    def here_only(host, *rest, **named):
        assert host in {"127.0.0.1", "localhost"}, f"a test reached for {host}"
        return look_up(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", here_only)
    monkeypatch.setenv("no_proxy", "*")
    fetched.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(utils, "SACREBLEU_DIR", str(tmp_path / "sacrebleu"))
    return tmp_path / "sacrebleu" / "models"


@pytest.fixture
def serve(monkeypatch) -> Iterator:
    """Serve an answer on this machine under sacrebleu's file name, in the place of its address."""
    servers = []

    def start(content: bytes, *, promised: int | None = None, status: int = 200) -> list[str]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(promised or len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}/sacrebleu_tokenizer_spm.model"
        monkeypatch.setitem(tokenizer_spm.SPM_MODELS, "flores101", {"url": url, "signature": "flores101"})
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_it_is_looked_for_where_sacrebleu_looks(folder, small_model):
    assert expected_file("flores101") == folder / "sacrebleu_tokenizer_spm.model"
    assert expected_file("flores200") == folder / "flores200sacrebleuspm"
    folder.mkdir(parents=True)
    expected_file("flores101").write_bytes(small_model)
    ours = find_model("flores101")
    assert ours.sha256 == hashlib.sha256(small_model).hexdigest()
    theirs = tokenizer_spm.SPM_MODELS["flores101"]["signature"], sentencepiece.SentencePieceProcessor()
    theirs[1].Load(str(expected_file("flores101")))
    splitter = ours.splitter()
    assert splitter.signature() == theirs[0]
    for line in ("la casa és vella", "", "  no\tres ", "日本語 gos"):
        assert splitter(line) == " ".join(theirs[1].EncodeAsPieces(line))


def test_a_given_path_goes_before_the_folder(folder, small_model, tmp_path):
    folder.mkdir(parents=True)
    expected_file("flores200").write_bytes(b"damaged")
    (tmp_path / "mine").write_bytes(small_model)
    found = find_model("flores200", {"flores200": tmp_path / "mine"})
    assert (found.tokenizer, found.path) == ("flores200", tmp_path / "mine")


@pytest.mark.parametrize("content", [b"", b"<html>not here</html>", b"CUT"])
def test_a_damaged_model_is_one_sentence(content, folder, small_model, tmp_path, capfd):
    content = small_model[:-200] if content == b"CUT" else content
    (tmp_path / "given").write_bytes(content)
    with pytest.raises(UserError, match="given is no whole SentencePiece model") as caught:
        find_model("flores101", {"flores101": tmp_path / "given"})
    assert not isinstance(caught.value, MissingModelError)
    folder.mkdir(parents=True)
    expected_file("flores101").write_bytes(content)
    with pytest.raises(MissingModelError, match="is no whole SentencePiece model .*: replace it by https://"):
        find_model("flores101")
    assert expected_file("flores101").read_bytes() == content  # what the user has is the user's
    assert capfd.readouterr() == ("", "")


def test_a_path_that_leads_nowhere_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"none does not exist, .*: give that of flores101, or leave it out"):
        find_model("flores101", {"flores101": tmp_path / "none"})
    with pytest.raises(UserError, match="cannot be read"):
        find_model("flores101", {"flores101": tmp_path})
    with pytest.raises(UserError, match="flores999 is no SentencePiece model of spBLEU; there is flores101, flores200"):
        find_model("flores101", {"flores999": tmp_path})


def test_what_is_fetched_is_kept(folder, small_model, serve):
    asked = serve(small_model)
    assert find_model("flores101").sha256 == hashlib.sha256(small_model).hexdigest()
    assert [path.name for path in folder.iterdir()] == ["sacrebleu_tokenizer_spm.model"]
    assert expected_file("flores101").read_bytes() == small_model
    fetched.cache_clear()
    find_model("flores101")
    assert asked == ["/sacrebleu_tokenizer_spm.model"]  # the second time it lies there


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"content": b"<html>sign in</html>"}, "what came is no SentencePiece model"),
        ({"content": b"gone", "status": 404}, "Not Found"),
        ({"content": b"half", "promised": 4000}, "4 of 4,000 bytes came"),
    ],
)
def test_what_comes_broken_leaves_nothing_behind(answer, reason, folder, serve, capfd):
    asked = serve(**answer)
    for _ in range(2):
        with pytest.raises(MissingModelError, match=reason) as caught:
            find_model("flores101")
    assert f"there is no sacrebleu_tokenizer_spm.model in {folder}" in str(caught.value)
    assert len(asked) == 1  # a process asks once
    assert not folder.exists()
    assert capfd.readouterr() == ("", "")


def test_no_network_is_one_sentence(folder, monkeypatch):
    def refuse(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(
        MissingModelError, match=r"could not be fetched \(Name or service not known\): put that file there"
    ):
        find_model("flores200")
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_does_not_stop_the_scoring(folder, small_model, serve, monkeypatch):
    serve(small_model)

    def full(path):
        raise write_error(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(spm, "replacing", full)
    assert find_model("flores101").sha256 == hashlib.sha256(small_model).hexdigest()
    assert not folder.exists()


def test_a_folder_that_cannot_be_read_is_one_sentence(folder):
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(
        MissingModelError, match=r"cannot be read \(Not a directory\): give the path of the model of flores101"
    ):
        find_model("flores101")
