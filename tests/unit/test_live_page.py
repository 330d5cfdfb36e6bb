"""The server of a run in progress: this machine alone, two addresses, and a state that changes with the files."""

from __future__ import annotations

import http.client
import json
import threading

import pytest

from ks_lottery.errors import UserError
from ks_lottery.recipes.live_page import live_page


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("model:\n  name: m\ntext:\n  source_language: en\n  target_language: ca\n")
    with live_page(folder) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server, path, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "/")[0] == 200
    assert ask(server, "/", f"localhost:{server.server_port}")[0] == 200
    assert ask(server, "/", "evil.example")[0] == 403
    assert ask(server, "/state", f"evil.example:{server.server_port}")[0] == 403


@pytest.mark.parametrize("path", ["/config.yaml", "/../etc/passwd", "/state/", "/report.html"])
def test_it_has_no_other_address(server, path):
    assert ask(server, path)[0] == 404


def test_the_state_changes_with_a_file(server):
    before = ask(server, "/state")[1]
    assert ask(server, "/state")[1] == before
    assert "No stage is finished yet" in ask(server, "/")[1]
    (server.folder / ".stages").mkdir()
    (server.folder / ".stages" / "text.json").write_text('{"key": "k", "files": {}, "log": ["653 pairs kept"]}')
    assert ask(server, "/state")[1] != before
    assert "653 pairs kept" in ask(server, "/")[1]


def test_losses_of_a_training_under_way_are_those_of_its_last_whole_checkpoint(server):
    place = server.folder / ".unfinished" / "embed-0123456789abcdef"
    for step, is_whole in ((20, True), (100, True), (120, False)):
        checkpoint = place / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        entries = [{"step": n, "loss": 5.0 + n / 1000, "learning_rate": 0.01} for n in range(10, step + 1, 10)]
        history = json.dumps({"log_history": [*entries, {"step": step, "eval_loss": 1.0}]})
        (checkpoint / "trainer_state.json").write_text(history)
        if is_whole:
            (checkpoint / "whole.json").write_text("{}")
    page = ask(server, "/")[1]
    assert "embed tuning, under way" in page
    assert "5.1" in page
    assert "5.11" not in page
    assert page.count("embed tuning, under way") >= 10


def test_a_folder_that_is_no_run_and_a_taken_port_are_refused(server, tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        live_page(tmp_path)
    with pytest.raises(UserError, match=r"port \d+ of this machine cannot be used.*another `port`"):
        live_page(server.folder, port=server.server_port)
