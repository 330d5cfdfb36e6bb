"""A store with any damage: every call has a result or one UserError, and nothing damaged is taken for a result."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from amount import examples
from hypothesis import given
from hypothesis import strategies as st

from ks_lottery import UserError
from ks_lottery.recipes.store_report import explain_stage, prunable, stored_stages
from ks_lottery.report.terminal import to_text
from ks_lottery.store.cells import Cells, FinishedCell
from ks_lottery.store.files import to_json
from ks_lottery.store.manifest import digest_json
from ks_lottery.store.objects import ObjectStore
from ks_lottery.store.stored_stage import ABOUT

KEYS = ["a" * 64, "b" * 64]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PARTS = st.sampled_from([*ABOUT, "kind", "format", "key", "digest"])
CHANGES = st.one_of(
    st.tuples(st.just("entry"), PARTS, JSON, st.booleans()),
    st.tuples(st.just("bytes"), st.sampled_from(["manifest.json", "file"]), st.binary(max_size=60)),
    st.tuples(st.just("gone"), st.sampled_from(["manifest.json", "file"])),
    st.tuples(st.just("folder"), st.sampled_from(["manifest.json", "file"])),
    st.tuples(st.just("link"), st.sampled_from(["manifest.json", "file"])),
    st.tuples(st.just("stranger"), st.text(st.sampled_from("ab.f0-"), min_size=1, max_size=8)),
)


def filled(root: Path) -> ObjectStore:
    store = ObjectStore(root)
    for number, key in enumerate(KEYS):
        about = {
            "stage": "tune", "title": "t", "recipe": "r", "code": 1, "settings": {"seed": 0}, "conditions": {"threads": 1},
            "inputs": {"in": {"key": KEYS[0] if number else None, "digest": "d"}}, "seconds": 1.0, "tokens": 3,
            "pace": "train", "made": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        with store.in_use(), store.publishing(key, about) as folder:
            (folder / "file").write_text(key)
    store.note_use("r", {}, KEYS)
    return store


def apply(folder: Path, change: tuple) -> None:
    kind, *rest = change
    path = folder / rest[0]
    if kind == "entry":
        path = folder / "manifest.json"
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError):
            return
        content[rest[0]] = rest[1]
        if rest[2]:  # a digest that fits
            content["digest"] = digest_json({name: value for name, value in content.items() if name != "digest"})
        path.write_text(json.dumps(content))
    elif kind == "stranger":
        if not path.exists():
            path.write_text("x")
    elif path.is_dir():
        return
    elif kind == "bytes":
        path.write_bytes(rest[1])
    else:
        path.unlink(missing_ok=True)
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(folder / "nowhere")


@examples(200)
@given(st.lists(st.tuples(st.sampled_from(KEYS), CHANGES), min_size=1, max_size=3))
def test_damage_never_ends_in_a_traceback_or_in_a_wrong_result(changes):
    root = Path(tempfile.mkdtemp())
    try:
        store = filled(root / "store")
        for key, change in changes:
            apply(store.folder(key), change)
        for report in (stored_stages(store), stored_stages(store, verify=True), prunable(store, older_than=0.0)):
            to_text(report.sections())
            to_json(report.as_dict())
        for key in KEYS:
            found = store.whole(key)
            assert found is None or all(
                (found.folder / name).read_text() == key for name in found.about["files"] if name == "file"
            )
            with suppress(UserError):
                to_text(explain_stage(store, key))
        report = prunable(store, older_than=0.0, all=True)
        store.remove([*(stage.key for stage in report.stages), *report.damaged])
        assert store.keys() == []
    finally:
        shutil.rmtree(root)


@examples(600)
@given(
    st.binary(max_size=80)
    | st.tuples(st.sampled_from(["kind", "recipe", "about", "figures", "key"]), JSON, st.booleans())
)
def test_a_cell_with_any_damage_is_read_as_it_was_or_refused(change):
    with tempfile.TemporaryDirectory() as folder:
        cells, key = Cells(folder), "0" * 64
        cell = FinishedCell(recipe="r", about={"system": "ks"}, figures={"accuracy": 0.5}, conditions={})
        cells.write(key, cell)
        path = Path(folder) / f"{key}.json"
        if isinstance(change, bytes):
            path.write_bytes(change)
        else:
            name, value, fits = change
            content = {**json.loads(path.read_text()), name: value}
            if fits:
                content["digest"] = digest_json({n: content[n] for n in ("recipe", "about", "figures", "conditions")})
            path.write_text(json.dumps(content))
        try:
            read = cells.read(key)
        except UserError:
            return
        assert read == cell or (not isinstance(change, bytes) and change[2])
