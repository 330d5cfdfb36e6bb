"""A stored stage is whole or not there, whatever happens to the process or to the files."""

from __future__ import annotations

import json
import os

import pytest

from ks_lottery import UserError
from ks_lottery.store.manifest import digest_json
from ks_lottery.store.objects import ObjectStore

KEY = "ab" * 32
ABOUT = {
    "stage": "tune", "title": "Embed tuning", "recipe": "selectors", "code": 1, "settings": {"seed": 0}, "inputs": {},
    "conditions": {"threads": 1}, "seconds": 1.5, "tokens": 10, "pace": "train", "made": "2026-01-01T00:00:00+00:00",
}  # fmt: skip


def put(store, key=KEY, text="x", sources=(), **about):
    inputs = {f"input {n}": {"key": source, "digest": "d"} for n, source in enumerate(sources)}
    with store.in_use(), store.publishing(key, {**ABOUT, "inputs": inputs, **about}) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text(text)
        (folder / "b.txt").write_text("b")


@pytest.fixture
def store(tmp_path):
    return ObjectStore(tmp_path / "store")


def test_an_object_has_its_files_and_says_what_made_it(store):
    put(store)
    stored = ObjectStore(store.root).whole(KEY)
    assert stored.about["settings"] == {"seed": 0}
    assert sorted(stored.about["files"]) == ["b.txt", "sub/a.txt"]
    assert (stored.bytes, stored.damage()) == (2, None)
    assert (stored.folder / "sub" / "a.txt").read_text() == "x"


def test_the_digest_of_an_object_is_that_of_its_content_alone(store):
    put(store)
    put(store, "cd" * 32, seconds=9.0, title="other")
    put(store, "ef" * 32, text="y")
    digests = [store.whole(key).digest for key in (KEY, "cd" * 32, "ef" * 32)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "b.txt").write_text("c"),
        lambda folder: (folder / "b.txt").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text('{"kind": "stored-stage", "format": 1}'),
        lambda folder: (folder / "manifest.json").write_text(
            (folder / "manifest.json").read_text().replace('"seed": 0', '"seed": 1')
        ),
    ],
)
def test_a_damaged_object_is_not_used_and_is_made_again(store, damage):
    put(store)
    damage(store.folder(KEY))
    assert store.whole(KEY) is None
    put(store, text="new")
    assert (store.whole(KEY).folder / "sub" / "a.txt").read_text() == "new"


def test_an_object_whose_making_fails_is_not_there_and_leaves_nothing(store):
    def fail():
        with store.in_use(), store.publishing(KEY, dict(ABOUT)) as folder:
            (folder / "half.txt").write_text("x")
            assert store.whole(KEY) is None
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.keys() == []
    assert list((store.root / "objects").iterdir()) == []


def test_a_manifest_with_a_right_digest_and_wrong_types_is_damaged(store):
    put(store)
    path = store.folder(KEY) / "manifest.json"
    about = json.loads(path.read_text())
    for change in (
        {"files": {"b.txt": 3}},
        {"inputs": [1]},
        {"seconds": "x"},
        {"files": {"../b": {"sha256": "", "bytes": 0}}},
    ):
        content = {name: value for name, value in {**about, **change}.items() if name != "digest"}
        path.write_text(json.dumps({**content, "digest": digest_json(content)}))
        with pytest.raises(UserError, match=r"manifest\.json is damaged"):
            store.open(KEY)


def test_a_key_is_found_by_its_beginning(store):
    put(store)
    put(store, "ac" * 32)
    assert store.key_of("ab") == KEY
    for start, problem in (("a", "2 objects"), ("f", "no object"), ("", "no object")):
        with pytest.raises(UserError, match=problem):
            store.key_of(start)


def test_another_folder_is_no_store(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UserError, match="is not a store"):
        ObjectStore(tmp_path)
    assert (tmp_path / "mine").read_text() == "x"


def test_the_store_of_a_newer_version_is_refused(store):
    put(store)
    (store.root / "store.json").write_text('{"kind": "store", "format": 99}')
    with pytest.raises(UserError, match="newer ks-lottery"):
        ObjectStore(store.root)


def test_the_folder_is_given_or_that_of_the_environment_or_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KS_LOTTERY_STORE", raising=False)
    assert ObjectStore().root == tmp_path / "cache" / "store"
    monkeypatch.setenv("KS_LOTTERY_STORE", str(tmp_path / "shared"))
    assert ObjectStore().root == tmp_path / "shared"
    assert ObjectStore(tmp_path / "own").root == tmp_path / "own"


def test_a_store_that_is_in_use_is_not_pruned(store):
    put(store)
    with store.in_use(), pytest.raises(UserError, match="another process uses the store"):
        store.remove([KEY])
    store.remove([KEY])
    assert store.keys() == []


def test_a_store_of_somebody_else_can_be_read(store, monkeypatch):
    put(store)

    def refuse(*arguments, **keywords):
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "open", refuse)
    with store.in_use():
        assert store.whole(KEY) is not None
