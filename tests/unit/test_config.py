"""The settings of a run: ranges, names, and what two of them differ in."""

from __future__ import annotations

import dataclasses

import pytest

from ks_lottery import RunConfig, UserError
from ks_lottery.config.groups import TextSource
from ks_lottery.config.keys import check_keys, difference, flat
from ks_lottery.config.settings import (
    CertifyConfig,
    EvaluateConfig,
    SelectConfig,
    TextConfig,
    TrainConfig,
    as_dict,
)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TrainConfig(learning_rate=0), "train.learning_rate"),
        (lambda: TrainConfig(epochs=-1), "train.epochs"),
        (lambda: TrainConfig(embed_epochs=0), "train.embed_epochs"),
        (lambda: TrainConfig(batch_size=0), "train.batch_size"),
        (lambda: TrainConfig(gradient_accumulation=0), "train.gradient_accumulation"),
        (lambda: TrainConfig(warmup_ratio=1), "train.warmup_ratio"),
        (lambda: TrainConfig(max_grad_norm=-1), "train.max_grad_norm"),
        (lambda: TrainConfig(learning_rate=float("nan")), "train.learning_rate"),
        (lambda: TextConfig(test_share=1), "text.test_share"),
        (lambda: TextConfig(test_share=0.6, calibration_share=0.4), "text.calibration_share"),
        (lambda: TextConfig(max_train=0), "text.max_train"),
        (lambda: TextConfig(limit=0), "text.limit"),
        (lambda: TextSource(path="a.tsv", limit=0), "limit"),
        (lambda: SelectConfig(alpha=-0.1), "select.alpha"),
        (lambda: CertifyConfig(alphas=()), "certify.alphas"),
        (lambda: CertifyConfig(alphas=(0.1, 1.1)), "certify.alphas"),
        (lambda: CertifyConfig(positions=0), "certify.positions"),
        (lambda: CertifyConfig(calibration_positions=0), "certify.calibration_positions"),
        (lambda: CertifyConfig(bound="best"), "certify.bound"),
        (lambda: TextConfig(split_seed=-1), "text.split_seed"),
        (lambda: EvaluateConfig(confidence=1), "evaluate.confidence"),
        (lambda: EvaluateConfig(num_beams=0), "evaluate.num_beams"),
        (lambda: RunConfig(seed=-1), "seed"),
    ],
)
def test_values_out_of_range_are_named(make, named):
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value).startswith(f"`{named}`")
    assert "must be" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "near"),
    [("train.epoch", "train.epochs"), ("learning_rate", "train.learning_rate"), ("text.target_lang", "text.target_language"),
     ("tran.batch_size", "train.batch_size"), ("model.nam", "model.name"), ("modle", "model")],
)  # fmt: skip
def test_an_unknown_key_names_the_nearest(key, near):
    with pytest.raises(UserError, match="unknown config key") as caught:
        check_keys([key], "config.yaml")
    assert str(caught.value).endswith(f"unknown config key '{key}'; did you mean {near}?")


def test_nothing_is_suggested_for_a_key_that_is_like_no_other():
    with pytest.raises(UserError, match=r"unknown config key 'foo'$"):
        check_keys(["foo"], "config.yaml")


def test_every_known_key_passes():
    check_keys([key for key, _ in flat(as_dict(RunConfig()))], "config.yaml")


def test_difference_names_what_differs():
    here = as_dict(RunConfig())
    there = as_dict(RunConfig(seed=4, train=TrainConfig(epochs=2)))
    assert difference(there, here) == "train.epochs: 2 there, 5.0 here; seed: 4 there, 0 here"
    cut = as_dict(RunConfig(text=TextConfig(max_train=64)))
    assert difference(cut, here) == "text.max_train: 64 there, not set here"
    assert difference(here, here) == ""


def test_the_source_of_a_run_is_what_its_config_says():
    """Every field of a `TextSource` is one of `TextConfig` with the same default, and comes from there."""
    assert TextConfig().source == TextSource(path=TextConfig().train)
    given = {
        "target": "b", "format": "lines", "source_language": "de", "target_language": "fr", "source_column": "1",
        "target_column": "2", "dataset_config": "c", "dataset_split": "test", "dataset_streaming": True, "limit": 7,
        "instruction": "Do it.", "min_words": 2, "drop_placeholders": False, "drop_markup": False,
    }  # fmt: skip
    assert TextConfig(train="a", **given).source == TextSource(path="a", **given)
    assert {*given, "path", "clean"} == {field.name for field in dataclasses.fields(TextSource)}
