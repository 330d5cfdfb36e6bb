"""What a user of transformers, peft and scipy does with the library, from disk and in memory: the results are the same."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import ks_lottery as ks
from ks_lottery.models.quiet import quiet

SETTINGS = {"epochs": 2, "learning_rate": 1e-2}
MEASURED = {"metrics": ["chrf", "accuracy"], "num_beams": 1, "max_new_tokens": 4, "translations": 2, "resamples": 20}


@pytest.fixture(params=["narrow_model", "narrow_untied_model"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def pretrained(folder):
    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def text(text_file):
    corpus = ks.read_corpus(text_file, source_language="en", target_language="ca", limit=60)
    return ks.split(corpus, calibration=0.2, test=0.2)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_in_memory_and_from_disk_give_the_same(folder, pretrained, text, tmp_path):
    model, tokenizer = pretrained
    before = weights(model)
    on_disk = ks.load_model(str(folder), dtype="float32", device="cpu")
    in_memory = ks.from_memory(model, tokenizer)
    assert in_memory.lm is model
    assert in_memory.checkpoint == on_disk.checkpoint
    assert in_memory.checkpoint.fingerprint == on_disk.checkpoint.fingerprint
    assert hash(in_memory.checkpoint) == hash(on_disk.checkpoint)

    tuned = ks.tune(on_disk, text.train, **SETTINGS)
    assert ks.tune(in_memory, text.train, **SETTINGS) == tuned
    assert len(tuned) > 0
    scan = ks.scan(folder, tuned)
    assert ks.scan(in_memory, tuned) == ks.scan(on_disk, tuned) == scan
    tickets = ks.select(scan, alpha=0.05)
    assert len(tickets) > 0
    small = ks.tune(in_memory, text.train, method="partial", tickets=tickets, **SETTINGS)

    paths = {
        "tuned": tuned.save(tmp_path / "tuned"), "small": small.save(str(tmp_path / "small")),
        "scan": scan.save(str(tmp_path / "scan.parquet")), "tickets": tickets.save(tmp_path / "tickets.json"),
        "text": text.test.save(tmp_path / "test.jsonl"),
    }  # fmt: skip
    certificates = [
        ks.certify(base, *given, alphas=(0.05, 1.0), tickets=chosen, small={"partial": one})
        for base, given, chosen, one in (
            (in_memory, (tuned, scan, text.test), tickets, small),
            (on_disk, (paths["tuned"], str(paths["scan"]), paths["text"]), str(paths["tickets"]), paths["small"]),
            (on_disk, (tuned, None, text.test), tickets, str(paths["small"])),
        )
    ]
    assert certificates[0] == certificates[1] == certificates[2]
    assert ks.Certificate.open(certificates[0].save(tmp_path)) == certificates[0]

    evaluations = [
        ks.evaluate(in_memory, text.test, small, **MEASURED),
        ks.evaluate(on_disk, paths["text"], str(paths["small"]), **MEASURED),
    ]
    assert evaluations[0] == evaluations[1]
    assert ks.Evaluation.open(evaluations[0].save(tmp_path / "evaluation")) == evaluations[0]
    gradients = [ks.row_gradients(base, text.test) for base in (in_memory, on_disk)]
    assert gradients[0] == gradients[1]
    assert ks.select_by_attribution(gradients[0], "gradient", 3) == ks.select_by_attribution(
        gradients[1], "gradient", 3
    )
    lengths = [ks.inspect(text.test, base).as_dict()["lengths"] for base in (in_memory, str(folder))]
    assert lengths[0] == lengths[1]
    after = weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_two_models_in_memory_are_scanned_as_their_folders_are(folder, pretrained, tmp_path):
    model, tokenizer = pretrained
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.get_input_embeddings().weight[7:9] += 0.05
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    for units in ("embedding", "all"):
        expected = ks.scan(folder, tmp_path / "other", units=units)
        assert ks.scan(model, other, units=units) == expected
        assert ks.scan(ks.from_memory(model, tokenizer), ks.from_memory(other, tokenizer), units=units) == expected
    assert np.flatnonzero(ks.scan(model, other).moved).tolist() == [7, 8]


def test_training_a_model_changes_its_fingerprint(pretrained, text):
    loaded = ks.from_memory(*pretrained)
    tuned = ks.tune(loaded, text.train, **SETTINGS)
    first = loaded.checkpoint.fingerprint
    model = loaded.lm.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss.backward()
    optimizer.step()
    assert loaded.checkpoint.fingerprint != first
    with pytest.raises(ks.UserError, match="give the base that the patch belongs to"):
        ks.scan(loaded, tuned)


def test_a_patch_on_a_model_answers_as_its_merged_folder(folder, pretrained, text, tmp_path):
    model, _ = pretrained
    tuned = ks.tune(folder, text.train, dtype="float32", device="cpu", **SETTINGS)
    merged = ks.to_merged(folder, tuned.save(tmp_path / "patch"), str(tmp_path / "merged"))
    tokens = torch.arange(20, 40).unsqueeze(0)
    with quiet():
        expected = AutoModelForCausalLM.from_pretrained(merged, dtype="float32").eval()(tokens).logits
    model.eval()
    before, plain = weights(model), model(tokens).logits
    for given in (tuned, tmp_path / "patch", str(tmp_path / "patch")):
        with ks.applied(given, model) as patched:
            assert patched is model
            assert torch.allclose(patched(tokens).logits, expected, atol=1e-6)
    assert torch.equal(model(tokens).logits, plain)
    assert weights(model).keys() == before.keys()

    ks.applied(tuned, model, permanently=True)
    assert torch.allclose(model(tokens).logits, expected, atol=1e-6)
    model.save_pretrained(tmp_path / "kept")
    assert ks.open_checkpoint(tmp_path / "kept") == ks.open_checkpoint(merged)
    assert ks.open_checkpoint(model) == ks.open_checkpoint(merged)


def test_a_loaded_model_with_rows_for_good_is_another_base(pretrained, text):
    loaded = ks.from_memory(*pretrained)
    tuned = ks.tune(loaded, text.train, **SETTINGS)
    expected = ks.evaluate(loaded, text.test, tuned, metrics=["accuracy"]).predictions
    with ks.applied(tuned, loaded, permanently=True) as model:
        assert model is loaded.lm
    assert ks.evaluate(loaded, text.test, metrics=["accuracy"]).predictions == expected
    with pytest.raises(ks.UserError, match="give the base that the patch belongs to"):
        ks.applied(tuned, loaded)
    again = ks.tune(loaded, text.train, **SETTINGS)
    assert again.base["fingerprint"] != tuned.base["fingerprint"]


def test_every_method_takes_a_model_in_memory(pretrained, text, tmp_path):
    loaded = ks.from_memory(*pretrained)
    before = weights(loaded.lm)
    adapter = ks.tune(loaded, text.train, method="lora", **SETTINGS)
    by_object, by_folder = (
        ks.evaluate(loaded, text.test, product, metrics=["accuracy"])
        for product in (adapter, adapter.save(tmp_path / "lora"))
    )
    assert by_object.predictions == by_folder.predictions
    assert by_object != ks.evaluate(loaded, text.test, metrics=["accuracy"])
    tuned = ks.tune(loaded, text.train, method="full", epochs=1, learning_rate=1e-3)
    assert tuned.loaded.lm is not loaded.lm
    assert len(ks.scan(loaded, tuned.save(str(tmp_path / "full"))).parts) == 1
    assert all(torch.equal(before[name], value) for name, value in loaded.lm.state_dict().items())


def test_exports_of_a_model_in_memory_are_those_of_its_folder(folder, pretrained, text, tmp_path):
    loaded = ks.from_memory(*pretrained)
    tuned = ks.tune(loaded, text.train, **SETTINGS)
    for export in (ks.to_merged, ks.to_peft):
        first, second = (
            export(base, tuned, tmp_path / f"{export.__name__}{i}") for i, base in enumerate((folder, loaded))
        )
        file = "model.safetensors" if export is ks.to_merged else "adapter_model.safetensors"
        assert (first / file).read_bytes() == (second / file).read_bytes()
    with quiet():
        AutoModelForCausalLM.from_pretrained(tmp_path / "to_merged1")
        AutoTokenizer.from_pretrained(tmp_path / "to_merged1")


def test_a_learning_rate_that_moves_nothing_is_warned_of_once(folder, text):
    loaded = ks.load_model(folder, dtype="float32", device="cpu")
    assert ks.load_model(loaded) is loaded
    with pytest.warns(ks.LearningRateWarning, match="will find no tickets.*Give a learning rate above") as warned:
        tuned = ks.tune(loaded, text.train, epochs=1, learning_rate=2e-5)
    assert len(warned) == 1
    scan = ks.scan(loaded, tuned)
    assert len(ks.select(scan, allow_empty=True)) == 0
    with pytest.raises(
        ks.UserError, match=r"no row is a ticket.*Tune with a learning rate of about 0\.00\d+ instead of 2e-05"
    ):
        ks.select(scan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ks.tune(loaded, text.train, **SETTINGS)


def test_calls_are_silent_unless_progress_is_asked_for(folder, text, capfd):
    loaded = ks.load_model(folder, dtype="float32", device="cpu")
    said = []
    for progress in (False, True):
        tuned = ks.tune(loaded, text.train, progress=progress, **SETTINGS)
        ks.scan(loaded, tuned, progress=progress)
        ks.evaluate(loaded, text.test, tuned, metrics=["accuracy"], progress=progress)
        ks.certify(loaded, tuned, None, text.test, alphas=(1.0,), progress=progress)
        ks.row_gradients(loaded, text.test, progress=progress)
        said.append(capfd.readouterr())
    assert said[0] == ("", "")
    assert said[1].err == ""
    titles = ("embed tuning", "scan", "next-token predictions", "predictions of every model", "gradients")
    assert len(said[1].out.splitlines()) == 5
    assert all(title in line for title, line in zip(titles, said[1].out.splitlines(), strict=True))


@pytest.mark.parametrize("call", ["tune", "evaluate", "certify", "row_gradients"])
def test_a_model_without_its_tokenizer_is_refused_where_text_is_read(call, pretrained, text):
    model, _ = pretrained
    given = {"certify": ("patch", None, text.test)}.get(call, (text.test,))
    with pytest.raises(ks.UserError) as refused:
        getattr(ks, call)(model, *given)
    assert "from_memory(model, tokenizer)" in str(refused.value) or call == "certify"


def test_what_is_no_model_is_refused():
    with pytest.raises(ks.UserError, match="a Linear is no model of transformers: give a PreTrainedModel"):
        ks.open_checkpoint(torch.nn.Linear(2, 2))
