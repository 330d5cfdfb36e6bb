"""The public API: every name is there at once, says what it takes, and has the defaults of the settings that it fills."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from typing import get_type_hints

import pytest

import ks_lottery
from ks_lottery.certification.spec import CertifySpec
from ks_lottery.config.fields import settings_of
from ks_lottery.config.groups import ModelOptions
from ks_lottery.config.settings import CertifyConfig, TrainConfig
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
from ks_lottery.tuning.tune_keywords import TuneKeywords
from ks_lottery.tuning.tune_spec import TuneSpec

CALLABLES = {name: value for name in ks_lottery.__all__ if callable(value := getattr(ks_lottery, name))}
METHODS = {
    f"{name}.{part}": value
    for name, noun in CALLABLES.items()
    if inspect.isclass(noun)
    for part, value in vars(noun).items()
    if not part.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod | staticmethod))
}


def documented(name, function, *, skip=()):
    """Return the parameters of a callable that its docstring does not name."""
    text = inspect.getdoc(function) or ""
    assert text, name
    assert not text.startswith(f"{name}("), f"{name} has only the docstring that dataclass makes"
    parameters = [p for p in inspect.signature(function).parameters if p not in skip]
    return [p for p in parameters if not re.search(rf"(?<![\w]){p}(?![\w])", text)]


@pytest.mark.parametrize("name", CALLABLES)
def test_every_parameter_is_in_the_docstring(name):
    if issubclass(CALLABLES[name], BaseException) if inspect.isclass(CALLABLES[name]) else False:
        assert inspect.getdoc(CALLABLES[name])
        return
    if name in {"RunConfig", "TextSource"}:  # a docstring a field, in the source
        assert [item.name for item in settings_of(CALLABLES[name]) if not item.help] == []
        return
    assert documented(name, CALLABLES[name]) == []


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_of_a_method_is_in_its_docstring(name):
    value = METHODS[name]
    function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    if name.startswith("KSCallback.on_"):  # the Trainer's own signature
        return
    assert documented(name, function, skip=("self", "cls")) == []


@pytest.mark.parametrize("name", [n for n, value in CALLABLES.items() if not inspect.isclass(value)])
def test_functions_say_what_they_raise(name):
    text = inspect.getdoc(CALLABLES[name])
    assert "Parameters\n---" in text
    assert "Raises\n---" in text or name == "keep_useful"


def test_names_are_complete_and_nothing_is_imported_for_them():
    code = (
        "import sys, ks_lottery\n"
        "assert set(ks_lottery.__all__) <= set(dir(ks_lottery)), dir(ks_lottery)\n"
        "assert ks_lottery.__version__.count('.') >= 2\n"
        "heavy = {'numpy', 'torch', 'transformers', 'rich', 'yaml', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert ks_lottery.scan is ks_lottery.scan
    with pytest.raises(AttributeError, match="has no attribute 'scna'"):
        _ = ks_lottery.scna


def keywords(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def defaults(settings, *, without=()):
    """Return name to default of a settings class."""
    return {
        field.name: None if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(settings)
        if field.name not in without
    }


def test_tune_lists_its_settings_with_their_defaults():
    given = keywords(ks_lottery.tune)
    assert set(TuneKeywords.__annotations__) == set(given) - {"method"}
    own = defaults(TuneSpec, without=("frequencies", "settings", "logs", "fsdp_config"))
    assert {name: given[name] for name in own} == own
    # Without them the method has the paper's.
    training = {**defaults(TrainConfig), "learning_rate": None, "epochs": None}
    assert {name: given[name] for name in training} == training
    assert set(given) == {*own, *training, "target_text", "preset", "validation", "callbacks", "progress"}


def test_evaluate_and_certify_list_theirs():
    given = keywords(ks_lottery.evaluate)
    own = defaults(EvaluationSpec)
    assert {name: given[name] for name in own} == own
    assert set(given) == {*own, *defaults(ModelOptions), "folder", "general", "progress"}
    given = keywords(ks_lottery.certify)
    own = {**defaults(CertifySpec, without=("config",)), **defaults(CertifyConfig)}
    assert {name: given[name] for name in own} == own
    assert set(given) == {*own, *defaults(ModelOptions), "progress", "tick"}


@pytest.mark.parametrize("settings", [TrainConfig])
def test_types_are_those_of_the_settings(settings):
    hints, own = get_type_hints(settings), TuneKeywords.__annotations__
    for name, hint in ((item.name, hints[item.name]) for item in dataclasses.fields(settings)):
        wanted = str(hint).replace("<class '", "").replace("'>", "")
        said = own[name].__forward_arg__ if hasattr(own[name], "__forward_arg__") else str(own[name])
        assert said in (wanted, f"{wanted} | None"), name
