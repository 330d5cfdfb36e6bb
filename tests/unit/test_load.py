"""Code that comes with a checkpoint runs when the user says so, and never otherwise."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from ks_lottery import UserError, open_checkpoint
from ks_lottery.cli.main import main
from ks_lottery.models.load import load_model

CONFIGURATION = """
from pathlib import Path
from transformers import LlamaConfig
Path({marker!r}).open("a").write("configuration ")
class OwnConfig(LlamaConfig):
    model_type = "own-code"
"""

MODELING = """
from pathlib import Path
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig
Path({marker!r}).open("a").write("modeling ")
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "ran"


@pytest.fixture
def own_code(untied_model, tmp_path, marker, monkeypatch):
    """A checkpoint of an architecture that only the Python files beside it know; each leaves a mark when it runs."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        monkeypatch.delitem(sys.modules, name)
    folder = tmp_path / "own"
    shutil.copytree(untied_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own-code", "architectures": ["OwnForCausalLM"]}
    config["auto_map"] = {
        "AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_own.py").write_text(CONFIGURATION.format(marker=str(marker)))
    (folder / "modeling_own.py").write_text(MODELING.format(marker=str(marker)))
    return folder


def test_code_of_a_checkpoint_does_not_run_unless_asked(own_code, marker):
    checkpoint = open_checkpoint(str(own_code))
    with pytest.raises(
        UserError, match="needs Python code that comes with it, .*: give `trust_remote_code=True`$"
    ) as refused:
        load_model(checkpoint, dtype="float32", device="cpu")
    assert not marker.exists()
    assert "\n" not in str(refused.value)


def test_code_of_a_checkpoint_runs_when_asked(own_code, marker):
    checkpoint = open_checkpoint(str(own_code))
    loaded = load_model(checkpoint, dtype="float32", device="cpu", trust_remote_code=True)
    assert type(loaded.lm).__name__ == "OwnForCausalLM"
    assert {"configuration", "modeling"} <= set(marker.read_text().split())


def test_the_command_needs_the_flag(own_code, marker, text_file, tmp_path, capfd):
    command = ["tune", str(own_code), "--method", "embed", "--train", str(text_file), "--limit", "8", "--dry-run"]
    command += ["--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert not marker.exists()
    assert main([*command, "--trust-remote-code"]) == 0
    assert marker.exists()
