"""The language check: counts written out, intervals by SciPy, and refusals."""

from __future__ import annotations

from importlib import metadata

import pytest
from scipy.stats import binomtest

from ks_lottery.corpus import language_identity
from ks_lottery.errors import UserError
from ks_lottery.evaluation.language_check import language_share

CATALAN = [
    "Aquesta pàgina no existeix i no la podem trobar enlloc.",
    "El govern va anunciar ahir que pujaran els impostos a partir de l'any vinent.",
    "Els nens jugaven al jardí mentre la seva mare preparava el sopar.",
    "Vam arribar tard perquè el tren s'havia aturat a mig camí.",
]
ENGLISH = [
    "The children were playing in the garden while their mother cooked dinner.",
    "The government announced yesterday that taxes would go up next year.",
]
SPANISH = ["El gobierno anunció ayer que subirán los impuestos a partir del próximo año."]


def test_counts_share_and_interval():
    found = language_share([*CATALAN, *ENGLISH, *SPANISH, "", " \n", "123", "--"], "ca", confidence=0.9)
    assert (found.outputs, found.empty, found.undecided, found.right) == (11, 2, 2, 4)
    assert found.share == 4 / 7
    wanted = binomtest(4, 7).proportion_ci(0.9, method="exact")
    assert found.interval == (wanted.low, wanted.high)
    assert (found.language, found.name) == ("ca", "Catalan")
    assert (found.other, found.other_name, found.other_count) == ("en", "English", 2)
    assert (found.package, found.version) == ("py3langid", metadata.version("py3langid"))


def test_the_target_is_what_is_asked_for():
    english = language_share([*CATALAN, *ENGLISH, *SPANISH], "English")
    assert (english.right, english.other, english.other_count) == (2, "ca", 4)
    for code in ("es", "spa", "es_MX", "spa_Latn", "Spanish"):
        found = language_share(SPANISH, code)
        assert (found.language, found.right, found.other, found.other_count) == ("es", 1, None, 0)


def test_of_several_other_languages_the_first_by_code():
    assert language_share([*SPANISH, ENGLISH[0], *CATALAN], "ca").other == "en"


@pytest.mark.parametrize("outputs", [[], ["", "  "], ["42", "..."]])
def test_without_words_there_is_no_share(outputs):
    found = language_share(outputs, "ca")
    assert found.share is None
    assert found.interval == (0.0, 1.0)
    assert found.empty + found.undecided == len(outputs)


def test_languages_that_cannot_be_told_are_one_sentence():
    with pytest.raises(UserError, match="language 'xyz' is not known"):
        language_share(CATALAN, "xyz")
    with pytest.raises(UserError, match="py3langid does not know Navajo: leave the language check out"):
        language_share(CATALAN, "nv")


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(language_identity.util, "find_spec", lambda name: None)
    language_identity.identifier.cache_clear()
    with pytest.raises(UserError, match=r"^the language check needs py3langid: pip install 'ks-lottery\[language\]'$"):
        language_share(CATALAN, "ca")
