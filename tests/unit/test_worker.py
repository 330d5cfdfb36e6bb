"""What comes back from another process: values, and errors as they were."""

from __future__ import annotations

import pickle

import pytest

from ks_lottery import UserError
from ks_lottery.recipes.worker import replied


class OddError(Exception):
    """An error that cannot be copied to another process."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def raises(error):
    raise error


def copied(work):
    return pickle.loads(pickle.dumps(replied(work)))


def test_a_value_comes_back():
    assert copied(lambda: {"a": 1}).unwrapped() == {"a": 1}


@pytest.mark.parametrize("error", [UserError("the text: it is empty."), FileNotFoundError(2, "missing", "a.txt")])
def test_an_error_keeps_type_and_words_and_says_where_it_was_raised(error):
    with pytest.raises(type(error)) as caught:
        copied(lambda: raises(error)).unwrapped()
    assert str(caught.value) == str(error)
    assert "in raises" in caught.value.__notes__[0]


def test_an_error_that_cannot_be_copied_keeps_its_words():
    with pytest.raises(RuntimeError, match="^OddError: ab"):
        copied(lambda: raises(OddError("a", "b"))).unwrapped()
