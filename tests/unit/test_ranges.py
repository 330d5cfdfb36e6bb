"""Every number of every settings class has a range, which flags, files and library calls obey alike."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from ks_lottery import RunConfig, UserError
from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.main import main
from ks_lottery.cli.messages import in_flags
from ks_lottery.cli.options import build_parser, read_settings
from ks_lottery.config import groups, settings
from ks_lottery.config.checked import Checked
from ks_lottery.config.fields import ordered_fields, settings_of
from ks_lottery.config.ranges import COUNT, LEVEL, SEED, SHARE, Range, check_number
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
from ks_lottery.tuning.tune_spec import TuneSpec

CLASSES = [
    *(command.settings for command in COMMANDS.values()),
    *(
        cls
        for module in (groups, settings)
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, Checked)
    ),
]
NUMBERS = [
    (cls, item)
    for cls in dict.fromkeys(CLASSES)
    for item in settings_of(cls)
    if item.kind in {int, float} and "." not in item.name
]


def label(value: object) -> str:
    return getattr(value, "__name__", None) or getattr(value, "name", "")


def others(cls: type) -> dict[str, object]:
    """Return values for what the class requires."""
    required = {item.name: item for item in settings_of(cls) if item.required}
    return {
        item.name: "x" if (within := required[item.name].within) is None else within.kind(1)
        for item in ordered_fields(cls)
        if item.name in required
    }


def outside(within: Range) -> list[object]:
    """Return numbers that are not in a range, by its bounds alone."""
    step = 1 if within.kind is int else 1e-6
    low = within.low if within.above else within.low - step
    high = within.high if within.below else within.high * (1 + 1e-6) + step
    return [within.kind(low), within.kind(high), -(10**400), 10**400, math.nan, math.inf, -math.inf]


@pytest.mark.parametrize(("cls", "item"), NUMBERS, ids=label)
def test_every_number_refuses_what_is_out_of_its_range(cls, item):
    assert item.within is not None
    assert item.within.kind is item.kind
    wrong = [*outside(item.within), True, "1", [1], None if not item.optional else "x", 10**5000]
    wrong += [1.0] if item.kind is int else [1j]
    for value in wrong:
        many = item.count != 1
        given = {**others(cls), item.name: (value,) * (item.count or 1) if many else value}
        with pytest.raises(UserError, match="but must be") as caught:
            cls(**given)
        assert f"`{cls.SECTION}{item.name}` is " in str(caught.value)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("cls", "item"), NUMBERS, ids=label)
def test_every_number_takes_its_bounds(cls, item):
    within = item.within
    low = within.low if not within.above else np.nextafter(within.low, 1)
    high = within.high if not within.below else np.nextafter(within.high, 0)
    for value in (within.kind(low), within.kind(high)):
        if item.name in {"resamples", "calibration_share", "test_share"}:  # which have one more rule
            continue
        many = item.count != 1
        made = cls(**{**others(cls), item.name: (value,) * (item.count or 1) if many else value})
        assert getattr(made, item.name) == ((value,) * (item.count or 1) if many else value)


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_and_files_refuse_the_same(command, tmp_path):
    """And an error names the flag, or the file with the key."""
    listed = settings_of(COMMANDS[command].settings)
    file = tmp_path / "c.yaml"
    for item in listed:
        if item.kind not in {int, float}:
            continue
        for value in (*outside(item.within), True):
            word = str(value) if not isinstance(value, float) or math.isfinite(value) else repr(value)
            words = [word] * (item.count or 1)
            with pytest.raises(UserError) as caught:
                read_settings(command, [f"{item.flag}={words[0]}"] if len(words) == 1 else [item.flag, *words])
            assert str(caught.value).startswith((f"{item.flag} is ", f"{item.flag}: "))
            shown = {math.inf: ".inf", -math.inf: "-.inf"}.get(value, ".nan" if word == "nan" else word)
            section, _, name = item.name.rpartition(".")
            entry = f"{name}: [{', '.join([shown] * item.count or [shown])}]" if item.many else f"{name}: {shown}"
            file.write_text(f"{section}:\n  {entry}\n" if section else f"{entry}\n", encoding="utf-8")
            with pytest.raises(UserError) as caught:
                read_settings(command, ["--config", str(file)])
            assert str(caught.value).startswith(f"{file}: {item.name} is ")


def test_seeds_are_those_that_numpy_and_torch_take():
    for seed in (0, SEED.high):
        np.random.RandomState(int(seed))
        torch.manual_seed(int(seed))
    with pytest.raises(ValueError, match="Seed must be between 0 and"):
        np.random.RandomState(int(SEED.high) + 1)


@pytest.mark.parametrize("value", [np.int64(3), np.uint8(3), np.int32(3)])
def test_whole_numbers_of_numpy_are_numbers(value):
    check_number("n", value, COUNT)
    check_number("x", value, Range(low=0, high=10))


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), 0.5])
def test_numbers_of_numpy_are_numbers(value):
    check_number("x", value, SHARE)
    with pytest.raises(UserError, match="x is .*, but must be a whole number"):
        check_number("x", value, COUNT)


@pytest.mark.parametrize("value", ["no", 0, 1, None, [True]])
def test_a_switch_is_true_or_false(value):
    with pytest.raises(UserError, match=r"`train\.gradient_checkpointing` is .*, but must be True or False"):
        settings.TrainConfig(gradient_checkpointing=value)


def test_library_classes_are_checked_too():
    with pytest.raises(UserError, match="`batch_size` is 0, but must be 1 or more"):
        EvaluationSpec(batch_size=0)
    with pytest.raises(UserError, match="`patience` is nan, but must be a whole number"):
        TuneSpec(patience=math.nan)
    with pytest.raises(UserError, match=r"`train\.epochs` is nan, but must be above 0"):
        TuneSpec(settings={"epochs": math.nan}).train_config({"learning_rate": 0.1})
    assert in_flags("`train.epochs` is nan", "tune") == "--epochs is nan"
    assert in_flags("`train.epochs` is nan", "run") == "--train.epochs is nan"
    assert in_flags("`a.b` and `c`", "tune") == "a.b and c" or in_flags("`a.b`", "tune") == "a.b"


def test_the_help_says_a_range_that_is_not_obvious():
    def shown(command: str, flag: str) -> str:
        (action,) = [action for action in build_parser(command)._actions if flag in action.option_strings]
        return str(action.help)

    assert shown("tune", "--learning-rate").endswith("(above 0)")
    assert "(from 0 to below 1) (default: 0.03)" in shown("tune", "--warmup-ratio")
    assert "(between 0 and 1) (default: 0.05)" in shown("certify", "--delta")
    assert "(8 or more) (default: 512)" in shown("run", "--text.max-tokens")
    assert "or more" not in shown("evaluate", "--batch-size")


def test_numbers_of_one_rule_more():
    with pytest.raises(UserError, match=r"`text\.calibration_share` \+ `text\.test_share` is 1\.0"):
        settings.TextConfig(test_share=0.5, calibration_share=0.5)
    with pytest.raises(UserError, match=r"`evaluate\.resamples` is 0, but must be 1 or more"):
        settings.EvaluateConfig(resamples=0)
    assert isinstance(RunConfig(), Checked)
    assert 0.5 in LEVEL


def test_a_command_says_it_in_flags(capfd):
    assert main(["certify", "m", "--delta", "2"]) == 2
    assert capfd.readouterr().err == "ks-lottery: --delta is 2.0, but must be between 0 and 1\n"
    assert isinstance(COMMANDS, Mapping)
