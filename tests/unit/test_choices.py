"""Every registry has the names that flags, config checks and docs offer, and every name offered works."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from ks_lottery.certification.bounds import Bounding
from ks_lottery.certification.tau import tau_of
from ks_lottery.certification.theorem import certified
from ks_lottery.certification.units import Kind
from ks_lottery.checkpoint.patch import SIDES, Side
from ks_lottery.cli.commands import COMMANDS
from ks_lottery.config import choices
from ks_lottery.config.fields import settings_of
from ks_lottery.config.settings import CertifyConfig, ModelConfig, RunConfig, TextConfig
from ks_lottery.corpus.mixed_templates import resolved_template
from ks_lottery.corpus.prompts import CHAT, MIXED, TEMPLATES
from ks_lottery.corpus.readers import READERS
from ks_lottery.errors import UserError
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.evaluation.scores import SCORED, score
from ks_lottery.models.formats import FORMATS
from ks_lottery.models.load import choose_dtype
from ks_lottery.models.quantized import quantization_config
from ks_lottery.recipes.all_recipes import ALL
from ks_lottery.recipes.demo import BUDGETS, DEMOS, GEMMA_BUDGETS
from ks_lottery.recipes.prepared_recipe import RECIPES
from ks_lottery.recipes.recipe_scale import SCALES
from ks_lottery.stats import multiplicity
from ks_lottery.tickets.selectors import SELECTORS


@pytest.mark.parametrize(
    ("registry", "offered"),
    [
        (SELECTORS, choices.SELECTORS),
        (FORMATS, choices.EXPORTS),
        (BUDGETS, choices.BUDGETS),
        (GEMMA_BUDGETS, choices.BUDGETS),
        (DEMOS, choices.DEMOS),
        ([*RECIPES, ALL], choices.RECIPES),
        (SCALES, choices.SCALES),
        ([*READERS, "dataset"], choices.TEXT_FORMATS),  # a dataset is read by its name, not by a reader of files
        ([*TEMPLATES, CHAT, MIXED], choices.TEMPLATES),  # the tokenizer brings the text of one, and one is several
        (multiplicity.CORRECTIONS, choices.CORRECTIONS),  # stats and config are on one floor and do not know each other
        (SIDES, choices.SIDES),
        (get_args(Side), choices.SIDES),
        (get_args(Kind), choices.LOSSES),
        (get_args(Bounding), choices.BOUNDS),
    ],
)
def test_a_registry_has_the_names_that_are_offered(registry, offered):
    assert sorted(registry) == sorted(offered)


@pytest.mark.parametrize(
    ("config", "field", "offered"),
    [
        (ModelConfig, "dtype", choices.DTYPES),
        (ModelConfig, "device", choices.DEVICES),
        (TextConfig, "format", ("auto", *choices.TEXT_FORMATS)),
        (CertifyConfig, "tau", choices.TAUS),
        (CertifyConfig, "bound", tuple(choices.BOUNDS)),
    ],
)
def test_a_config_takes_the_names_that_are_offered(config, field, offered):
    (item,) = (item for item in settings_of(config) if item.name == field)
    assert item.choices == offered


def offered_by(command, flag):
    (item,) = (item for item in settings_of(COMMANDS[command].settings) if item.flag == flag)
    return item.choices


@pytest.mark.parametrize(
    ("command", "flag", "offered"),
    [
        ("tune", "--method", choices.METHODS),
        ("run", "--compare", choices.COMPARISON_SETS),
        ("tune", "--by", choices.TEXT_RULES),
        ("tune", "--side", choices.SIDES),
        ("tune", "--quantize", choices.QUANTIZATIONS),
        ("tune", "--dtype", choices.DTYPES),
        ("tune", "--device", choices.DEVICES),
        ("evaluate", "--dtype", choices.DTYPES),
        ("evaluate", "--device", choices.DEVICES),
        ("scan", "--units", choices.UNITS),
        ("scan", "--correction", choices.CORRECTIONS),
        ("select", "--by", choices.RANKINGS),
        ("select", "--correction", choices.CORRECTIONS),
        ("certify", "--tau", choices.TAUS),
        ("certify", "--rule", choices.RULES),
        ("certify", "--loss", choices.LOSSES),
        ("export", "--to", choices.EXPORTS),
        ("reproduce", "--recipe", choices.RECIPES),
        ("reproduce", "--scale", choices.SCALES),
        ("store", "--action", choices.STORE_ACTIONS),
        ("demo", "--budget", choices.BUDGETS),
        ("demo", "--model", choices.DEMOS),
        ("evaluate", "--metrics", choices.METRICS),
    ],
)
def test_a_flag_offers_the_names(command, flag, offered):
    assert offered_by(command, flag) == tuple(offered)


def test_methods_name_selectors_and_scores_are_selectors():
    for name, method in choices.METHODS.items():
        assert (method.kind == "rows") == (method.selector in SELECTORS), name
        assert (method.selector == "") == (method.kind != "rows"), name
    assert {*choices.SCORES, *choices.ATTRIBUTIONS} <= {*choices.RANKINGS} <= {*SELECTORS}
    assert {*choices.SIZED_METHODS} <= {*choices.METHODS}
    assert {*choices.MEASURED} <= {*choices.TEXT_RULES} <= {*choices.RANKINGS}
    assert {*choices.MEASURED} <= {*choices.ATTRIBUTIONS}


def test_what_a_run_compares_is_a_selector_and_nothing_else_is_taken():
    assert {name for names in choices.COMPARISON_SETS.values() for name in names} <= {*SELECTORS}
    with pytest.raises(UserError, match="`compare` is 'some', but must be one of default, all"):
        RunConfig(compare="some")


def test_metrics_stand_for_what_can_be_computed():
    """Each name stands for names that stand for themselves: scores of hypotheses, and accuracy."""
    for parts in choices.METRICS.values():
        assert all(choices.METRICS[part] == (part,) for part in parts)
    assert {part for parts in choices.METRICS.values() for part in parts} == {*SCORED, "accuracy"}
    computed = score(["a b c d e"], ["a b c d e"], metrics=("bleu", "chrf"), resamples=0)
    assert {name: metric.score for name, metric in computed.metrics.items()} == pytest.approx(
        {"bleu": 100, "chrf": 100}
    )


def test_every_tau_and_rule_works_and_no_other(make_scan):
    scan = make_scan([0, 9, 40, 3], 64)
    assert all(0 <= tau_of(kind, scan, alpha=0.5) <= 1 for kind in choices.TAUS)
    n = np.arange(4)
    columns = {"sentence": n, "position": 0 * n, "label": n, "first": n, "second": n + 1}
    answers = Predictions(**columns, log_p=-np.ones(4), p_first=np.full(4, 0.9), p_second=np.full(4, 0.1), made_from={})
    assert all(certified(rule, answers, answers, 0.1).all() for rule in choices.RULES)
    with pytest.raises(ValueError, match="other"):
        tau_of("other", scan, alpha=0.5)
    with pytest.raises(ValueError, match="other"):
        certified("other", answers, answers, 0.1)


@pytest.mark.parametrize("correction", choices.CORRECTIONS)
def test_every_correction_works(correction):
    assert (multiplicity.adjust(np.log([0.01, 0.5]), correction) <= 0).all()


def test_every_template_and_type_is_known():
    for template in choices.TEMPLATES:
        resolved_template(template)
    assert {str(choose_dtype(name, "cpu")) for name in choices.DTYPES[1:]} == {"torch.float32", "torch.bfloat16"}
    with pytest.raises(UserError, match="int3 is not known; there is nf4"):
        quantization_config("int3", choose_dtype("float32", "cpu"))


@pytest.mark.parametrize("units", choices.UNITS)
def test_every_kind_of_unit_is_compared(untied_model, units):
    from ks_lottery import open_checkpoint, scan

    base = open_checkpoint(str(untied_model))
    found = scan(base, base, units=units)
    assert len(found)
    assert not found.counts.any()
