"""The paper's settings, said only where they are: each is set by the preset, and what is given goes over it."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from ks_lottery import UserError, open_checkpoint, read_corpus
from ks_lottery.cli.main import main
from ks_lottery.cli.options import read_settings
from ks_lottery.config.choices import METHODS
from ks_lottery.config.settings import RunConfig, as_dict
from ks_lottery.models.load import load_model
from ks_lottery.tuning.methods import defaults
from ks_lottery.tuning.tune import prepare
from ks_lottery.tuning.tune_spec import TuneSpec

PAPER = {"warmup_ratio": 0.03, "max_grad_norm": 1.0, "weight_decay": 0.0}
"""Section 4 of the paper, and the training scripts of its authors (arXiv 2311.09071)."""

RATES = {
    **dict.fromkeys(("embed", "frozen", "full", "lora", "qlora"), (2e-5, 3)),
    **dict.fromkeys(
        (
            "partial",
            "frequency",
            "occurrence",
            "random",
            "random-reachable",
            "token-prompt",
            "new-tokens",
            "prefix",
            "prompt",
        ),
        (1e-2, 5),
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_the_papers_settings(method):
    chosen = defaults("paper", method, {})
    assert (chosen["seed"], chosen["max_tokens"]) == (42, 1024)
    assert chosen["settings"].items() >= PAPER.items()
    assert (chosen["settings"]["learning_rate"], chosen["settings"]["epochs"]) == RATES[method]
    assert chosen["settings"]["batch_size"] * chosen["settings"]["gradient_accumulation"] == 128


def test_a_model_whose_rows_need_another_rate_has_them_too(tied_model, text_file):
    """Without the preset its rows are trained at a rate that fits them."""
    loaded = load_model(tied_model, dtype="float32", device="cpu")
    text = read_corpus(text_file, source_language="en", target_language="ca", limit=16)
    plain = prepare(loaded, text, TuneSpec(method="embed", **defaults(None, "embed", {})))
    paper = prepare(loaded, text, TuneSpec(method="embed", **defaults("paper", "embed", {})))
    assert (paper.config.learning_rate, paper.fitted) == (2e-5, None)
    assert plain.config.learning_rate > 1e-2
    assert plain.fitted.startswith(f"learning rate {plain.config.learning_rate:g} instead of the paper's 2e-05: ")


def test_what_is_given_goes_over_it(monkeypatch):
    chosen = defaults("paper", "partial", {"batch_size": 32, "epochs": 1, "weight_decay": None}, seed=7, max_tokens=64)
    assert (chosen["seed"], chosen["max_tokens"]) == (7, 64)
    assert chosen["settings"] == {
        **PAPER, "learning_rate": 1e-2, "epochs": 1, "batch_size": 32, "gradient_accumulation": 4,
    }  # fmt: skip
    assert defaults("paper", "partial", {"gradient_accumulation": 3})["settings"]["gradient_accumulation"] == 3
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert defaults("paper", "partial", {})["settings"]["gradient_accumulation"] == 4  # 4 x 8 x 4 = 128
    for size in (3, 64):
        with pytest.raises(UserError, match=f"128 examples a step, which batches of {size} in each of 4 processes"):
            defaults("paper", "partial", {"batch_size": size})
    with pytest.raises(UserError, match="preset nature is not known; there is paper"):
        defaults("nature", "partial", {})


def test_without_it_the_defaults_are_ours():
    assert defaults(None, "embed", {"epochs": 2}) == {"seed": 0, "max_tokens": 512, "settings": {"epochs": 2}}


def test_the_command_and_the_library_resolve_it_alike(narrow_model, text_file, tmp_path, capfd):
    out = tmp_path / "plan"
    call = ["tune", str(narrow_model), "--train", str(text_file), "--method", "embed", "--out", str(out), "--dry-run"]
    assert main([*call, "--preset", "paper"]) == 0
    said = capfd.readouterr().out
    assert (
        "learning rate 2e-05, 3 epochs, batches of 8, 16 per step, seed 42, warm-up 0.03, clipping 1, weight decay 0"
        in said
    )
    assert "at most 1,024 tokens" in said
    assert main([*call, "--preset", "paper", "--epochs", "2", "--seed", "1"]) == 0
    assert "2 epochs, batches of 8, 16 per step, seed 1," in capfd.readouterr().out
    corpus = read_corpus(text_file, source_language="en", target_language="ca")
    spec = TuneSpec(method="embed", dtype="float32", **defaults("paper", "embed", {}))
    manifest = prepare(open_checkpoint(str(narrow_model)), corpus, spec).manifest
    wanted = {**PAPER, "learning_rate": 2e-5, "epochs": 3, "batch_size": 8, "gradient_accumulation": 16, "seed": 42}
    assert manifest["settings"].items() >= {**wanted, "max_tokens": 1024}.items()


def resolved(*flags: str) -> dict:
    return as_dict(read_settings("run", [*flags, "--out", "x"]).config)


def test_a_run_has_them_with_the_embed_tunings_own_rate():
    config = resolved("--preset", "paper")
    assert config["train"].items() >= PAPER.items()
    wanted = {"learning_rate": 1e-2, "epochs": 5.0, "embed_learning_rate": 2e-5, "embed_epochs": 3.0, "batch_size": 8}
    assert config["train"].items() >= {**wanted, "gradient_accumulation": 16}.items()
    assert (config["seed"], config["text"]["max_tokens"]) == (42, 1024)
    changed = {"train", "text", "seed"}
    assert {k: v for k, v in config.items() if k not in changed} == {
        k: v for k, v in as_dict(RunConfig()).items() if k not in changed
    }
    assert resolved() == as_dict(RunConfig())


def test_file_and_flags_of_a_run_go_over_it(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"train": {"epochs": 2.0, "batch_size": 4}, "seed": 5}))
    config = resolved(str(file), "--preset", "paper", "--train.learning-rate", "0.5")
    train = config["train"]
    assert (train["epochs"], train["batch_size"], train["gradient_accumulation"]) == (2.0, 4, 32)
    assert (train["learning_rate"], train["embed_learning_rate"], config["seed"]) == (0.5, 2e-5, 5)
    assert resolved("--preset=paper", "--train.batch-size=16")["train"]["gradient_accumulation"] == 8
    both = resolved("--preset", "paper", "--train.batch-size", "3", "--train.gradient-accumulation", "1")["train"]
    assert (both["batch_size"], both["gradient_accumulation"]) == (3, 1)
    with pytest.raises(UserError, match="128 examples a step, which batches of 3 do not make"):
        resolved("--preset", "paper", "--train.batch-size", "3")
    with pytest.raises(UserError, match="--preset is 'x', but must be one of paper"):
        resolved("--preset", "x")


def test_the_resolved_config_is_printed_and_starts_the_same_run(capsys, tmp_path):
    assert read_settings("run", ["--preset", "paper", "--out", "x", "--print-config"]) is None
    file = tmp_path / "config.yaml"
    file.write_text(capsys.readouterr().out)
    assert resolved(str(file)) == resolved("--preset", "paper")
    names = {field.name for field in dataclasses.fields(RunConfig)}
    assert set(yaml.safe_load(file.read_text())) == names | {"out", "preset"}
