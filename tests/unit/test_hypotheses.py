"""Translations that are kept as they come: stopped, gone on with, damaged, and of something else."""

from __future__ import annotations

import json

import pytest

from ks_lottery import UserError
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.evaluation import translate as module
from ks_lottery.evaluation.hypotheses import Hypotheses, read_hypotheses, read_outputs, write_hypotheses
from ks_lottery.evaluation.outputs import Output
from ks_lottery.models.load import load_model, open_checkpoint

PAIRS = [Pair(f"The house number {n} is old" + " and cold" * (n % 4), f"La casa {n}") for n in range(10)]
DONE = Output(text="a", ended=True)
MADE = {"made_from": {"base": "aa", "patch": "bb"}, "settings": {"num_beams": 2, "template": "alpaca"}}


@pytest.fixture(scope="module")
def loaded(tied_model):
    return load_model(open_checkpoint(str(tied_model)), dtype="float32", device="cpu")


@pytest.fixture
def work(loaded, monkeypatch):
    """Translates what is left in a folder, and says which prompts were given to the model."""
    form = PromptForm(loaded.tokenizer)
    prompts = form.prompts(["Translate."] * len(PAIRS), [pair.source for pair in PAIRS])
    given, plain = [], module.generate

    def spy(lm, batch, *rest):
        given.extend(prompts.index(prompt) for prompt in batch)
        return plain(lm, batch, *rest)

    monkeypatch.setattr(module, "generate", spy)

    def run(folder, tick=None):
        given.clear()
        kept = Hypotheses(folder, PAIRS, **MADE)
        settings = {"num_beams": 2, "max_new_tokens": 6, "batch_size": 3}
        module.translate(loaded.lm, form, prompts, **settings, done=kept.done, keep=kept.keep, tick=tick)
        return kept.finish().read_bytes()

    return run, given


def stop_after(count):
    def tick(done, total):
        if done >= count:
            raise KeyboardInterrupt

    return tick


def test_stopped_and_gone_on_with(work, tmp_path):
    run, given = work
    whole = run(tmp_path / "whole")
    assert sorted(given) == list(range(10))
    rows = [json.loads(line) for line in whole.splitlines()]
    assert [(row["source"], row["reference"]) for row in rows] == [(pair.source, pair.target) for pair in PAIRS]
    seen = []
    for count in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "torn", stop_after(count))
        seen += given
        assert not (tmp_path / "torn" / "hypotheses.jsonl").exists()
    ticks = []
    assert run(tmp_path / "torn", lambda done, total: ticks.append((done, total))) == whole
    assert sorted(seen + given) == list(range(10))
    assert ticks == [(6, 10), (9, 10), (10, 10)]
    assert run(tmp_path / "torn") == whole
    assert given == []


@pytest.mark.parametrize("cut", [1, 5, "in the manifest"])
def test_a_torn_last_line_is_dropped(work, tmp_path, cut):
    run, given = work
    whole = run(tmp_path)
    journal = tmp_path / "hypotheses.journal"
    content = journal.read_bytes()
    journal.write_bytes(content[:40] if cut == "in the manifest" else content[:-cut])
    assert run(tmp_path) == whole
    assert len(given) == (10 if cut == "in the manifest" else 1)
    assert journal.read_bytes() == content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"made_from": {"base": "aa", "patch": "cc"}}, "made with another patch"),
        ({"settings": {"num_beams": 4, "template": "alpaca"}}, "made with another num_beams"),
        ({"settings": {"num_beams": 2}}, "made with another template"),
        ({"pairs": PAIRS[:9]}, "made with another text"),
        ({"pairs": [*PAIRS[:9], Pair(PAIRS[9].source, "Una altra")]}, "made with another text"),
    ],
)
def test_something_else_is_refused_and_stays(tmp_path, change, said):
    Hypotheses(tmp_path, PAIRS, **MADE).keep({0: DONE, 1: Output(text="b", ended=False)})
    content = (tmp_path / "hypotheses.journal").read_bytes()
    with pytest.raises(UserError, match=said):
        Hypotheses(tmp_path, **({"pairs": PAIRS} | MADE | change))
    assert (tmp_path / "hypotheses.journal").read_bytes() == content


def test_each_batch_is_in_the_file_at_once(tmp_path):
    kept = Hypotheses(tmp_path, PAIRS, **MADE)
    wanted = {
        3: Output(text="à\u2028b", ended=True), 1: Output(text="", ended=True), 0: Output(text="c\nd", ended=False),
    }  # fmt: skip
    for batch in ({3: wanted[3], 1: wanted[1]}, {0: wanted[0]}):
        kept.keep(batch)
        assert Hypotheses(tmp_path, PAIRS, **MADE).done == kept.done
    assert kept.done == wanted
    with pytest.raises(ValueError, match="7 sentences are not translated"):
        kept.finish()


@pytest.mark.parametrize(
    "line",
    ["no JSON", "[1]", '{"x": 1}', '{"1": "b"}', '{"1": ["b", 1]}', '{"1": ["b"]}', r'{"1": ["\ud800", true]}'],
)
def test_a_damaged_journal_is_refused(tmp_path, line):
    Hypotheses(tmp_path, PAIRS, **MADE).keep({0: DONE})
    with (tmp_path / "hypotheses.journal").open("a") as handle:
        handle.write(line + "\n")
    with pytest.raises(UserError, match="is damaged: remove it"):
        Hypotheses(tmp_path, PAIRS, **MADE)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        Hypotheses(tmp_path / "file", PAIRS, **MADE).keep({0: DONE})


@pytest.mark.parametrize(
    "line",
    [
        '{"source": "a", "reference": "b"}', '{"source": "a", "reference": "b", "hypothesis": 3}', "[1]", "no JSON",
        r'{"source": "a", "reference": "b", "hypothesis": "\ud800"}',
        '{"source": "a", "reference": "b", "hypothesis": "c", "output": "c"}',
        '{"source": "a", "reference": "b", "hypothesis": "c", "output": 3, "ended": true}',
    ],
)  # fmt: skip
def test_hypotheses_that_are_none_are_refused(tmp_path, line):
    (tmp_path / "hypotheses.jsonl").write_text(f'{{"source": "a", "reference": "b", "hypothesis": "c"}}\n{line}\n')
    with pytest.raises(UserError, match=r"hypotheses\.jsonl, (entry|line) 2"):
        read_hypotheses(tmp_path)


def test_a_translation_is_one_line_that_keeps_its_no_break_spaces(loaded, monkeypatch):
    form = PromptForm(loaded.tokenizer)
    prompts = form.prompts(["Translate."], ["The house"])
    wanted = form.tokenizer(" Quelle\n heure\u202fest\u00a0il\u2028? ")["input_ids"]
    monkeypatch.setattr(module, "generate", lambda lm, batch, *rest: [wanted])
    (output,) = module.translate(loaded.lm, form, prompts)
    assert output.sentence == "Quelle heure\u202fest\u00a0il\u2028?"


def test_a_journal_of_an_earlier_version_is_refused_and_stays(tmp_path):
    """It holds texts alone, and not whether they ended."""
    Hypotheses(tmp_path, PAIRS, **MADE).keep({0: DONE})
    journal = tmp_path / "hypotheses.journal"
    about = json.loads(journal.read_text().splitlines()[0])
    journal.write_text(json.dumps({**about, "kind": "hypotheses"}) + '\n{"0": "a"}\n')
    content = journal.read_bytes()
    with pytest.raises(
        UserError, match=r"another version of ks-lottery: give another folder, or remove hypotheses\.journal"
    ):
        Hypotheses(tmp_path, PAIRS, **MADE)
    assert journal.read_bytes() == content


def test_outputs_are_read_back_and_an_earlier_file_has_none(tmp_path):
    outputs = [Output(text=" c\n\nd ", ended=False), Output(text="", ended=True)]
    file = tmp_path / "hypotheses.jsonl"
    write_hypotheses(file, ["a", "b"], ["A", "B"], [output.sentence for output in outputs], outputs)
    rows = read_hypotheses(tmp_path)
    assert [row["hypothesis"] for row in rows] == ["c d", ""]
    assert read_outputs(rows) == outputs
    write_hypotheses(file, ["a", "b"], ["A", "B"], ["c d", ""])
    assert read_outputs(read_hypotheses(tmp_path)) is None
