"""`agree`: any two models that share a tokenizer, by the procedure of `certify`; against transformers and certify itself."""

from __future__ import annotations

import gc
import json
import re
import shutil
import weakref

import gguf
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import hypergeom
from transformers import AutoModelForCausalLM, AutoTokenizer

import ks_lottery
from ks_lottery import Agreed, UserError, agree, certify, load_model, open_checkpoint, read_corpus, to_merged, tune
from ks_lottery.cli.main import main
from ks_lottery.models import opened_model
from ks_lottery.models.quiet import quiet
from ks_lottery.stats.betting import betting_upper

HOW = ["--dtype", "float32"]
LANGUAGES = {"source_language": "en", "target_language": "ca"}


def fails(capfd, *arguments: object) -> str:
    capfd.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def result(capfd, *arguments: object, code: int = 0) -> dict:
    capfd.readouterr()
    assert main(["agree", *map(str, arguments), *HOW, "--json"]) == code
    return json.loads(capfd.readouterr().out)


def bounds_of(content: dict, model: str) -> dict[str, dict]:
    return {one["bounded"]: one for one in content["guarantees"] if one["model"] == model}


def copy_with_noise(model, out, scale):
    """Copy a model folder, with noise on every matrix of its blocks."""
    shutil.copytree(model, out)
    tensors = load_file(out / "model.safetensors")
    generator = torch.Generator().manual_seed(3)
    for name, tensor in tensors.items():
        if ".layers." in name:
            tensors[name] = tensor + scale * torch.randn(tensor.shape, generator=generator)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


@pytest.fixture(scope="module")
def family(narrow_untied_model, tmp_path_factory):
    """A model, and two copies with little and with more noise."""
    folder = tmp_path_factory.mktemp("family")
    shutil.copytree(narrow_untied_model, folder / "full")
    copy_with_noise(narrow_untied_model, folder / "q8", 0.0005)
    copy_with_noise(narrow_untied_model, folder / "q4", 0.02)
    return folder


@pytest.fixture(scope="module")
def lines_file(text_file, tmp_path_factory):
    file = tmp_path_factory.mktemp("lines") / "lines.txt"
    pairs = [line.split("\t") for line in text_file.read_text(encoding="utf-8").splitlines()]
    file.write_text("".join(f"{source}\n" for source, _ in pairs), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def tuned(narrow_untied_model, text_file, tmp_path_factory):
    """Embed tuning, LoRA and prefix tuning of the model, and the model with the first merged."""
    folder = tmp_path_factory.mktemp("tuned-models")
    loaded = load_model(open_checkpoint(narrow_untied_model), dtype="float32", device="cpu")
    text = read_corpus(text_file, **LANGUAGES).head(24)
    for method in ("embed", "lora", "prefix"):
        made = tune(loaded, text, method=method, epochs=2, learning_rate=1e-2)
        made.save(folder / method)
        if method == "embed":
            made.restrict(made.ids[: len(made) // 2]).save(folder / "half")
            to_merged(loaded, made, folder / "merged")
    return folder


def test_plain_text_against_transformers(family, lines_file, tmp_path, capfd):
    """Every position of the drawn lines, and the greedy outputs, by transformers alone."""
    out = tmp_path / "out"
    flags = ["--data", lines_file, "--calibration", "40", "--generate", "--max-new-tokens", "6", "--out", out]
    content = result(capfd, family / "full", family / "q8", family / "q4", *flags)
    tokenizer = AutoTokenizer.from_pretrained(family / "full")
    drawn = json.loads((out / "calibration" / "calibration.json").read_text())
    assert (drawn["pool"]["units"], drawn["pool"]["drawn"], sorted(drawn["order"])) == (120, 40, list(range(40)))
    rows = [json.loads(line) for line in (out / "generated.jsonl").read_text().splitlines()]
    label, first, outputs = [], {}, {}
    examples = pq.read_table(out / "calibration" / "tuned.parquet").to_pydict()
    every = lines_file.read_text(encoding="utf-8").splitlines()
    encoded = {tuple(tokenizer(line)["input_ids"][1:]): line for line in every}
    by_sentence = [
        [t for t, s in zip(examples["label"], examples["sentence"], strict=True) if s == i] for i in range(40)
    ]
    lines = [encoded[tuple(tokens)] for tokens in by_sentence]  # the labels are all tokens of a line but its first
    assert len(set(lines)) == 40
    for name in ("full", "q8", "q4"):
        with quiet():
            lm = AutoModelForCausalLM.from_pretrained(family / name, dtype=torch.float32)
        first[name], outputs[name] = [], []
        for line in lines:
            ids = torch.tensor([tokenizer(line)["input_ids"]])
            with torch.no_grad(), quiet():
                first[name].append(lm(input_ids=ids).logits[0, :-1].argmax(-1).numpy())
                made = lm.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6
                )
            outputs[name].append(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
            if name == "full":
                label.append(ids[0, 1:].numpy())
    assert [row["full"]["text"] for row in rows] == outputs["full"]
    reference = np.array([(a == b).mean() for a, b in zip(first["full"], label, strict=True)])
    for name in ("q8", "q4"):
        found = bounds_of(content, name)
        share = np.array([(a == b).mean() for a, b in zip(first[name], first["full"], strict=True)])
        right = np.array([(a == b).mean() for a, b in zip(first[name], label, strict=True)])
        same = [a == b for a, b in zip(outputs[name], outputs["full"], strict=True)]
        wanted = {
            "agreement": share.mean(), "all_agree": (share == 1).mean(), "accuracy": right.mean(),
            "accuracy_change": (right - reference).mean(), "generated": np.mean(same),
        }  # fmt: skip
        assert {bounded: one["observed"] for bounded, one in found.items()} == pytest.approx(wanted)
        # The bounds, from these numbers alone.
        turn = np.argsort(drawn["order"])
        assert found["agreement"]["lower"] == pytest.approx(1 - betting_upper(1 - share[turn], 120, 0.05))
        change = 2 * betting_upper((1 + reference - right)[turn] / 2, 120, 0.05) - 1
        assert found["accuracy_change"]["lower"] == pytest.approx(-change)
        for bounded, failures in (("all_agree", (share < 1).sum()), ("generated", 40 - sum(same))):
            possible = [k for k in range(121) if hypergeom.cdf(failures, 120, k, 40) > 0.05]
            assert found[bounded]["lower"] == pytest.approx(1 - max(possible) / 120)
    assert 0 < bounds_of(content, "q8")["agreement"]["observed"] < 1
    assert bounds_of(content, "q4")["agreement"]["observed"] < bounds_of(content, "q8")["agreement"]["observed"]


def test_it_is_the_guarantee_of_certify(tuned, narrow_untied_model, text_file, tmp_path):
    """One draw, two procedures, the same bounds to the last digit."""
    text = read_corpus(text_file, **LANGUAGES)
    base = load_model(open_checkpoint(narrow_untied_model), dtype="float32", device="cpu")
    certificate = certify(base, tuned / "embed", None, text, small={"half": tuned / "half"}, calibration=50, delta=0.1)
    found = agree(tuned / "embed", {"half": tuned / "half"}, text, base=base, calibration=50, delta=0.1)
    ours = bounds_of(found.as_dict(), "half")
    assert {one["bounded"] for one in certificate.guarantees} < set(ours)
    for one in certificate.guarantees:
        same = {key: value for key, value in one.items() if key not in {"statement", "model"}}
        assert {key: ours[one["bounded"]][key] for key in same} == same
    assert 0 < ours["agreement"]["lower"] < ours["agreement"]["observed"] < 1
    first = agree(
        tuned / "embed", tuned / "half", text, base=base, calibration=50, delta=0.1, positions=3, bound="independent"
    )
    cut = certify(
        base, tuned / "embed", None, text, small={"half": tuned / "half"}, calibration=50, delta=0.1,
        calibration_positions=3, bound="independent",
    )  # fmt: skip
    for one in cut.guarantees:
        assert bounds_of(first.as_dict(), "half")[one["bounded"]]["lower"] == one["lower"]
    assert "at each of the first 3 positions in at least" in first.notes[0]


def test_models_of_every_kind(tuned, narrow_untied_model, text_file, capfd):
    """A folder, a patch over the base that it names, and adapters; merged against the patch nothing differs."""
    call = [narrow_untied_model, "--data", text_file, "--calibration", "30"]
    content = result(capfd, tuned / "embed", tuned / "merged", *call)
    assert content["reference"] == "embed"
    assert content["candidates"] == ["merged", narrow_untied_model.name]
    for bounded in ("all_agree", "agreement"):
        assert bounds_of(content, "merged")[bounded]["observed"] == 1
        assert bounds_of(content, narrow_untied_model.name)[bounded]["observed"] < 1
    assert bounds_of(content, "merged")["accuracy_change"]["observed"] == 0
    content = result(capfd, *call[:1], tuned / "lora", tuned / "prefix", *call[1:], "--base", narrow_untied_model)
    assert content["candidates"] == ["lora", "prefix"]
    assert all(bounds_of(content, name)["agreement"]["observed"] < 1 for name in content["candidates"])


def requantised(source, out):
    """Write a GGUF file again with its embedding in 8 bits, by the quantiser of gguf."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    eight = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        data, kind = tensor.data, tensor.tensor_type
        if tensor.name == "token_embd.weight":
            data, kind = gguf.quants.quantize(data, eight), eight
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_against_its_own_quantisation_and_another_tokenizer(family, tmp_path, monkeypatch, capfd):
    from test_gguf_header import write

    monkeypatch.setenv("KS_LOTTERY_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "full.gguf")
    requantised(tmp_path / "full.gguf", tmp_path / "q8.gguf")
    (tmp_path / "text.txt").write_text("".join(f"line {i} of {i * i}\n" for i in range(60)))
    flags = ["--data", tmp_path / "text.txt", "--calibration", "30"]
    content = result(capfd, tmp_path / "full.gguf", tmp_path / "full.gguf", tmp_path / "q8.gguf", *flags)
    assert content["candidates"] == ["full.gguf (2)", "q8.gguf"]
    assert bounds_of(content, "full.gguf (2)")["all_agree"]["observed"] == 1
    assert 0 < bounds_of(content, "q8.gguf")["agreement"]["observed"] < 1
    line = fails(capfd, "agree", family / "full", tmp_path / "q8.gguf", *flags)
    assert "full and q8.gguf have different tokenizers: token 0 is" in line
    assert "Give models that share a tokenizer" in line


def test_a_tokenizer_with_other_merges_is_refused(family, lines_file, tmp_path, capfd):
    other = tmp_path / "other"
    shutil.copytree(family / "q8", other)
    content = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["merges"] = content["model"]["merges"][:5]
    (other / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    line = fails(capfd, "agree", family / "full", other, "--data", lines_file, "--calibration", "30")
    assert "full and other tokenize the text differently: sentence 1 has" in line


def test_what_a_script_asks(family, lines_file, text_file, tmp_path, capfd):
    """Exit codes, and how many sentences are needed for what is asked."""
    call = [family / "full", family / "q8", family / "q4", "--data", lines_file]
    content = result(capfd, *call, "--calibration", "60", "--fail-below", "0.5", code=1)
    assert (content["passed"], content["below"]) == (False, ["q4"])
    alone = [*call[:2], *call[3:], "--calibration", "60"]
    content = result(capfd, *alone, "--fail-below", "0.5")
    assert (content["passed"], content["below"]) == (True, [])
    assert result(capfd, *alone, "--fail-below", "0.9", "--loss", "accuracy")["passed"]
    for loss in ("share", "any", "accuracy"):
        asked = ["agree", *alone[:-1], "5", "--fail-below", "0.9", "--loss", loss]
        line = fails(capfd, *asked)
        assert "5 calibration sentences are too few" in line
        needed = int(re.search(r"([\d,]+) are needed", line)[1])
        assert 5 < needed < 120
        same = [family / "full", family / "full", "--data", lines_file, "--fail-below", "0.9", "--loss", loss]
        line = fails(capfd, "agree", *same, "--calibration", str(needed - 1))
        assert f"{needed:,} are needed" in line
        # As many as that are enough where nothing differs.
        assert result(capfd, *same, "--calibration", str(needed))["passed"]


def test_choosing_from_a_family(family, lines_file, capfd):
    call = [family / "full", family / "q8", family / "q4", "--data", lines_file, "--calibration", "60"]
    content = result(capfd, *call, "--choose", "0.4", "0.05")
    choice = content["choice"]
    assert (choice["model"], choice["chosen"], choice["passed"]) == ("q8", 0, 1)
    assert choice["pvalues"][0] <= 0.05 < choice["pvalues"][1]
    assert content["guarantees"] == []
    assert content["notes"] == [choice["statement"]]
    content = result(capfd, *call[:1], call[2], *call[3:], "--choose", "0.1", "0.05", code=1)
    assert content["choice"]["model"] is None
    assert "No model was chosen: 60 sentences of" in content["choice"]["statement"]
    # Tested in the given order: after one that fails, none is chosen.
    content = result(capfd, call[0], call[2], call[1], *call[3:], "--choose", "0.4", "0.05", code=1)
    assert content["choice"]["pvalues"][1] <= 0.05
    assert main([str(word) for word in ["agree", *call, "--choose", "0.4", "0.05", *HOW]]) == 0
    shown = capfd.readouterr().out
    assert re.search(r"q8 +0\.\d+ +\S+ +chosen", shown)
    assert re.search(r"q4 +0\.\d+ +\S+ +failed", shown)


def test_what_is_written_is_read_back_and_not_computed_again(family, lines_file, tmp_path, capfd, monkeypatch):
    out = tmp_path / "out"
    asked = ["--calibration", "40", "--fail-below", "0.9", "--loss", "any"]
    call = [family / "full", family / "q8", "--data", lines_file, *asked]
    content = result(capfd, *call, "--out", out, code=1)
    assert json.loads((out / "agreement.json").read_text())["kind"] == "agreement"
    opened = Agreed.open(out)
    assert opened.as_dict() == content
    monkeypatch.setattr(opened_model, "load_model", None)  # loading would fail
    assert result(capfd, *call, "--out", out, code=1) == content
    monkeypatch.undo()
    assert "was made by another command" in fails(capfd, "agree", *call, *HOW, "--out", out, "--delta", "0.1")
    file = out / "agreement.json"
    damaged = json.loads(file.read_text())
    damaged["guarantees"][0]["lower"] = 0.999
    file.write_text(json.dumps(damaged))
    with pytest.raises(UserError, match=r"agreement\.json is damaged"):
        Agreed.open(file)
    assert "is damaged" in fails(capfd, "agree", *call, *HOW, "--out", out)


def test_the_call_is_the_command(family, lines_file, capfd):
    content = result(capfd, family / "full", family / "q8", "--data", lines_file, "--calibration", "0.25")
    found = agree(family / "full", family / "q8", lines_file, calibration=0.25, dtype="float32")
    assert found.as_dict() == content
    lines = lines_file.read_text(encoding="utf-8").splitlines()
    named = agree(
        load_model(family / "full", dtype="float32"), {"small": family / "q8"}, lines, calibration=0.25, dtype="float32"
    )
    assert named.candidates == ["small"]
    figures = [one["lower"] for one in named.guarantees]
    assert figures == [one["lower"] for one in content["guarantees"]]
    assert repr(found).startswith("Agreed(1 models against full, 30 sentences of")
    assert "agreement (seen)" in found._repr_html_()


def test_text_of_one_language_in_every_form(family, lines_file, tmp_path, capfd):
    """Lines, the format plain, objects with a text, and a corpus of one language are one text."""
    lines = lines_file.read_text(encoding="utf-8").splitlines()
    objects = tmp_path / "lines.jsonl"
    objects.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
    call = [family / "full", family / "q8", "--calibration", "30"]
    figures = [
        [one["lower"] for one in result(capfd, *call, "--data", file, *more)["guarantees"]]
        for file, more in ((lines_file, []), (lines_file, ["--format", "plain"]), (objects, ["--format", "plain"]))
    ]
    text = read_corpus(objects, **LANGUAGES, format="plain")
    found = agree(family / "full", family / "q8", text, calibration=30, dtype="float32")
    assert found.plain
    figures.append([one["lower"] for one in found.guarantees])
    assert all(each == figures[0] for each in figures)


def test_one_model_at_a_time(family, lines_file, monkeypatch):
    """When a model is loaded, the one before is out of memory."""
    before, alive = [], []

    def load(*args, **more):
        gc.collect()
        alive.append(sum(one() is not None for one in before))
        loaded = load_model(*args, **more)
        before.append(weakref.ref(loaded.lm))
        return loaded

    monkeypatch.setattr(opened_model, "load_model", load)
    names = [family / name for name in ("q8", "q4", "full")]
    agree(family / "full", names, lines_file, calibration=5, generate=True, max_new_tokens=2, dtype="float32")
    assert alive == [0, 0, 0, 0]


def test_patches_over_one_base_load_it_once(tuned, narrow_untied_model, text_file, monkeypatch):
    loads = []
    monkeypatch.setattr(opened_model, "load_model", lambda *a, **more: loads.append(a) or load_model(*a, **more))
    agree(narrow_untied_model, [tuned / "embed", tuned / "half"], read_corpus(text_file, **LANGUAGES), calibration=5)
    assert len(loads) == 1


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--positions", "none"], "--positions is 'none', but must be all, or a whole number, 1 or more"),
        (["--calibration", "1.5"], "--calibration is 1.5, but must be a share below 1, or a whole number of sentences"),
        (["--calibration", "500"], "leaves nothing for the report"),
        (["--loss", "generated", "--fail-below", "0.5"], "give --generate too"),
        (["--choose", "0.1", "0.05", "--fail-below", "0.5"], "give --choose or --fail-below"),
        (["--choose", "0.001", "0.05"], "40 calibration sentences are too few"),
        (["--base", "/nowhere/model"], None),
    ],
)
def test_what_cannot_be_is_one_sentence(family, lines_file, capfd, more, named):
    call = ["agree", family / "full", family / "q8", "--data", lines_file, "--calibration", "40", *more]
    if named is None:  # a base plays no part where there is no patch
        assert main([str(word) for word in [*call, *HOW]]) == 0
        return
    assert named in fails(capfd, *call)


def test_bases_that_are_missing_or_wrong(tuned, family, narrow_untied_model, text_file, tmp_path, capfd):
    flags = ["--data", text_file, "--calibration", "20"]
    line = fails(capfd, "agree", narrow_untied_model, tuned / "embed", *flags, "--base", family / "q4")
    assert "belongs to another base" in line or "other weights" in line or "made on" in line
    moved = tmp_path / "moved"
    shutil.copytree(tuned / "lora", moved)
    config = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/nowhere/base"}))
    line = fails(capfd, "agree", narrow_untied_model, moved, *flags)
    assert "the base of moved cannot be opened" in line
    assert "give --base" in line
    (moved / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    assert "does not say which model it belongs to" in fails(capfd, "agree", narrow_untied_model, moved, *flags)
    (moved / "adapter_model.safetensors").unlink()
    line = fails(capfd, "agree", narrow_untied_model, moved, *flags, "--base", narrow_untied_model)
    assert "holds no adapter_model.safetensors" in line
    assert "does not exist" in fails(capfd, "agree", narrow_untied_model, "nothing-here", *flags)


def test_a_candidate_with_a_prompt_of_its_own(tuned, narrow_untied_model, text_file):
    patch = ks_lottery.RowPatch.open(tuned / "half")
    own = ks_lottery.RowPatch(
        ids=patch.ids, values=patch.values, base=patch.base, settings={"prompt": "Catalan: {source} ="}, side=patch.side
    )
    text = read_corpus(text_file, **LANGUAGES)
    with pytest.raises(UserError, match="has a prompt of its own"):
        agree(narrow_untied_model, {"own": own}, text, calibration=5)
    found = agree(narrow_untied_model, {"own": own}, text, calibration=5, template="Catalan: {source} =")
    assert found.candidates == ["own"]
    assert (
        agree(own, narrow_untied_model, text, calibration=5).manifest["settings"]["template"] == "Catalan: {source} ="
    )
