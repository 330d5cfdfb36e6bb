"""An upload against a stand-in of the hub, by huggingface_hub itself, in a process of its own as a user starts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hub_server import Hub, serving

from ks_lottery import RowPatch, UserError, export, open_checkpoint
from ks_lottery.models.hub_upload import push

REPO = "owner/rows-of-mine"


@pytest.fixture(scope="module")
def exported(untied_model, tmp_path_factory):
    checkpoint = open_checkpoint(str(untied_model))
    patch = RowPatch(np.array([5, 77, 301]), torch.ones(3, 32), checkpoint.describe(), {"method": "partial"})
    folder = tmp_path_factory.mktemp("export") / "adapter"
    export(checkpoint, patch, folder, to="peft")
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "adapter")


def pushed(folder, *more, address="http://127.0.0.1:9", token="hf_right", home, repo=REPO, **variables):
    """Run the command; the login is a file, as ``hf auth login`` writes it."""
    home.mkdir(exist_ok=True)
    (home / "token").unlink(missing_ok=True)
    if token is not None:
        (home / "token").write_text(token)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = {**kept, "HF_ENDPOINT": address, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", **variables}
    return subprocess.run(
        [sys.executable, "-m", "ks_lottery", "push", str(folder), repo, *more],
        capture_output=True, text=True, check=False, env=environment, timeout=300,
    )  # fmt: skip


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("lfs", "variables"), [((), {}), ((".safetensors",), {"HF_HUB_DISABLE_XET": "1"})])
def test_every_file_arrives_and_the_address_is_said(folder, tmp_path, lfs, variables):
    hub = Hub(lfs=lfs)
    with serving(hub) as address:
        done = pushed(folder, address=address, home=tmp_path / "home", **variables)
    assert done.returncode == 0, done.stderr
    assert hub.repos[REPO] == {"private": False, "branches": {"main": contents(folder)}}
    assert set(hub.blobs.values()) == ({(folder / "adapter_model.safetensors").read_bytes()} if lfs else set())
    lines = done.stdout.splitlines()
    assert lines[-1] == f"Uploaded to {address}/{REPO}"
    for path in folder.iterdir():
        assert sum(path.name in line for line in lines[:-1]) >= 1
    assert set(hub.messages) == {"Upload of a peft export of ks-lottery"}
    assert "hf_right" not in done.stdout + done.stderr


def test_a_private_repository_a_branch_and_a_message(folder, tmp_path):
    hub = Hub()
    with serving(hub) as address:
        words = ("--private", "--branch", "v2", "--message", "second try")
        done = pushed(folder, *words, address=address, home=tmp_path / "home")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"Uploaded to {address}/{REPO}/tree/v2"
        assert hub.repos[REPO] == {"private": True, "branches": {"main": {}, "v2": contents(folder)}}
        assert set(hub.messages) == {"second try"}
        again = pushed(folder, *words, address=address, home=tmp_path / "home")
        assert again.returncode == 0, again.stderr
    assert hub.repos[REPO]["branches"]["v2"] == contents(folder)


def test_what_should_be_private_is_not_put_into_a_public_repository(folder, tmp_path):
    hub = Hub(public=[REPO])
    with serving(hub) as address:
        done = pushed(folder, "--private", address=address, home=tmp_path / "home")
    assert done.returncode == 2
    assert (
        done.stderr
        == f"ks-lottery: {REPO} exists and is public: make it private on the hub first, or leave --private out\n"
    )
    assert hub.repos[REPO]["branches"] == {"main": {}}


def test_a_dry_run_asks_nobody(folder, tmp_path):
    hub = Hub()
    with serving(hub) as address:
        done = pushed(folder, "--dry-run", address=address, token=None, home=tmp_path / "home", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    assert done.stdout.splitlines()[-1] == "Nothing was uploaded."
    assert "adapter_model.safetensors" in done.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"token": None}, "you are not logged in to the hub: log in (hf auth login)"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set, so that nothing is uploaded: unset it"),
        ({"token": "hf_wrong"}, "the hub answers 401"),
        ({"address": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached"),
        ({"repo": "mine"}, "REPO is 'mine', but must be OWNER/NAME"),
        ({"repo": "../../mine"}, "must be OWNER/NAME"),
    ],
)
def test_what_does_not_work_is_one_sentence_and_exit_code_2(folder, tmp_path, given, said):
    hub = Hub()
    with serving(hub) as address:
        done = pushed(folder, home=tmp_path / "home", **{"address": address, **given})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line
    assert "hf_" not in done.stdout + done.stderr.replace("hf auth", "")
    assert all(not repo["branches"]["main"] for repo in hub.repos.values())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pytorch_model.bin", "can run code when it is loaded"),
        ("rows.PKL", "can run code when it is loaded"),
        ("notes.txt", "is no file of this export"),
        (".env", "is no file of this export"),
        ("more/weights.safetensors", "is no file of this export"),
    ],
)
def test_a_file_that_the_export_did_not_write_is_refused(folder, name, said):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    with pytest.raises(UserError, match=said):
        push(folder, REPO, dry_run=True)


def test_a_link_in_the_place_of_a_file_is_refused(folder, tmp_path):
    (tmp_path / "secret").write_text("mine")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=r"README\.md is no file of this export"):
        push(folder, REPO, dry_run=True)


def test_a_folder_that_is_no_export_is_refused(folder, untied_model, tmp_path):
    with pytest.raises(UserError, match=r"is not the folder of an export: it has no manifest\.json"):
        push(untied_model, REPO, dry_run=True)
    with pytest.raises(UserError, match="is not the folder of an export"):
        push(tmp_path / "nowhere", REPO, dry_run=True)
    about = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({k: v for k, v in about.items() if k != "files"}))
    with pytest.raises(UserError, match="exported by an earlier version"):
        push(folder, REPO, dry_run=True)
    (folder / "manifest.json").write_text(json.dumps({**about, "kind": "tuning"}))
    with pytest.raises(UserError, match="is not an export file"):
        push(folder, REPO, dry_run=True)


@pytest.mark.parametrize("text", ["# no front matter\n", "---\na: [\n---\n", "---\n- a\n---\n", b"\xff\xfe"])
def test_a_card_that_the_hub_would_refuse_is_refused_here(folder, text):
    (folder / "README.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"README\.md"):
        push(folder, REPO, dry_run=True)


def test_a_card_that_the_user_changed_is_uploaded(folder):
    card = folder / "README.md"
    card.write_text(card.read_text() + "\nMore.\n")
    assert push(folder, REPO, dry_run=True).files["README.md"] == card.stat().st_size


def test_a_base_on_this_machine_is_named(folder, untied_model):
    (note,) = push(folder, REPO, dry_run=True).notes
    assert str(untied_model) in note
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "owner/model"}))
    assert push(folder, REPO, dry_run=True).notes == ()
