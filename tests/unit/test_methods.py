"""Which rows each method trains, what does not belong together, and the number of parameters of the paper's table 2."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import PeftConfig

from ks_lottery import Tickets, UserError, open_checkpoint, read_corpus, tune
from ks_lottery.config.choices import METHODS, SELECTORS
from ks_lottery.config.groups import TextSource
from ks_lottery.config.settings import TrainConfig
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.monolingual import read_sentences, token_counts
from ks_lottery.models.load import LoadedModel, load_model
from ks_lottery.tuning.adapters import Adapter, adapter_config
from ks_lottery.tuning.full import chosen_parameters
from ks_lottery.tuning.methods import default_rates
from ks_lottery.tuning.row_training import row_trainable
from ks_lottery.tuning.tune import TuneSpec, prepare


@pytest.fixture(scope="module")
def loaded(untied_model):
    return load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def corpus(text_file):
    return read_corpus(text_file, source_language="en", target_language="ca").head(8)


@pytest.fixture
def llama():
    """LLaMA-7B's shapes, without its weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig())


def rows_of(method, loaded, corpus, **more) -> Tickets:
    tickets = prepare(loaded, corpus, TuneSpec(method=method, **more)).rows
    assert tickets is not None
    return tickets


def reached(loaded, corpus) -> set[int]:
    examples = encode(loaded.tokenizer, corpus)[0]
    return {t for e in examples for t in (*e.prompt, *e.response)[:-1]} - {0}


def test_frozen_trains_what_the_text_reaches_but_the_first_tickets(loaded, corpus):
    every = sorted(reached(loaded, corpus))
    tickets = Tickets(rows=np.array([every[4], every[1], every[9], 383]), rule={})
    trained = rows_of("frozen", loaded, corpus, tickets=tickets, size=2)
    assert trained.ids.tolist() == [row for row in every if row not in {every[4], every[1]}]


def test_random_rows_come_from_the_whole_vocabulary_or_from_the_reachable_rows(loaded, corpus):
    whole = [rows_of("random", loaded, corpus, size=60, seed=s).ids for s in (0, 0, 1)]
    assert whole[0].tolist() == whole[1].tolist() != whole[2].tolist()
    assert not set(whole[0].tolist()) <= reached(loaded, corpus)
    assert set(rows_of("random-reachable", loaded, corpus, size=60).ids.tolist()) <= reached(loaded, corpus)
    tickets = Tickets(rows=np.array([5, 7, 40]), rule={})
    assert len(rows_of("random", loaded, corpus, tickets=tickets)) == 3  # as many as there are tickets


def test_frequency_counts_the_given_text_alone(loaded, corpus, tmp_path):
    file = tmp_path / "mono.txt"
    file.write_text("zz zz zz\nzz q\n", encoding="utf-8")
    sentences = read_sentences(TextSource(path=str(file)))
    counts = token_counts(loaded.tokenizer, sentences)
    assert sum(counts.values()) == sum(
        len(loaded.tokenizer(s, add_special_tokens=False)["input_ids"]) for s in sentences
    )
    top = rows_of("frequency", loaded, corpus, size=2, frequencies=counts)
    assert top.rows.tolist() == sorted(counts, key=lambda t: (-counts[t], t))[:2]
    assert read_sentences(TextSource(path=str(file))) == ["zz zz zz", "zz q"]


def test_on_the_output_side_every_row_is_reached(loaded, corpus):
    assert len(rows_of("embed", loaded, corpus, side="output")) == 384


@pytest.mark.parametrize(
    ("method", "count", "table"),
    [
        ("lora", 4_194_304, "4.2M"),
        ("qlora", 16_777_216, "17M"),
        ("prompt", 40_960, "0.04M"),
        ("prefix", 2_621_440, "2.6M"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # PEFT's
def test_parameters_of_table_2(llama, method, count, table):
    """PEFT's own count on the meta device; the paper's 0.04M "prefix tuning" is what PEFT calls prompt tuning."""
    from peft import get_peft_model

    adapted = get_peft_model(llama, adapter_config(method, llama), low_cpu_mem_usage=True)
    assert adapted.get_nb_trainable_parameters()[0] == count
    assert f"{count / 1e6:.{2 if count < 1e6 else 0 if count > 1e7 else 1}f}M" == table


def test_parameters_of_the_row_methods_in_table_2(llama):
    """Counted on what would train: 800 rows are 3,276,800 values, the 3.2M of the table, and every row 131M."""
    loaded = LoadedModel(_Shapes(), llama.requires_grad_(False), None)
    counts = []
    for rows in (800, 32_000):
        with row_trainable(loaded, np.arange(rows)) as trainable:
            counts.append(sum(p.numel() for p in trainable.model.parameters() if p.requires_grad))
            body = sum(p.numel() for p in trainable.model.parameters() if not p.requires_grad)
        assert body == 6_738_415_616  # the 6.7B of LLaMA-7B
    assert counts == [3_276_800, 131_072_000]


class _Shapes:
    """A checkpoint of LLaMA-7B's embedding, without its values."""

    vocabulary = 32_000

    def rows(self, ids, **_):
        return torch.empty((len(ids), 4096), device="meta")

    def describe(self):
        return {}


@pytest.mark.parametrize("side", ["input", "output", "both"])
def test_a_patch_counts_the_parameters_that_were_trained(loaded, corpus, side):
    tickets = Tickets(rows=np.array([5, 7, 40]), rule={})
    tuning = prepare(loaded, corpus, TuneSpec(method="partial", tickets=tickets, side=side, settings={"epochs": 1}))
    with tuning.trainable() as trainable:
        trained = sum(p.numel() for p in trainable.model.parameters() if p.requires_grad)
    patch = tuning.run().product
    base = {"input": loaded.checkpoint.rows(patch.ids), "output": loaded.lm.lm_head.weight[torch.from_numpy(patch.ids)]}
    sides = [name for name in base if patch.values_of(name) is not None]
    moved = sum(int((patch.values_of(name) != base[name]).any(dim=1).sum()) for name in sides)
    assert patch.parameters == trained
    assert moved * 32 <= trained == 3 * 32 * len(sides)


def test_defaults_are_those_of_the_paper():
    for method in ("full", "lora", "embed"):
        assert default_rates(method) == {"learning_rate": 2e-5, "epochs": 3}
    for method in ("partial", "prefix", "random", "frequency"):
        assert default_rates(method) == {"learning_rate": 1e-2, "epochs": 5}
    for name, method in METHODS.items():
        assert (method.selector in SELECTORS) == (method.kind == "rows"), name


def test_embed_tuning_alone_has_a_rate_and_epochs_of_its_own():
    tickets = Tickets(rows=np.array([5]), rule={})
    settings = {"learning_rate": 0.1, "epochs": 7, "embed_learning_rate": 0.3, "embed_epochs": 2, "batch_size": None}
    rates = []
    for method in ("embed", "partial", "frozen"):
        config = TuneSpec(method=method, tickets=tickets, settings=settings).train_config(default_rates(method))
        rates.append((config.learning_rate, config.epochs))
        assert config.batch_size == TrainConfig().batch_size
    assert rates == [(0.3, 2), (0.1, 7), (0.1, 7)]


def test_the_config_of_an_adapter_names_its_modules_in_order(loaded, tmp_path):
    """PEFT keeps them in a set, which each process would write in another order."""
    config = adapter_config("qlora", loaded.lm)
    Adapter(config=config, state={"a": torch.zeros(1)}, parameters=1, base={}).save(tmp_path)
    modules = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert len(modules) == 8
    assert modules == sorted(modules)
    assert PeftConfig.from_pretrained(str(tmp_path)).target_modules == config.target_modules


def test_layers_by_number_span_and_name(loaded):
    names = [name for name, _ in loaded.lm.named_parameters()]
    assert chosen_parameters(loaded.lm, None) == names
    assert chosen_parameters(loaded.lm, "1") == [n for n in names if ".1." in n]
    assert chosen_parameters(loaded.lm, "0-1") == [n for n in names if ".0." in n or ".1." in n]
    assert chosen_parameters(loaded.lm, "*norm*, 0") == [n for n in names if "norm" in n or ".0." in n]
    with pytest.raises(UserError, match="layers are numbered 0 to 1"):
        chosen_parameters(loaded.lm, "7")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"method": "frequency", "size": 3}, "frequency tuning needs a text of the target language"),
        ({"method": "random"}, "random tuning needs `size`"),
        ({"method": "embed", "size": 3}, "`size` is"),
        ({"method": "embed", "layers": "1"}, "`layers` is for full tuning"),
        ({"method": "lora", "side": "output"}, "`side` is for methods that train rows"),
        ({"method": "full", "quantize": "nf4"}, "full tuning trains the body"),
        ({"method": "frozen"}, "frozen tuning needs `tickets`"),
        ({"method": "partial", "tickets": Tickets(rows=np.array([9999]), rule={})}, "row 9999, but .* has 384 rows"),
        ({"weight_decay": -1.0}, r"train\.weight_decay"),
    ],
)
def test_what_does_not_belong_together(loaded, corpus, call, message):
    with pytest.raises(UserError, match=message):
        tune(loaded, corpus, **call)
