"""Terms of use: what counts as accepted, what is recorded, and that another text is asked for anew."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from local_index import TERMS, in_parts, offer

from ks_lottery import UserError
from ks_lottery.cli.main import main
from ks_lottery.errors import AssetNotice
from ks_lottery.store.embedded_models import EMBEDDED_MODELS
from ks_lottery.store.licenses import LICENSES, accept, acceptance, accepting


@pytest.fixture
def terms(tmp_path, monkeypatch):
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KS_LOTTERY_ACCEPT_LICENSE", "other,gemma")
    return in_parts(tmp_path / "index", b"0123456789").terms


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "TERMS.html"
    file.write_bytes(TERMS)
    return file


def test_an_acceptance_is_recorded_with_date_and_digest(terms, text, monkeypatch):
    assert acceptance(terms) is None
    with pytest.warns(AssetNotice, match="accepted for asset:tiny"):
        accept(terms, text, "asset:tiny")
    record = json.loads(terms.record.read_text())
    assert record["sha256"] == hashlib.sha256(TERMS).hexdigest()
    assert abs(datetime.fromisoformat(record["accepted"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert (record["license"], record["model"], record["text"]) == ("gemma", "asset:tiny", str(text))
    monkeypatch.delenv("KS_LOTTERY_ACCEPT_LICENSE")
    assert acceptance(terms) == record
    assert acceptance(replace(terms, sha256="0" * 64)) is None  # another text was not accepted


@pytest.mark.parametrize("value", ["", "other", "gem", "1", "true"])
def test_only_its_name_accepts_a_license(terms, text, monkeypatch, value):
    monkeypatch.setenv("KS_LOTTERY_ACCEPT_LICENSE", value)
    with pytest.raises(UserError, match=r"TERMS\.html"):
        accept(terms, text, "asset:tiny")
    assert not terms.record.exists()


def test_a_text_that_was_changed_is_not_accepted(terms, text):
    text.write_bytes(TERMS + b"!")
    with pytest.raises(UserError, match="was changed"):
        accept(terms, text, "asset:tiny")
    assert not terms.record.exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"kind": "scores"}', '{"kind": "license-acceptance", "format": 99}']
)
def test_a_damaged_record_is_no_acceptance_and_is_replaced(terms, text, content):
    terms.record.parent.mkdir(parents=True)
    terms.record.write_text(content)
    assert acceptance(terms) is None
    with pytest.warns(AssetNotice):
        accept(terms, text, "asset:tiny")
    assert acceptance(terms) is not None


@pytest.mark.parametrize("before", [None, "other"])
def test_accepting_ends_with_its_block(monkeypatch, before):
    monkeypatch.delenv("KS_LOTTERY_ACCEPT_LICENSE", raising=False)
    if before is not None:
        monkeypatch.setenv("KS_LOTTERY_ACCEPT_LICENSE", before)
    with accepting(every=False):
        assert os.environ.get("KS_LOTTERY_ACCEPT_LICENSE") == before
    with accepting(every=True):
        assert set(os.environ["KS_LOTTERY_ACCEPT_LICENSE"].split(",")) == set(LICENSES)
    assert os.environ.get("KS_LOTTERY_ACCEPT_LICENSE") == before


def test_the_flag_of_a_command(tmp_path, monkeypatch, capfd, text_file):
    model = in_parts(tmp_path / "index", b"0123456789")
    offer(tmp_path / "index", tmp_path / "cache", monkeypatch)
    monkeypatch.setitem(EMBEDDED_MODELS, "asset:tiny", model)
    words = ["inspect", str(text_file), "--model", "asset:tiny"]
    assert main(words) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "--accept-license" in line
    assert model.terms is not None
    assert acceptance(model.terms) is None
    with pytest.warns(AssetNotice) as notices:
        assert main([*words, "--accept-license"]) == 2  # its ten bytes are no model
    assert "Terms of Use of Tiny of 2026-01-01 accepted" in str(notices[0].message)
    assert "GGUF" in capfd.readouterr().err
    assert acceptance(model.terms) is not None
    assert "KS_LOTTERY_ACCEPT_LICENSE" not in os.environ


def test_commands_that_open_no_model_have_no_such_flag(capfd):
    assert main(["store", "list", "--accept-license"]) == 2
    assert "has no flag --accept-license" in capfd.readouterr().err
