"""When a run does not measure where its tickets act, and that it says why."""

from __future__ import annotations

from types import SimpleNamespace

from ks_lottery.config.settings import EvaluateConfig, RunConfig, TextConfig
from ks_lottery.corpus.batches import Example
from ks_lottery.recipes.measurements import not_located


def job(sentences=5, tickets=(1,), located=True, monolingual=False):
    config = RunConfig(text=TextConfig(template="chat"), evaluate=EvaluateConfig(where_sentences=sentences))
    mask = (False, True) if located else None
    split = SimpleNamespace(test=SimpleNamespace(monolingual=monolingual))
    return SimpleNamespace(config=config, split=split, tickets=tickets, test=[Example([1, 2], [3], in_source=mask)])


def test_what_is_not_located_has_a_reason():
    assert not_located(job()) is None
    assert not_located(job(sentences=0)) == "evaluate.where_sentences is 0"
    assert not_located(job(monolingual=True)) == "the text is of one language and has no instruction and source"
    assert not_located(job(tickets=())) == "there is no ticket"
    assert "cannot be located in its prompt" in not_located(job(located=False))
    assert not_located(job(located=False)).endswith("(text.template 'chat')")
