"""The file of --config: what is no plain, bounded YAML of settings is refused with one sentence, in bounded time."""

from __future__ import annotations

import os
import time

import pytest
import yaml

from ks_lottery import UserError
from ks_lottery.cli.config_file import LARGEST, MOST_VALUES
from ks_lottery.cli.options import read_settings

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
"""A billion laughs: ten lines that stand for 9 ** 10 values."""


def read(content: str | bytes, tmp_path, *words):
    file = tmp_path / "c.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_settings("select", ["s.parquet", "--out", "t.json", "--config", str(file), *words])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (LAUGHS, f"stands for more than {MOST_VALUES:,} values, by its aliases"),
        (f"<<: [{', '.join(['&a {seed: 1}'] + ['*a'] * 3)}]\nx: &x {{x: *x}}", "stands for more than"),
        ("x: !!python/object/apply:os.system ['touch made']", "could not determine a constructor for the tag"),
        ("x: !!python/name:os.system", "could not determine a constructor for the tag"),
        ("seed: 1\nseed: 2", "line 2, column 1: the key 'seed' is there twice"),
        ("generation: {a: 1, a: 2}", "the key 'a' is there twice"),
        ("1: 2", "has the key 1, but a key must be text"),
        ("? [a]\n: 3", "unhashable key"),
        ("seed: " + "9" * 5000, "has a value that cannot be read: Exceeds the limit (4300 digits)"),
        ("seed: 1" + "0" * 400, "seed is a number of 1,329 bits, but must be from 0 to 4,294,967,295"),
        ("seed: 0x" + "f" * 9000, "seed is a number of 36,000 bits"),
        ("alpha: 1" + "0" * 400, "alpha is inf, but must be from 0 to 1"),
        ("seed: 1.0", "seed is 1.0, but must be a whole number"),
        ("alpha: .nan", "alpha is nan, but must be from 0 to 1"),
        ("alpha: .inf", "alpha is inf, but must be from 0 to 1"),
        ("alpha: [0.5]", "alpha is [0.5], but must be a number"),
        ("interval: 3", "interval is 3, but must be a list"),
        ("seed: {}", "seed is {}, but must be a whole number"),
        ("seed: {a: 1}", "unknown config key 'seed.a'"),
        ("sede: {}", "unknown config key 'sede'"),
        ("seed:", "seed is empty (null), but must be a whole number: leave it out for the default"),
        ("\tseed: 1", "line 1, column 1: found character"),
        (b"seed: \xff", "is not UTF-8: save it as that"),
        (b"\xff\xfes\0e\0", "is not UTF-8"),
        ("[" * 5000, "is nested too deeply"),
        ("{a: " * 3000, "is nested too deeply"),
        ("target_language: no", "target_language is False, but must be text: put it in quotes"),
        ("target_language: 2020-01-01", "but must be text: put it in quotes"),
        ('dataset_split: "\\0"', "but must be text without NUL characters"),
        ("seed: 2020-13-45", "has a value that cannot be read: month must be in 1..12"),
        ("a: 1\n---\nb: 2", "is not YAML: line 2, column 1"),
        ("x" * (LARGEST + 1), f"has more than the {LARGEST:,} bytes that are read"),
        ("target: ''", "target is empty: give a value, or leave it out"),
        ('by: "\\e[31m"', r"by is '\x1b[31m', but must be one of"),
        ('"\\e[31m": 1', r"unknown config key '\x1b[31m'"),
        ("out: .", "out is '.', but must be the name of a file to write"),
        ("a\x07: 1", "is not YAML"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_refused_with_one_sentence(content, named, tmp_path):
    start = time.perf_counter()
    with pytest.raises(UserError) as caught:
        read(content, tmp_path)
    assert named in str(caught.value)
    assert "c.yaml" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    assert time.perf_counter() - start < 20
    assert list(tmp_path.iterdir()) == [tmp_path / "c.yaml"]


@pytest.mark.parametrize("content", ["", "~", "# nothing", "top_k:", "{}", "\ufeffseed: 0"])
def test_what_says_nothing_changes_nothing(content, tmp_path):
    assert read(content, tmp_path) == read_settings("select", ["s.parquet", "--out", "t.json"])


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("seed: &a 3\ntop_k: *a", {"seed": 3, "top_k": 3}),
        ("<<: {seed: 5, by: kl}\nby: cos", {"seed": 5, "by": "cos"}),
        ("alpha: '0.5'", {"alpha": 0.5}),
        ("seed: '7'", {"seed": 7}),
        ("interval: [0, 0.5]", {"interval": (0.0, 0.5)}),
        ("source_column: 1", {"source_column": "1"}),
        ("instruction: ''", {"instruction": ""}),
    ],
)
def test_plain_yaml_is_read_as_pyyaml_reads_it(content, values, tmp_path):
    settings = read(content, tmp_path)
    assert {name: getattr(settings, name) for name in values} == values
    assert set(values) == set(yaml.safe_load(content)) - {"<<"}


def test_a_key_of_a_section_and_its_dotted_name_are_the_same(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("train:\n  epochs: 1\ntrain.epochs: 2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"sets 'train\.epochs' twice: keep one"):
        read_settings("run", [str(file), "--out", "x"])
    for content in ("train:\n", "train: {}\n", "train: null\nselect:\n"):
        file.write_text(content, encoding="utf-8")
        assert read_settings("run", [str(file), "--out", "x"]) == read_settings("run", ["--out", "x"])
    for content in ("train: 5\n", "train: []\n", "train: text\n"):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match="train is .*, but must be names with values"):
            read_settings("run", [str(file), "--out", "x"])


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name, named in {
        ".": "is a folder", "pipe": "is not a regular file", "dangling": "does not exist", "loop": "cannot be read: Too many",
        "x" * 5000: "cannot be read: File name too long",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=named) as caught:
            read_settings("select", ["s", "--out", "t", "--config", str(tmp_path / name)])
        assert len(str(caught.value)) < 400
    for name, named in {"": "--config is empty", "/dev/zero": "is not a regular file"}.items():
        with pytest.raises(UserError, match=named):
            read_settings("select", ["s", "--out", "t", "--config", name])


WRITES = {
    "select": ["s"], "transfer": ["m", "p", "--tickets", "t"], "export": ["p", "--to", "peft"], "run": [], "demo": [],
    "scan": ["a", "b"], "explain": ["t"], "alike": ["a", "b"], "evaluate": ["m", "--data", "t"],
    "certify": ["m", "--tuned", "e", "--data", "t"], "tune": ["m", "--train", "t"],
}  # fmt: skip


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("out", ["", "/", "//"])
def test_nothing_is_written_to_no_place(command, out):
    with pytest.raises(UserError, match=r"^--out is (empty|'/+', but must be the name of)"):
        read_settings(command, [*WRITES[command], "--out", out])


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("out", ["x" * 256, "é" * 128, f"a/{'x' * 300}/b"])
def test_a_name_that_no_file_system_takes_is_refused_before_anything_is_computed(command, out, tmp_path):
    with pytest.raises(UserError, match=r"^--out is .*, but a name has at most 255 bytes"):
        read_settings(command, [*WRITES[command], "--out", out])
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="too long"):
        (tmp_path / out).stat()


@pytest.mark.parametrize("command", ["select", "scan", "explain", "alike"])
def test_a_file_to_write_is_no_folder(command, tmp_path):
    for out in (".", "..", "a/..", "a/", str(tmp_path)):
        with pytest.raises(UserError, match=r"^--out is "):
            read_settings(command, [*WRITES[command], "--out", out])
    assert read_settings(command, [*WRITES[command], "--out", str(tmp_path / "x")]).out == str(tmp_path / "x")


@pytest.mark.parametrize("command", ["transfer", "export", "certify", "tune"])
def test_a_new_folder_is_not_the_one_that_the_user_is_in(command):
    for out in (".", "..", "a/.."):
        with pytest.raises(UserError, match=r"^--out is .*, but must be the name of a new folder to write"):
            read_settings(command, [*WRITES[command], "--out", out])


def test_a_run_resumes_in_the_folder_that_the_user_is_in():
    assert read_settings("run", ["--out", "."]).out == "."


@pytest.mark.parametrize("value", ["NaN", "[1, Infinity]", "9" * 30, "[" * 50 + "]" * 50, '{"a": {"b": NaN}}'])
def test_values_without_a_type_that_cannot_be_saved_are_refused(value):
    with pytest.raises(UserError, match="^--generation: a is .*, but must be a finite number, text"):
        read_settings("evaluate", ["m", "--data", "t", "--generation", f"a={value}"])


@pytest.mark.parametrize(
    ("value", "read"),
    [("1", 1), ("0.5", 0.5), ("true", True), ("[1, 2]", [1, 2]), ("x", "x"), ("[" * 9999, "[" * 9999)],
)
def test_values_without_a_type_are_those_of_json(value, read):
    settings = read_settings("evaluate", ["m", "--data", "t", "--generation", f"a={value}"])
    assert settings.generation == {"a": read}
