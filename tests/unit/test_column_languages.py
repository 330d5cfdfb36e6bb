"""Text in other languages than it is said to be in: swapped columns, a wrong column, a forgotten language."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ks_lottery import Corpus, TextSource, tune
from ks_lottery.corpus import column_languages
from ks_lottery.corpus.column_languages import column_remark
from ks_lottery.corpus.corpus import Pair
from ks_lottery.errors import TextWarning

ENGLISH = [
    "The children were playing in the garden while their mother cooked dinner",
    "The government announced yesterday that taxes would go up next year",
    "This page does not exist and we could not find it anywhere",
]
CATALAN = [
    "Els nens jugaven al jardí mentre la seva mare preparava el sopar",
    "El govern va anunciar ahir que pujaran els impostos a partir de l'any vinent",
    "Aquesta pàgina no existeix i no la podem trobar enlloc",
]
FRENCH = [
    "Les enfants jouaient dans le jardin pendant que leur mère préparait le dîner",
    "Le gouvernement a annoncé hier que les impôts augmenteront l'année prochaine",
    "Cette page n'existe pas et nous ne l'avons trouvée nulle part",
]


def corpus(sources, targets, languages=("en", "ca"), count=30, **more):
    pairs = [Pair(f"{sources[i % 3]} {i}", f"{targets[i % 3]} {i}") for i in range(count)]
    return Corpus(tuple(pairs), *languages, "pairs.tsv", **more)


@pytest.mark.parametrize("count", [20, 30, 1000])
def test_swapped_columns_are_noticed(count):
    remark = column_remark(corpus(CATALAN, ENGLISH, count=count))
    assert remark == (
        "pairs.tsv: source and target look swapped: the sources look like Catalan and the targets like English. Check the "
        "columns and the languages."
    )


@pytest.mark.parametrize(
    ("sources", "targets", "what"),
    [
        (ENGLISH, FRENCH, "the targets look like French, not like Catalan"),
        (FRENCH, CATALAN, "the sources look like French, not like English"),
        (ENGLISH, ENGLISH, "the targets look like English, not like Catalan"),
    ],
)
def test_a_side_in_another_language_is_noticed(sources, targets, what):
    assert what in str(column_remark(corpus(sources, targets)))


def test_where_all_is_well_or_nothing_is_known_nothing_is_said(monkeypatch):
    assert column_remark(corpus(ENGLISH, CATALAN)) is None
    assert column_remark(corpus(CATALAN, ENGLISH, languages=("Catalan", "eng_Latn"))) is None
    assert column_remark(corpus(CATALAN, ENGLISH, count=19)) is None  # too few
    assert column_remark(corpus(["1", "2", "3"], ["4", "5", "6"])) is None
    half = replace(corpus(ENGLISH, CATALAN), pairs=(*corpus(ENGLISH, CATALAN).pairs, *corpus(CATALAN, ENGLISH).pairs))
    assert column_remark(half) is None
    monkeypatch.setattr(column_languages, "is_installed", lambda: False)
    assert column_remark(corpus(CATALAN, ENGLISH)) is None


def test_only_translations_are_looked_at():
    pairs = [Pair(f"{FRENCH[i % 3]} {i}", "Positif", instruction="Is it praise?") for i in range(40)]
    assert column_remark(Corpus(tuple(pairs), "en", "ca", "a.json")) is None


def test_a_text_of_one_language_is_looked_at():
    pairs = tuple(Pair("", f"{FRENCH[i % 3]} {i}") for i in range(30))
    remark = column_remark(Corpus(pairs, "ca", "ca", "a.txt", monolingual=True))
    assert remark == "a.txt: the texts look like French, not like Catalan. Check the columns and the languages."


def test_a_library_call_warns(tmp_path, tied_model):
    file = tmp_path / "pairs.tsv"
    text = corpus(CATALAN, ENGLISH)
    file.write_text("\n".join(f"{pair.source}\t{pair.target}" for pair in text), encoding="utf-8")
    with pytest.warns(TextWarning, match="source and target look swapped"):
        tune(tied_model, TextSource(path=str(file)), epochs=1, learning_rate=0.1, max_tokens=400)
