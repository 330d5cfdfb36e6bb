"""Random outputs, general texts and damaged evaluations: a result or one UserError, and figures of a definition."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from amount import examples
from hypothesis import given
from hypothesis import strategies as st

from ks_lottery import Corpus, Evaluation, Pair, RowPatch, UserError
from ks_lottery.evaluation.evaluate import evaluate_with
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
from ks_lottery.evaluation.general_text import general_sentences
from ks_lottery.evaluation.hypotheses import Hypotheses, read_hypotheses, read_outputs
from ks_lottery.evaluation.outputs import Output
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.report.terminal import to_text

TEXT = st.text(max_size=30) | st.text(" a\n\r\t\u2028\u00a0é", max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
PAIRS = tuple(Pair(f"The house number {n}", f"La casa {n}") for n in range(4))
CORPUS = Corpus(PAIRS, "en", "ca", "here")
SPEC = EvaluationSpec(metrics=("accuracy",), resamples=3, batch_size=4)


def check_one_line(error: UserError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 600


@pytest.fixture(scope="module")
def loaded(tied_model):
    return load_model(open_checkpoint(str(tied_model)), dtype="float32", device="cpu")


@examples(120)
@given(
    outputs=st.lists(
        st.tuples(TEXT.filter(lambda text: text.isascii() or text.isprintable()), st.booleans()), max_size=4
    )
)
def test_outputs_come_back_from_journal_and_file(outputs):
    folder = Path(tempfile.mkdtemp())
    try:
        made = [Output(text=text, ended=ended) for text, ended in outputs]
        pairs = PAIRS[: len(made)]
        journal = Hypotheses(folder, pairs, made_from={}, settings={})
        journal.keep(dict(enumerate(made)))
        again = Hypotheses(folder, pairs, made_from={}, settings={})
        assert again.done == dict(enumerate(made))
        again.finish()
        assert read_outputs(read_hypotheses(folder)) == made
        for output in made:
            kept = output.text.strip(" \t\r\n")
            assert not {"\n", "\r", "\t"} & set(output.sentence + output.first_line)
            assert output.sentence.startswith(output.first_line)
            assert ("\n" in kept or "\r" in kept) or output.first_line == output.sentence
    finally:
        shutil.rmtree(folder)


@examples(100)
@given(
    sentences=st.lists(
        st.text(max_size=20)
        | st.text("abc house", max_size=40)
        | st.sampled_from(["</s>", "<s>a", "\ud800", "house " * 600]),
        max_size=5,
    ),
    rows=st.sets(st.integers(0, 383), max_size=60),
    limit=st.none() | st.integers(1, 40),
)
def test_any_general_text_has_figures_of_the_definition(loaded, sentences, rows, limit):
    ids = np.array(sorted(rows), dtype=np.int64)
    patch = RowPatch(ids, loaded.checkpoint.rows(ids) + 0.5, loaded.checkpoint.describe())
    try:
        found = evaluate_with(
            EvaluationSpec(metrics=("accuracy",), resamples=3, batch_size=4, max_tokens=limit and limit + 200),
            loaded, CORPUS, patch, general=general_sentences(sentences),
        ).forgetting  # fmt: skip
    except UserError as error:
        check_one_line(error)
        return
    tokens = [loaded.tokenizer(sentence)["input_ids"] for sentence in sentences]
    tokens = [t[:-1] if t and t[-1] == 2 else t for t in tokens]
    fitting = [t for t in tokens if len(t) <= (512 if limit is None else limit + 200)]
    used = [t for t in fitting if len(t) > 1]
    assert (found.sentences, found.short) == (len(used), len(fitting) - len(used))
    assert found.overlong == len(tokens) - len(fitting)
    assert found.positions == sum(len(t) - 1 for t in used)
    assert found.untouched == found.identical == sum(not rows & set(t) for t in used)
    assert found.loss_difference == pytest.approx(found.loss - found.original_loss, abs=1e-5)
    to_text(found.sections())


@cache
def saved(model: str) -> dict[str, bytes]:
    """Return the files of an evaluation that has every part of this machine."""
    loaded = load_model(open_checkpoint(model), dtype="float32", device="cpu")
    spec = EvaluationSpec(metrics=("chrf", "accuracy"), num_beams=1, max_new_tokens=3, resamples=3)
    ids = np.array([5], dtype=np.int64)
    patch = RowPatch(ids, loaded.checkpoint.rows(ids) + 0.5, loaded.checkpoint.describe())
    with tempfile.TemporaryDirectory() as folder:
        evaluate_with(spec, loaded, CORPUS, patch, general=["The house", "A dog"]).save(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


@examples(250)
@given(
    part=st.sampled_from(["forgetting", "ended", "first_line", "next_token", "file"]),
    key=st.integers(0, 30),
    value=JSON,
    gone=st.booleans(),
)
def test_a_damaged_evaluation_opens_or_is_one_user_error(tied_model, part, key, value, gone):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in saved(str(tied_model)).items():
            (folder / file).write_bytes(content)
        if part == "file":
            lines = (folder / "hypotheses.jsonl").read_text().splitlines()
            row = json.loads(lines[0])
            row[sorted(row)[key % len(row)]] = value
            (folder / "hypotheses.jsonl").write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")
        else:
            content = json.loads((folder / "evaluation.json").read_text())
            inner = content[part]
            target = sorted(inner)[key % len(inner)]
            if gone:
                del inner[target]
            else:
                inner[target] = value
            (folder / "evaluation.json").write_text(json.dumps(content))
        try:
            opened = Evaluation.open(folder)
        except UserError as error:
            check_one_line(error)
            return
        to_text(opened.sections())
