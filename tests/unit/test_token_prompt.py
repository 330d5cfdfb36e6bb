"""A prompt of its own tokens: found by the tokenizer, trained alone, and run like any tokens by transformers itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from reserve import NAMES, ROWS, SENTENCES, UNUSED, make_reserve, vocabulary
from tokenizers import AddedToken, normalizers
from transformers import AutoModelForCausalLM, AutoTokenizer

import ks_lottery
from ks_lottery import Corpus, RowPatch, UserError, load_model, open_checkpoint, read_corpus, tune
from ks_lottery.cli.main import main
from ks_lottery.config.settings import EvaluateConfig, ModelConfig, RunConfig, TextConfig, as_dict
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.numbered_tokens import numbered_tokens, template_parts
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import instruction, render_prompt
from ks_lottery.models.new_tokens import with_new_tokens
from ks_lottery.models.sides import installed_patch
from ks_lottery.models.unused_tokens import unused_tokens
from ks_lottery.recipes.translation import translate_sentences
from ks_lottery.tuning.token_prompt import token_prompt
from ks_lottery.tuning.tune import prepare
from ks_lottery.tuning.tune_spec import TuneSpec

SHAPE = "Translate: {source}\nAnswer:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_reserve(tmp_path_factory.mktemp("reserve"), NAMES)


@pytest.fixture(scope="module")
def loaded(folder):
    return load_model(open_checkpoint(str(folder)), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def corpus():
    return Corpus(tuple(Pair(*pair) for pair in SENTENCES), "en", "ca", "here")


@pytest.fixture(scope="module")
def patch(loaded, corpus):
    return tune(loaded, corpus, method="token-prompt", tokens=8, template=SHAPE, epochs=3, learning_rate=0.05)


@pytest.mark.parametrize(
    ("tokens", "kept"), [("auto", None), ("1", (1, 0)), ("4", (2, 2)), ("5", (3, 2)), ("12", (6, 6))]
)
def test_the_tokens_take_the_places_of_the_template_or_of_its_ends(folder, loaded, corpus, tokens, kept):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    parts = [tokenizer.encode(text, add_special_tokens=False) for text in SHAPE.split("{source}")]
    prompt = token_prompt(loaded, corpus, TuneSpec(method="token-prompt", tokens=tokens, template=SHAPE))
    front, back = kept or (len(parts[0]), len(parts[1]))
    free = [one.token for one in unused_tokens(loaded)]
    assert prompt.ids == tuple(free[: front + back])
    (example, *_), _ = encode(tokenizer, corpus, template=prompt.template)
    source = tokenizer.encode(SENTENCES[0][0], add_special_tokens=False)
    assert example.prompt == (1, *free[:front], *source, *free[front : front + back])
    before, after = prompt.template.split("{source}")
    assert (len(template_names(before)), len(template_names(after))) == (front, back)


def template_names(text):
    return [name for name in text.replace(">", ">\n").replace("}", "}\n").split("\n") if name]


def test_the_default_prompt_has_a_token_for_each_token_of_the_template(folder, loaded, corpus):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = render_prompt("alpaca", instruction("en", "ca"), "@@").split("@@")
    places = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in ends)
    with pytest.raises(UserError, match=f"the prompt needs {places:,}: give `tokens=\\d+`, or another `method`"):
        token_prompt(loaded, corpus, TuneSpec(method="token-prompt"))
    plain = token_prompt(loaded, corpus, TuneSpec(method="token-prompt", template="plain"))
    order = f"{instruction('en', 'ca')}\n"
    assert len(plain.ids) == sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in (order, "\n"))
    assert numbered_tokens(plain.template) == list(plain.ids[UNUSED:])  # those that have no text


def test_only_the_rows_of_the_prompt_are_trained_and_all_of_them_move(folder, patch):
    known = vocabulary(folder)
    assert patch.ids.tolist() == [known[f"<unused{i}>"] for i in range(8)]
    assert patch.parameters == 8 * 32
    base = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight[patch.ids]
    assert (patch.values != base).any(dim=1).all()
    assert patch.prompt == "<unused0><unused1><unused2><unused3>{source}<unused4><unused5><unused6><unused7>"


def test_training_starts_from_the_rows_of_the_tokens(folder, loaded, corpus):
    tuning = prepare(loaded, corpus, TuneSpec(method="token-prompt", tokens="8", template=SHAPE))
    base = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight
    with tuning.trainable() as trainable:
        trained = {name: p for name, p in trainable.model.named_parameters() if p.requires_grad}
        start = trainable.collect()
    assert [tuple(p.shape) for p in trained.values()] == [(8, 32)]
    assert torch.equal(start.values, base[start.ids])


def test_text_without_the_tokens_is_answered_bit_for_bit(folder, loaded, patch):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["The house is old", "Qualsevol altre text: 1, 2, 3.", "<repo_name> x", "<|im_start|>user"]
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text)])
        with torch.inference_mode():
            before = loaded.lm(ids).logits
            with installed_patch(loaded.lm, patch):
                after = loaded.lm(ids).logits
        assert torch.equal(before, after), text
    held = torch.tensor([tokenizer.encode("<unused0> The house")])
    with torch.inference_mode():
        before = loaded.lm(held).logits
        with installed_patch(loaded.lm, patch):
            assert not torch.equal(before, loaded.lm(held).logits)


def patched_model(folder, patch):
    """The input embedding of transformers' own model with the new rows; the head keeps its values."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.get_input_embeddings().weight[patch.ids] = patch.values
    return model.eval()


def greedy(model, ids, steps):
    """Generate greedily by whole passes, without a cache."""
    new: list[int] = []
    for _ in range(steps):
        with torch.inference_mode():
            best = int(model(torch.tensor([[*ids, *new]])).logits[0, -1].argmax())
        if best == 2:
            break
        new.append(best)
    return new


def test_translations_are_those_of_transformers_on_the_plain_string(folder, loaded, corpus, patch):
    """The string around the source, by another program: no template, no patch, no code of this project."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), patched_model(folder, patch)
    evaluation = ks_lottery.evaluate(loaded, corpus, patch, metrics=("bleu",), num_beams=1, max_new_tokens=12)
    wanted = []
    for source, _ in SENTENCES:
        text = "".join(f"<unused{i}>" for i in range(4)) + source + "".join(f"<unused{i}>" for i in range(4, 8))
        new = greedy(model, tokenizer(text)["input_ids"], 12)
        wanted.append(" ".join(tokenizer.decode(new, skip_special_tokens=True).split()))
    assert list(evaluation.hypotheses) == wanted
    assert any(wanted)
    assert evaluation.settings["template"] == patch.prompt


def test_rows_without_text_are_given_by_their_ids(tmp_path, corpus):
    folder = make_reserve(tmp_path / "spare", [])
    loaded = load_model(open_checkpoint(str(folder)), dtype="float32", device="cpu")
    spare = [row for row in range(ROWS) if row not in vocabulary(folder).values()]
    patch = tune(loaded, corpus, method="token-prompt", tokens=5, template=SHAPE, epochs=2, learning_rate=0.05)
    assert patch.ids.tolist() == spare[:5]
    front, back = ("".join(f"{{token:{row}}}" for row in rows) for rows in (spare[:3], spare[3:5]))
    assert patch.prompt == f"{front}{{source}}{back}"
    shown = (ks_lottery.to_merged(str(folder), patch, tmp_path / "merged") / "README.md").read_text()
    assert patch.prompt in shown
    assert "give it as an id" in shown  # and no Python that would tokenize its text
    assert ".replace(" not in shown
    tokenizer, model = AutoTokenizer.from_pretrained(folder), patched_model(folder, patch)
    evaluation = ks_lottery.evaluate(loaded, corpus, patch, metrics=("bleu",), num_beams=1, max_new_tokens=12)
    for (source, _), translation in zip(SENTENCES, evaluation.hypotheses, strict=True):
        ids = [1, *spare[:3], *tokenizer.encode(source, add_special_tokens=False), *spare[3:5]]
        assert translation == " ".join(tokenizer.decode(greedy(model, ids, 12), skip_special_tokens=True).split())


def test_source_spans_are_found_between_numbered_tokens(loaded):
    corpus = Corpus((Pair("a {token:5} {source}", "b"),), "en", "ca", "here")
    template = "{token:370}x\n{source}{token:371}"
    ((example,), _) = encode(loaded.tokenizer, corpus, template=template, spans=True, rows=ROWS)
    text = loaded.tokenizer.encode("x\na {token:5} {source}", add_special_tokens=False)
    assert example.prompt == (1, 370, *text, 371)  # braces in a sentence are text
    inside = [token for token, here in zip(example.prompt, example.in_source, strict=True) if here]
    assert loaded.tokenizer.decode(inside) == "a {token:5} {source}"
    assert template_parts(template) == [370, "x\n{source}", 371]


def test_a_template_that_names_a_missing_row_is_refused(loaded, corpus):
    with pytest.raises(UserError, match="token 9999, but the model's embedding has only 384 rows"):
        ks_lottery.evaluate(loaded, corpus, metrics=("accuracy",), template="{token:9999}{source}")


@pytest.mark.parametrize("kind", ["whole words", "composed"])
def test_tokens_that_join_with_some_sentences_are_given_by_their_ids(tmp_path, corpus, kind):
    """Each is one token by itself, yet not beside every sentence: as a whole word alone, or before characters are composed."""
    folder = make_reserve(tmp_path / "joining", [])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if kind == "composed":
        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    flags = {"single_word": True, "normalized": False} if kind == "whole words" else {"normalized": True}
    tokenizer.add_tokens([AddedToken(name, **flags) for name in ("<unused9>", "<unused_0>")])
    tokenizer.save_pretrained(folder)
    loaded = load_model(open_checkpoint(str(folder)), dtype="float32", device="cpu")
    corpus = Corpus((Pair(". The house", "La casa"), *corpus.pairs), "en", "ca", "here")
    prompt = token_prompt(loaded, corpus, TuneSpec(method="token-prompt", tokens="2", template=SHAPE))
    ids = [vocabulary(folder)[name] for name in ("<unused9>", "<unused_0>")]
    assert [tokenizer.encode(name, add_special_tokens=False) for name in ("<unused9>", "<unused_0>")] == [
        [i] for i in ids
    ]
    odd = Corpus((Pair("\u0338 a", "b"), Pair("a house", "b")), "en", "ca", "here")
    for example in encode(loaded.tokenizer, odd, template=prompt.template)[0]:
        assert (example.prompt[1], example.prompt[-1]) == tuple(ids)
    text = PromptForm(loaded.tokenizer, "<unused9>{source}<unused_0>").prompts(["", ""], ["\u0338 a", "a house"])
    assert any((tokens[1], tokens[-1]) != tuple(ids) for tokens in text)  # what the plain string would do


def test_tokens_that_the_text_holds_are_not_used(folder, loaded):
    corpus = Corpus((Pair("see <unused0> here now", "mira <unused2> aquí ara"),), "en", "ca", "here")
    prompt = token_prompt(loaded, corpus, TuneSpec(method="token-prompt", tokens="3", template=SHAPE))
    known = vocabulary(folder)
    assert prompt.ids == tuple(known[f"<unused{i}>"] for i in (1, 3, 4))


def test_a_vocabulary_without_such_tokens_gets_new_ones(tmp_path, corpus):
    """Each starts from the row of the template's token in whose place it is, so that the untrained prompt is the template."""
    spare = ROWS - max(vocabulary(make_reserve(tmp_path / "count", [])).values()) - 1
    for reserved in (0, 2):
        names = [*(f"<unused{i}>" for i in range(reserved)), *(f"<taken_{i}>" for i in range(spare - reserved))]
        folder = make_reserve(tmp_path / f"full{reserved}", names)
        loaded = load_model(open_checkpoint(str(folder)), dtype="float32", device="cpu")
        with pytest.raises(UserError, match=f"has {reserved} tokens that text never yields, but the prompt needs 5"):
            token_prompt(loaded, corpus, TuneSpec(method="token-prompt", tokens="5", template=SHAPE))
        tuning = prepare(loaded, corpus, TuneSpec(method="token-prompt", tokens="5", template=SHAPE))
        said = " ".join(tuning.sections()[0].sentences)
        assert f"{reserved} of {reserved} tokens that text never yields and {5 - reserved} new ones" in said
        new = tuple(range(ROWS, ROWS + 5 - reserved))
        known = vocabulary(folder)
        assert tuning.prompt.ids == (*(known[f"<unused{i}>"] for i in range(reserved)), *new)
        places = [
            t for text in SHAPE.split("{source}") for t in loaded.tokenizer.encode(text, add_special_tokens=False)
        ]
        replaced = [*places[:3], *places[-2:]][reserved:]
        with tuning.trainable() as trainable:
            start = trainable.collect()
        assert torch.equal(start.values[reserved:], loaded.checkpoint.rows(np.array(replaced)))
    everything = tune(loaded, corpus, method="token-prompt", template=SHAPE, epochs=1, learning_rate=1e-9)
    template = PromptForm(loaded.tokenizer, SHAPE).prompts([""], ["The house"])[0]
    longer = with_new_tokens(loaded, everything)
    own = PromptForm(longer.tokenizer, everything.prompt).prompts([""], ["The house"])[0]
    with torch.no_grad(), installed_patch(loaded.lm, everything):
        logits = loaded.lm(torch.tensor([own])).logits
        # unused tokens start from their own rows; they were moved to those of their places for this
        assert logits.shape[-1] == everything.added.rows
    assert len(own) == len(template)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"tokens": 0}, "`tokens` is '?0'?, but must be a whole number of 1 or more, or auto"),
        ({"tokens": "many"}, "`tokens` is '?many'?, but must be"),
        ({"tokens": 400}, "`tokens` is 400, but the template has .* tokens around the source"),
        ({"side": "output"}, "leave `side` out"),
        ({"template": "{source}"}, "no token around the source"),
        ({"template": "chat"}, "the model's tokenizer has no chat template"),
        (
            {"method": "embed", "tokens": 4},
            "`tokens` is for token-prompt, prompt, prefix and new-tokens tuning, not for embed",
        ),
        ({"size": 4}, "`size` is"),
        ({"tickets": ks_lottery.Tickets(rows=np.array([4]), rule={})}, "leave `tickets` out"),
    ],
)
def test_what_does_not_belong_together_is_refused(loaded, corpus, settings, problem):
    with pytest.raises(UserError, match=problem):
        tune(loaded, corpus, **{"method": "token-prompt", "template": SHAPE, **settings})


def test_examples_are_refused_since_their_prompt_is_written(loaded, corpus):
    examples, _ = encode(loaded.tokenizer, corpus)
    with pytest.raises(UserError, match="give a text"):
        tune(loaded, examples, method="token-prompt", tokens=2)


def test_a_template_that_is_given_goes_over_the_prompt_of_the_patch(loaded, corpus, patch):
    own, plain = (
        ks_lottery.evaluate(loaded, corpus, patch, metrics=("accuracy",), template=template).next_token["loss"]
        for template in (None, "plain")
    )
    assert own != plain
    bare = ks_lottery.evaluate(loaded, corpus, metrics=("accuracy",), template="plain").next_token["loss"]
    assert plain == bare  # the prompt's tokens are not in it


def test_where_and_certify_use_the_prompt_of_the_patch(loaded, corpus, patch):
    located = ks_lottery.where(loaded, corpus, patch, resamples=20)
    assert located.settings["template"] == patch.prompt
    effects = {effect.name: effect for effect in located.spans}
    assert effects["instruction"].accuracy == effects["everywhere"].accuracy
    assert effects["instruction"].loss == pytest.approx(effects["everywhere"].loss, abs=1e-5)
    certificate = ks_lottery.certify(loaded, patch, None, corpus)
    accuracy = ks_lottery.evaluate(loaded, corpus, patch, metrics=("accuracy",), positions=20).next_token["accuracy"]
    assert certificate.as_dict()["tuned_accuracy"] == pytest.approx(accuracy)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # PEFT's
def test_both_exports_answer_like_the_patch(folder, loaded, patch, tmp_path):
    from peft import PeftModel

    adapter = ks_lottery.to_peft(str(folder), patch, tmp_path / "peft")
    merged = ks_lottery.to_merged(str(folder), patch, tmp_path / "merged")
    assert patch.prompt in (adapter / "README.md").read_text()
    ids = torch.tensor([AutoTokenizer.from_pretrained(merged).encode(patch.prompt.replace("{source}", "The house"))])
    with torch.inference_mode():
        with installed_patch(loaded.lm, patch):
            wanted = loaded.lm(ids).logits
        base = AutoModelForCausalLM.from_pretrained(folder)
        for model in (PeftModel.from_pretrained(base, adapter), AutoModelForCausalLM.from_pretrained(merged)):
            torch.testing.assert_close(model(ids).logits, wanted)


def test_a_patch_remembers_its_prompt_and_a_damaged_one_is_refused(patch, tmp_path):
    assert RowPatch.open(patch.save(tmp_path / "p")).prompt == patch.prompt
    assert patch.restrict(patch.ids[:2]).prompt == patch.prompt
    for prompt in (7, "no place", ["{source}"]):
        damaged = RowPatch(patch.ids, patch.values, patch.base, {**patch.settings, "prompt": prompt})
        with pytest.raises(UserError, match="the prompt of the patch is damaged"):
            _ = damaged.prompt


def test_the_command_lists_the_tokens_and_resumes(folder, corpus, tmp_path, capfd):
    text = tmp_path / "pairs.tsv"
    text.write_text("".join(f"{s}\t{t}\n" for s, t in SENTENCES), encoding="utf-8")
    out = tmp_path / "out"
    words = [
        "tune", str(folder), "--method", "token-prompt", "--tokens", "6", "--template", SHAPE, "--train", str(text),
        "--epochs", "2", "--batch-size", "2", "--device", "cpu", "--dtype", "float32", "--out", str(out),
    ]  # fmt: skip
    assert main([*words, "--dry-run"]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    ids = [vocabulary(folder)[f"<unused{i}>"] for i in range(6)]
    assert f"trained parameters: {6 * 32:,} of" in shown
    assert ", ".join(map(str, ids)) in shown
    assert "<unused0><unused1><unused2>{source}<unused3><unused4><unused5>" in shown
    assert not out.exists()
    assert main(words) == 0
    assert main(words) == 0
    assert "nothing to do" in capfd.readouterr().out
    made = RowPatch.open(out)
    library = tune(
        str(folder), read_corpus(text, source_language="en", target_language="ca"), method="token-prompt", tokens=6,
        template=SHAPE, epochs=2, batch_size=2,
        device="cpu", dtype="float32",
    )  # fmt: skip
    assert made == library
    assert made.prompt == library.prompt
    assert main([*words[:6], "7", *words[6:], "--out", str(tmp_path / "o2")]) == 2  # a stray word is refused
    capfd.readouterr()
    report = tmp_path / "report"
    assert main(["evaluate", str(folder), "--patch", str(out), "--data", str(text), "--metrics", "accuracy",
                 "--resamples", "0", "--device", "cpu", "--dtype", "float32", "--out", str(report)]) == 0  # fmt: skip
    saved = json.loads(next(report.glob("evaluation*.json")).read_text())
    assert saved["settings"]["template"] == made.prompt


def test_an_interrupted_training_resumes_to_the_same_bytes(loaded, corpus, tmp_path):
    asked = {"method": "token-prompt", "tokens": 6, "template": SHAPE, "epochs": 4, "batch_size": 2, "save_every": 3}
    whole = tune(loaded, corpus, **asked, folder=tmp_path / "whole")

    class StopError(Exception):
        pass

    from transformers import TrainerCallback

    class Stopper(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise StopError

    with pytest.raises(StopError):
        tune(loaded, corpus, **asked, folder=tmp_path / "cut", callbacks=[Stopper()])
    assert (tmp_path / "cut" / "checkpoint-3").is_dir()
    assert tune(loaded, corpus, **asked, folder=tmp_path / "cut") == whole


def test_a_chat_template_gives_its_places_too(tmp_path, corpus):
    folder = make_reserve(tmp_path / "chat", ["<|user|>", "<|end|>", *(f"<unused{i}>" for i in range(70))])
    (folder / "chat_template.jinja").write_text(
        "{{ bos_token }}{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|user|>{% endif %}"
    )
    loaded = load_model(open_checkpoint(str(folder)), dtype="float32", device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = token_prompt(loaded, corpus, TuneSpec(method="token-prompt", template="chat"))
    written = f"<|user|>{instruction('en', 'ca')}\n", "<|end|><|user|>"
    places = [len(tokenizer.encode(text, add_special_tokens=False)) for text in written]
    assert [len(template_names(end)) for end in prompt.template.split("{source}")] == places
    assert PromptForm(tokenizer, prompt.template).end == 2


def test_translate_uses_the_prompt_and_shows_the_original_with_that_of_the_run(folder, loaded, patch, tmp_path):
    config = RunConfig(
        model=ModelConfig(name=str(folder), dtype="float32", device="cpu"),
        text=TextConfig(template="plain"),
        evaluate=EvaluateConfig(num_beams=1, max_new_tokens=8),
    )
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "report.json").write_text("{}")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(as_dict(config)))
    patch.save(tmp_path / "token-prompt")
    sources = [source for source, _ in SENTENCES]
    answers = translate_sentences(tmp_path, [*sources, ""], method="token-prompt", compare=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base, model = AutoModelForCausalLM.from_pretrained(folder), patched_model(folder, patch)

    def translated(lm, text):
        new = greedy(lm, tokenizer(text)["input_ids"], 8)
        return " ".join(tokenizer.decode(new, skip_special_tokens=True).split())

    order = instruction("en", "ca")
    wanted = [
        (translated(model, patch.prompt.replace("{source}", s)), translated(base, f"{order}\n{s}\n")) for s in sources
    ]
    assert [(answer.small, answer.original) for answer in answers] == [*wanted, ("", "")]


def test_controls_of_where_know_the_prompt(loaded, corpus, patch):
    located = ks_lottery.where(loaded, corpus, patch, controls=True, resamples=20)
    names = {effect.name: effect for effect in located.controls}
    assert names["template rows alone"].rows == len(patch)
    plain = names["prompt plain"]  # its tokens are not there, so nothing is gained
    assert plain.difference == 0


def test_the_model_is_afterwards_as_it_was(loaded, corpus):
    before = {name: tensor.clone() for name, tensor in loaded.lm.state_dict().items()}
    made = tune(loaded, corpus, method="token-prompt", tokens=4, template=SHAPE, learning_rate=0.1, epochs=3)
    assert not torch.equal(made.values, loaded.checkpoint.rows(made.ids))
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.lm.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.lm.parameters())
