"""Languages under every alias: the codes of FLORES-200 as transformers lists them, and languages without spaces."""

from __future__ import annotations

import pytest
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

from ks_lottery import keep_useful, read_corpus
from ks_lottery.corpus.languages import is_spaced, language_name, same_language
from ks_lottery.errors import UserError

FLORES = [*FAIRSEQ_LANGUAGE_CODES, "arb_Latn", "min_Arab", "sat_Olck"]
UNSPACED = {
    "bod_Tibt", "dzo_Tibt", "jpn_Jpan", "khm_Khmr", "lao_Laoo", "mya_Mymr", "shn_Mymr", "tha_Thai", "yue_Hant",
    "zho_Hans", "zho_Hant",
}  # fmt: skip


@pytest.mark.parametrize("code", FLORES)
def test_flores_codes_are_languages(code):
    name = language_name(code)
    assert code.split("_")[0] not in name.split()
    assert is_spaced(code) == (code not in UNSPACED)
    assert is_spaced(name.split(" (")[0]) == is_spaced(code.split("_")[0])


@pytest.mark.parametrize(
    "language",
    [
        "ja", "jpn", "jpn_Jpan", "JA", "ja-JP", "Japanese", "zh", "zho", "chi", "cmn", "zh-CN", "zh_Hant_TW",
        "zho_Hans", "Chinese",
        "Simplified Chinese", "yue_Hant", "Cantonese", "th", "tha", "Thai", "lo", "lao", "km", "khm", "my", "mya",
        "bur", "Burmese", "bo",
        "bod", "tib", "dz", "dzo",
        "ja_JP.UTF-8", "Chinese (Simplified)", "Cantonese (Traditional)", "Chinese (Taiwan)", "nod", "mnw", "Rakhine",
    ],
)  # fmt: skip
def test_sentences_without_spaces_are_not_short(tmp_path, language):
    file = tmp_path / "a.tsv"
    file.write_text("The house is old and cold.\t今日はその家は古くて寒いです。\n", encoding="utf-8")
    corpus = read_corpus(file, source_language="en", target_language=language)
    assert len(keep_useful(corpus, min_words=4)[0]) == 1


@pytest.mark.parametrize("code", [*FLORES, "pt_BR", "zh_TW", "sr-Latn-RS", "es_419", "nod", "de_CH"])
def test_the_name_of_a_language_stands_for_its_code(code):
    name = language_name(code)
    assert language_name(name) == name
    assert same_language(name, code)
    assert is_spaced(name) == is_spaced(code)


@pytest.mark.parametrize(
    ("locale", "name"),
    [("pt_BR.UTF-8", "Portuguese (Brazil)"), ("ca_ES@valencia", "Catalan (Spain)"), ("de.utf8", "German")],
)
def test_locales_of_an_operating_system(locale, name):
    assert language_name(locale) == name


@pytest.mark.parametrize("wrong", ["Chinese (Klingon)", "Klingonese (Brazil)", "Chinese (", "(Brazil)", "Chinese ()"])
def test_names_with_an_unknown_part_are_refused(wrong):
    with pytest.raises(UserError, match="is not known"):
        language_name(wrong)


@pytest.mark.parametrize("language", ["zh_Latn", "ja-Latn", "ko", "vi", "ca"])
def test_words_are_counted_where_spaces_are_written(language):
    assert is_spaced(language)
