"""Records: JSON of each kind, Alpaca's instructions, and Hugging Face datasets that the datasets library wrote."""

from __future__ import annotations

import gzip
import json

import datasets
import pytest

from ks_lottery import Corpus, UserError, read_corpus
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompts import orders, usual_order

PAIRS = [("The house is old", "La casa és vella"), ("Hello, world", "Hola, món")]
NESTED = [{"translation": {"en": s, "ca": t}} for s, t in PAIRS]


def read(path, **more):
    corpus = read_corpus(path, **{"source_language": "en", "target_language": "ca", **more})
    return [(pair.source, pair.target) for pair in corpus]


def alpaca(path, records):
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def test_an_alpaca_file_keeps_its_instructions(tmp_path):
    told = ["Translate to Catalan.", "Say it in Catalan."]
    records = [{"instruction": i, "input": s, "output": t} for i, (s, t) in zip(told, PAIRS, strict=True)]
    records.append({"instruction": "Name three colours.", "input": "", "output": "Vermell, verd, blau."})
    records.append({"instruction": None, "input": "Good night", "output": "Bona nit"})
    corpus = read_corpus(alpaca(tmp_path / "a.json", records), source_language="en", target_language="ca")
    general = "Translate the following sentence from English to Catalan."
    assert orders(corpus) == [*told, "Name three colours.", general]
    assert not corpus.left_out
    assert orders(corpus.with_instruction("Do it.")) == ["Do it.", "Do it.", "Name three colours.", "Do it."]
    corpus.save(tmp_path / "b.jsonl")
    again = read_corpus(tmp_path / "b.jsonl", source_language="en", target_language="ca")
    assert again.pairs == corpus.pairs
    assert again.fingerprint == corpus.fingerprint != corpus.with_instruction("").fingerprint


@pytest.mark.parametrize("empty", [{"input": ""}, {"input": None}, {"input": " \n"}, {}])
def test_an_instruction_without_an_input_is_an_example(tmp_path, empty):
    records = [{"instruction": f"Name {n} colours.", **empty, "output": "Red."} for n in range(3)]
    records.append({"instruction": "", **empty, "output": "Lost."})
    for name, content in (("a.json", json.dumps(records)), ("a.jsonl", "\n".join(map(json.dumps, records)))):
        file = tmp_path / name
        file.write_text(content)
        corpus = read_corpus(file, source_language="en", target_language="ca")
        assert [(p.source, p.target, p.instruction) for p in corpus] == [
            ("", "Red.", f"Name {n} colours.") for n in range(3)
        ]
        assert corpus.left_out == {"empty": 1}
        assert read_corpus(corpus.save(tmp_path / "b.jsonl"), source_language="en", target_language="ca") == corpus


def test_a_record_without_instruction_needs_its_input(tmp_path):
    file = alpaca(tmp_path / "a.json", [{"input": "a", "output": "b"}, {"output": "b"}])
    with pytest.raises(UserError, match="record 2 has no 'input'; it has output"):
        read(file)


def test_the_usual_order_is_the_most_frequent():
    pairs = [Pair("a", "b", instruction=told) for told in ("x", "", "y", "y", "x")]
    assert usual_order(Corpus(tuple(pairs), "en", "ca", "test")) == "x"
    assert usual_order(Corpus(tuple(pairs[1:]), "en", "ca", "test")) == "y"


def test_json_lines_under_the_ending_json(tmp_path):
    file = tmp_path / "a.json.gz"
    with gzip.open(file, "wt", encoding="utf-8") as handle:
        handle.write("\n".join(json.dumps({"en": s, "ca": t}) for s, t in PAIRS))
    assert read(file) == PAIRS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[\n{"input": "a",\n"output": "b"\n', r"a\.json is not valid JSON .*line 4"),
        ("3", "does not hold a list of objects"),
        ("[3]", "record 1 is not an object"),
        ("[[]]", "record 1 is not an object"),
        ("", "not valid JSON"),
        ("[]", "holds no pairs"),
        (
            '[{"input": "a", "output": "b"}, {"input": "a", "output": ["b"]}]',
            "record 2: 'output' is list, but must be text",
        ),
    ],
)
def test_damaged_json_is_named(tmp_path, content, message):
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("codes", [("en", "ca"), ("eng_Latn", "cat_Latn"), ("en-US", "ca_ES"), ("English", "Catalan")])
def test_languages_by_variant(tmp_path, codes):
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"id": 1, codes[0]: s, codes[1]: t}) + "\n" for s, t in PAIRS))
    assert read(file) == PAIRS


def test_a_key_inside_another_can_be_named(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"texts": {"orig": s, "trans": t}}) + "\n" for s, t in PAIRS))
    assert read(file, source_column="texts.orig", target_column="texts.trans") == PAIRS
    with pytest.raises(UserError, match=r"it has texts\.orig, texts\.trans: name them"):
        read(file)
    with pytest.raises(UserError, match=r"record 1 has no 'texts\.en'; it has texts\.orig, texts\.trans"):
        read(file, source_column="texts.en", target_column="texts.trans")


@pytest.fixture
def parquet(tmp_path):
    """A folder with two configurations is what the hub serves; the datasets library writes the files."""
    folder = tmp_path / "opus"
    for config, rows in (("ca-en", NESTED), ("de-en", [{"translation": {"en": "Hello", "de": "Hallo"}}])):
        (folder / config).mkdir(parents=True)
        datasets.Dataset.from_list(rows).to_parquet(folder / config / "train.parquet")
    (folder / "ca-en" / "test.parquet").write_bytes((folder / "ca-en" / "train.parquet").read_bytes())
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: ca-en\n  data_files:\n  - {split: train, path: ca-en/train.parquet}\n"
        "  - {split: test, path: ca-en/test.parquet}\n- config_name: de-en\n  data_files: de-en/train.parquet\n---\n"
    )
    return folder


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_with_configurations(parquet, streaming):
    assert read(parquet, dataset_config="ca-en", streaming=streaming) == PAIRS
    assert read(parquet, dataset_config="ca-en", dataset_split="test", streaming=streaming, limit=1) == PAIRS[:1]
    german = read(parquet, dataset_config="de-en", target_language="de", streaming=streaming)
    assert german == [("Hello", "Hallo")]
    with pytest.raises(UserError, match=r"translation\.de, translation\.en|translation\.en, translation\.de"):
        read(parquet, dataset_config="de-en", streaming=streaming)


@pytest.mark.parametrize(
    ("more", "named"), [({}, "ca-en"), ({"dataset_config": "fr"}, "fr"), ({"dataset_split": "dev"}, "dev")]
)
def test_a_dataset_that_cannot_be_read_is_one_sentence(parquet, more, named):
    with pytest.raises(UserError, match=named) as caught:
        read(parquet, **{"dataset_config": "ca-en" if more else None, **more})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_damaged_dataset_is_one_sentence(parquet, streaming):
    file = parquet / "ca-en" / "train.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="dataset .*opus cannot be read"):
        read(parquet, dataset_config="ca-en", streaming=streaming)


def test_a_dataset_written_by_save_to_disk(tmp_path):
    rows = datasets.Dataset.from_list([{"src": s, "tgt": t} for s, t in [*PAIRS, (None, "x")]])
    rows.save_to_disk(tmp_path / "one")
    assert read(tmp_path / "one", source_column="src", target_column="tgt") == PAIRS
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "many")
    assert read(tmp_path / "many", source_column="src", target_column="tgt") == PAIRS
    with pytest.raises(UserError, match="no split dev; it has train"):
        read(tmp_path / "many", dataset_split="dev")


def test_json_lines_that_the_datasets_library_wrote(tmp_path):
    datasets.Dataset.from_list([{"source": s, "target": t} for s, t in PAIRS]).to_json(tmp_path / "a.jsonl")
    assert read(tmp_path / "a.jsonl") == PAIRS


def test_streaming_is_for_datasets(tmp_path):
    (tmp_path / "a.tsv").write_text("a\tb\n")
    with pytest.raises(UserError, match="streaming is for Hugging Face datasets, but .*a.tsv is read as tsv"):
        read(tmp_path / "a.tsv", streaming=True)


def test_a_lone_surrogate_leaves_out_its_pair_alone(tmp_path):
    file = tmp_path / "a.jsonl"
    rows = [
        r'{"source": "one \ud800 two", "target": "un"}', r'{"source": "one", "target": "\udc00"}',
        r'{"source": "one", "target": "un", "instruction": "\ud800"}',
        r'{"source": "one", "target": "un", "document": "\ud800"}',
        r'{"source": "\ud83d\ude00", "target": "un"}',
    ]  # fmt: skip
    file.write_text("\n".join(rows))
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [(p.source, p.target) for p in corpus] == [("\U0001f600", "un")]
    assert corpus.left_out == {"invalid characters": 4}
    assert read_corpus(corpus.save(tmp_path / "b.jsonl"), source_language="en", target_language="ca") == corpus


def test_a_sentence_that_is_too_long_is_left_out_before_it_costs_anything(tmp_path):
    file = tmp_path / "a.jsonl"
    rows = [{"source": "a" * n, "target": "b"} for n in (100_000, 100_001, 10_000_000)]
    rows += [{"source": "a", "target": "b" * 100_001}, {"source": "a", "target": "b", "instruction": "c" * 100_001}]
    file.write_text("\n".join(map(json.dumps, rows)))
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [len(p.source) for p in corpus] == [100_000]
    assert corpus.left_out == {"too long": 4}


@pytest.mark.parametrize("ending", ["jsonl", "json"])
@pytest.mark.parametrize(
    "content",
    [
        "[" * 50_000,
        '{"a":' * 50_000,
        '{"source": ' + "9" * 5_000 + ', "target": "b"}',
        "3\n",
        "null\n",
        "[1]\n",
        '"a"\n',
    ],
)
def test_json_of_every_other_kind_is_one_sentence(tmp_path, ending, content):
    file = tmp_path / f"a.{ending}"
    file.write_text(content)
    with pytest.raises(UserError) as caught:
        read_corpus(file, source_language="en", target_language="ca")
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_deep_document_is_no_name(tmp_path):
    deep = "[" * 900 + "]" * 900
    file = tmp_path / "a.jsonl"
    file.write_text(
        f'{{"source": "a", "target": "b", "document": {deep}}}\n{{"source": "c", "target": "d", "document": 7}}'
    )
    try:
        corpus = read_corpus(file, source_language="en", target_language="ca")
    except UserError as error:
        assert "nested too deeply" in str(error)  # noqa: PT017 (which of both depends on Python)
    else:
        assert [p.document for p in corpus] == ["", "7"]


def test_a_nul_character_leaves_out_its_pair_alone(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"source": "a \\u0000b", "target": "c"}\n{"source": "d", "target": "e"}\n', encoding="utf-8")
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [(pair.source, pair.target) for pair in corpus] == [("d", "e")]
    assert corpus.left_out == {"invalid characters": 1}
