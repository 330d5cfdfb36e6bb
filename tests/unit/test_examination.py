"""What `doctor` says, of packages that are made up here, of tokens, of caches, and of a torch that is broken."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ks_lottery import UserError
from ks_lottery.recipes.examination import examine
from ks_lottery.recipes.features import FEATURES
from ks_lottery.store import installed
from ks_lottery.store.embedded_models import EMBEDDED_MODELS

ROOT = Path(__file__).parents[2]
TOKEN = "hf_" + "thisisasecret" * 3
RUN = """
import socket, sys
def refused(*_, **__):
    raise SystemExit("the network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
from ks_lottery.cli.main import main
sys.exit(main(["doctor", *sys.argv[1:]]))
"""


def distribution(folder, name, version, requires=(), extras=()):
    """Write the metadata of an installed package."""
    home = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    home.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires] + [f"Provides-Extra: {extra}" for extra in extras]
    (home / "METADATA").write_text("\n".join(lines) + "\n")


def doctor(*words, path=None, **variables):
    """Run the command in a process of its own in which every connection is an error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "KS_LOTTERY"))}
    places = [str(path)] if path else []
    places.append(str(ROOT / "src"))
    environment = {**kept, "PYTHONPATH": os.pathsep.join(places), **{k: str(v) for k, v in variables.items()}}
    return subprocess.run(
        [sys.executable, "-c", RUN, *words], capture_output=True, text=True, check=False, env=environment, timeout=300
    )


def test_packages_against_the_ranges_of_the_metadata(tmp_path):
    distribution(
        tmp_path, "ks-lottery", "9.9.9",
        ["made-up-old<2,>=1.5", "made-up-new<2,>=1.5", "made-up-good<2,>=1.5", "made-up-gone>=3", "made-up-any",
         'made-up-elsewhere>=1; sys_platform == "nowhere"', 'matplotlib<4,>=999; extra == "figures"'],
        ["figures"],
    )  # fmt: skip
    versions = {"made-up-old": "1.4.9", "made-up-new": "2.0", "made-up-good": "1.10", "made-up-any": "0.0.1"}
    for name, version in versions.items():
        distribution(tmp_path, name, version)
    done = doctor("--json", path=tmp_path)
    assert done.returncode == 1, done.stderr
    content = json.loads(done.stdout)
    assert (content["passed"], content["version"]) == (False, "9.9.9")
    said = {
        package["name"]: (package["version"], package["state"], package["remedy"]) for package in content["packages"]
    }
    assert said == {
        "made-up-old": ("1.4.9", "out of range", 'pip install "made-up-old<2,>=1.5"'),
        "made-up-new": ("2.0", "out of range", 'pip install "made-up-new<2,>=1.5"'),
        "made-up-good": ("1.10", "ok", ""),
        "made-up-gone": (None, "missing", 'pip install "made-up-gone>=3"'),
        "made-up-any": ("0.0.1", "ok", ""),
    }
    (figures,) = [feature for feature in content["features"] if feature["name"] == "figures"]
    assert not figures["present"]  # matplotlib is there, and below the range of the extra
    assert figures["remedy"] == 'pip install "ks-lottery[figures]"'
    shown = doctor(path=tmp_path)
    assert shown.returncode == 1
    assert 'made-up-gone is missing: pip install "made-up-gone>=3"' in shown.stdout


def test_exit_code_0_where_all_that_is_required_is_there(tmp_path):
    distribution(tmp_path, "ks-lottery", "9.9.9", ["numpy>=2"])
    done = doctor(path=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything that is required is there." in done.stdout
    for extra in FEATURES:
        assert re.search(rf"^{extra} ", done.stdout, flags=re.MULTILINE), extra


def test_every_extra_is_a_feature_with_its_package():
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = {
        name: packages
        for name, packages in content["project"]["optional-dependencies"].items()
        if name not in {"dev", "docs"}
    }
    packages = {name: [re.match(r"[\w-]+", text)[0] for text in texts] for name, texts in extras.items()}
    assert packages == {name: [feature.package] for name, feature in FEATURES.items()}


@pytest.mark.parametrize("how", ["file", "variable"])
def test_a_login_is_said_and_its_token_is_not(tmp_path, how):
    (tmp_path / "token").write_text(TOKEN if how == "file" else "")
    given = {"HF_HOME": tmp_path, **({} if how == "file" else {"HF_TOKEN": TOKEN})}
    for words in ([], ["--json"]):
        done = doctor(*words, **given)
        assert TOKEN not in done.stdout + done.stderr
        assert TOKEN[:8] not in done.stdout + done.stderr
    (login,) = [feature for feature in json.loads(done.stdout)["features"] if feature["name"] == "hub login"]
    assert (login["present"], login["detail"]) == (True, "logged in")


def test_what_the_hub_may_not_and_what_is_on_the_disk(tmp_path):
    name = "asset:smollm2-135m-instruct"
    asset = tmp_path / "cache" / "assets" / EMBEDDED_MODELS[name].parts[0].folder
    asset.mkdir(parents=True)
    (asset / "model.gguf").write_bytes(bytes(1234))
    home = tmp_path / "hf" / "hub" / "models--owner--tiny"
    for part in ("blobs", "refs", "snapshots/abc"):
        (home / part).mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    (home / "blobs" / "1").write_bytes(bytes(567))
    (home / "snapshots" / "abc" / "config.json").symlink_to("../../blobs/1")
    done = doctor(
        "--json",
        HF_HOME=tmp_path / "hf",
        KS_LOTTERY_CACHE=tmp_path / "cache",
        HF_HUB_OFFLINE=1,
        SACREBLEU=tmp_path / "s",
    )
    content = json.loads(done.stdout)
    assert {item["name"]: item["bytes"] for item in content["kept"]} == {name: 1234, "owner/tiny": 567}
    features = {feature["name"]: feature for feature in content["features"]}
    assert (features["hub"]["present"], features["hub"]["remedy"]) == (False, "unset HF_HUB_OFFLINE")
    assert (features["hub login"]["present"], features["hub login"]["remedy"]) == (False, "hf auth login")
    assert features["report"]["present"] == (ROOT / "src/ks_lottery/report/templates/vega.js").is_file()
    for tokenizer in ("flores101", "flores200"):
        assert str(tmp_path / "s" / "models") in features[f"spbleu-{tokenizer}"]["remedy"]
    assert content["machine"]["cache"] == str(tmp_path / "cache")
    assert 0 < content["machine"]["cache_free"] <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


def test_a_torch_that_cannot_be_imported_is_said(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file')\n"
    )
    done = doctor(path=tmp_path)
    assert done.returncode == 1
    assert "torch cannot be imported: libcudart.so.12: cannot open shared object file" in done.stdout, done.stderr
    machine = json.loads(doctor("--json", path=tmp_path).stdout)["machine"]
    assert (machine["threads"], machine["body"], machine["gpus"]) == (None, None, [])


def test_the_machine_is_this_one():
    import torch

    machine = examine().machine
    assert (machine.cores, machine.threads) == (os.cpu_count(), torch.get_num_threads())
    assert machine.memory is not None
    assert machine.available is not None
    assert 0 < machine.available <= machine.memory <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert bool(machine.gpus) == (torch.cuda.is_available() or torch.backends.mps.is_available())


def test_a_package_that_is_not_installed_says_so(monkeypatch):
    monkeypatch.setattr(installed, "PACKAGE", "no-such-package-of-ours")
    with pytest.raises(UserError, match="is not installed, so that nothing says what it requires"):
        examine()
