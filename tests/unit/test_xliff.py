"""XLIFF: states, inline tags, documents, and files that are damaged; checked against translate-toolkit."""

from __future__ import annotations

import gzip
import sys

import pytest
from translate.storage.xliff import Xliff1File
from translate.storage.xliff2 import Xliff2File

from ks_lottery import UserError, keep_useful, read_corpus

PAIRS = [("The house is old & <cold>", "La casa és vella i <freda>"), ("Hello, world", "Hola, món")]


def read(path, **more):
    corpus = read_corpus(path, **{"source_language": "en", "target_language": "ca", **more})
    return [(pair.source, pair.target) for pair in corpus]


def toolkit_xliff(path, kind, states):
    store = kind()
    store.sourcelanguage, store.targetlanguage = "en", "ca"
    for number, (source, target, mark) in enumerate(states):
        unit = store.addsourceunit(source)
        unit.setid(f"u{number}")
        if target:
            unit.target = target
        mark(unit)
    path.write_bytes(bytes(store))
    return path


@pytest.mark.parametrize("kind", [Xliff1File, Xliff2File])
@pytest.mark.parametrize("packed", [False, True])
def test_xliff_that_translate_toolkit_wrote(tmp_path, kind, packed):
    states = [
        (*PAIRS[0], lambda unit: None),
        ("A guess", "Una endevinalla", lambda unit: unit.markfuzzy()),
        ("Not done", None, lambda unit: None),
        (*PAIRS[1], lambda unit: unit.markapproved()),
        ("Leave me", "Deixa'm", lambda unit: unit.marktranslatable(value=False)),
    ]
    file = toolkit_xliff(tmp_path / "a.xlf", kind, states)
    if packed:
        file = tmp_path / "a.xliff.gz"
        with gzip.open(file, "wb") as handle:
            handle.write((tmp_path / "a.xlf").read_bytes())
    corpus = read_corpus(file, source_language="en_US", target_language="ca")
    assert [(pair.source, pair.target) for pair in corpus] == PAIRS
    assert corpus.left_out == {"unfinished": 1, "untranslated": 1, "not to translate": 1}
    with pytest.raises(UserError, match="is from en to ca, not from en to fr"):
        read(file, target_language="fr")


def xliff1(units, attributes='source-language="en" target-language="ca"'):
    return (
        '<?xml version="1.0"?><xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">\n'
        f'<file original="ui/main.c" datatype="c" {attributes}><body>{units}</body></file></xliff>'
    )


@pytest.mark.parametrize(
    ("unit", "target", "taken"),
    [
        ("", "", True),
        ('approved="yes"', "", True),
        ('approved="no"', "", False),
        ("", 'state="translated"', True),
        ('approved="no"', 'state="translated"', True),
        ("", 'state="final"', True),
        ("", 'state="signed-off"', True),
        ("", 'state="new"', False),
        ("", 'state="needs-translation"', False),
        ("", 'state="needs-review-translation"', False),
        ("", 'state="x-draft"', False),
        ("", 'state="translated" state-qualifier="exact-match"', True),
        ("", 'state="translated" state-qualifier="fuzzy-match"', False),
        ("", 'state="translated" state-qualifier="mt-suggestion"', False),
        ("", 'state="translated" state-qualifier="leveraged-mt"', False),
    ],
)
def test_states_of_xliff_1(tmp_path, unit, target, taken):
    body = "<trans-unit id='{}' {}><source>{}</source><target {}>{}</target></trans-unit>"
    file = tmp_path / "a.xlf"
    file.write_text(xliff1(body.format(1, unit, "a", target, "b") + body.format(2, "", "c", "", "d")))
    assert read(file) == ([("a", "b")] if taken else []) + [("c", "d")]


def test_inline_tags_suggestions_and_documents_of_xliff_1(tmp_path):
    file = tmp_path / "a.xlf"
    file.write_text(
        xliff1(
            '<group id="g"><trans-unit id="1"><source>Click <g id="1">here</g><x id="2"/> <ph id="3">%s</ph>now</source>'
            '<target>Feu clic <mrk mtype="seg" mid="1"><g id="1">aquí</g></mrk> <bpt id="4">\\b</bpt>ara</target>'
            '<alt-trans><source>no</source><target>never</target></alt-trans></trans-unit></group>'
        )
    )  # fmt: skip
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [(p.source, p.target, p.document) for p in corpus] == [
        ("Click here{2} %snow", "Feu clic aquí ara", "ui/main.c")
    ]


def test_segments_and_states_of_xliff_2(tmp_path):
    file = tmp_path / "a.xlf"
    segment = "<segment {}><source>{}</source><target>{}</target></segment>"
    states = ["", 'state="initial"', 'state="translated"', 'state="reviewed"', 'state="final"']
    body = "".join(
        segment.format(state, f"s<pc id='{i}'>{i}</pc><ph id='x{i}'/>", f"t{i}") for i, state in enumerate(states)
    )
    file.write_text(
        '<xliff version="2.0" xmlns="urn:oasis:names:tc:xliff:document:2.0" srcLang="en" trgLang="ca"><file id="main">'
        f'<unit id="u">{body}<ignorable><source> </source></ignorable></unit></file></xliff>'
    )
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [(p.source, p.target, p.document) for p in corpus] == [
        (f"s{i}{{x{i}}}", f"t{i}", "main") for i in (0, 2, 3, 4)
    ]
    assert corpus.left_out == {"unfinished": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html></html>", r"a\.xlf is no XLIFF file: its root is html"),
        ("<xliff>\n<file>", r"a\.xlf, line 2 is not well-formed"),
        ("", r"a\.xlf, line \d+ is not well-formed"),
        ('<xliff version="1.2"></xliff>', "cannot be read as XLIFF"),
        (
            xliff1("<trans-unit id='1'><source>a</source></trans-unit>"),
            "holds no pairs.*1 left out: untranslated",
        ),
        (
            xliff1("", 'source-language="ca" target-language="en"'),
            "line 2 is from ca to en, not from en to ca",
        ),
    ],
)
def test_damaged_exchange_files_get_one_sentence(tmp_path, content, message):
    (tmp_path / "a.xlf").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / "a.xlf")
    assert "\n" not in str(caught.value)


def test_entities_open_no_file(tmp_path):
    (tmp_path / "secret").write_text("do not read me")
    exchange = "<xliff version='1.2'><file source-language='en'><body><trans-unit id='1'><source>a&e;c</source>"
    exchange += "<target>b</target></trans-unit></body></file></xliff>"
    file = tmp_path / "a.xlf"
    file.write_text(f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>{exchange}')
    with pytest.raises(
        UserError, match="1 left out: invalid characters"
    ):  # neither the secret nor a sentence without it
        read(file)


def test_xliff_without_its_reader_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "translate.storage.xliff", None)
    file = tmp_path / "a.xlf"
    file.write_text('<xliff version="1.2"/>', encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.xlf is XLIFF.*pip install translate-toolkit"):
        read_corpus(file, source_language="en", target_language="ca")


TWO = xliff1(
    "<trans-unit id='1'><source>no</source><target>non</target></trans-unit>",
    'source-language="de" target-language="it"',
).replace(
    "</file>",
    "</file><file original='b' source-language='en' target-language='ca' datatype='c'><body><trans-unit id='2'>"
    "<source>a</source><target>b</target></trans-unit></body></file>",
)


def test_a_file_between_several_languages(tmp_path):
    file = tmp_path / "a.xlf"
    file.write_text(TWO, encoding="utf-8")
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert ([(p.source, p.target, p.document) for p in corpus], corpus.left_out) == (
        [("a", "b", "b")],
        {"other languages": 1},
    )
    assert read(file, source_language="de", target_language="it") == [("no", "non")]
    with pytest.raises(UserError, match="from de to it, from en to ca, not from en to it"):
        read(file, target_language="it")


def sdl(*segments):
    each = "".join(f"<sdl:seg id='{number}' {segment}/>" for number, segment in enumerate(segments))
    return f'<sdl:seg-defs xmlns:sdl="http://sdl.com/FileTypes/SdlXliff/1.0">{each}</sdl:seg-defs>'


@pytest.mark.parametrize(
    ("attributes", "more", "taken"),
    [
        ("", sdl('conf="Translated"'), True),
        ("", sdl('conf="ApprovedTranslation"'), True),
        ("", sdl('conf="ApprovedSignOff"'), True),
        ("", sdl('conf="Draft"'), False),
        ("", sdl('conf="RejectedTranslation"'), False),
        ("", sdl('conf="RejectedSignOff"'), False),
        ("", sdl('conf="Unspecified"'), False),
        ("", sdl(""), False),
        ("", sdl('conf="Translated"', 'conf="Draft"'), False),
        ('xmlns:mq="MQXliff" mq:status="ManuallyConfirmed"', "", True),
        ('xmlns:mq="MQXliff" mq:status="NotStarted"', "", False),
        ('xmlns:mq="MQXliff" mq:status="Rejected"', "", False),
        ('xmlns:m="http://www.memsource.com/mxlf/2.0" m:confirmed="1"', "", True),
        ('xmlns:m="http://www.memsource.com/mxlf/2.0" m:confirmed="0"', "", False),
    ],
)
@pytest.mark.parametrize("ending", ["sdlxliff", "mqxliff", "xlf"])
def test_drafts_and_rejected_segments_are_unfinished(tmp_path, attributes, more, taken, ending):
    body = "<trans-unit id='{}' {}><source>{}</source><target><mrk mtype='seg' mid='0'>{}</mrk></target>{}</trans-unit>"
    file = tmp_path / f"a.{ending}"
    file.write_text(xliff1(body.format(1, attributes, "a", "b", more) + body.format(2, "", "c", "d", "")))
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [(p.source, p.target) for p in corpus] == ([("a", "b")] if taken else []) + [("c", "d")]
    assert corpus.left_out == ({} if taken else {"unfinished": 1})


@pytest.mark.parametrize(
    ("inline", "text", "dropped"),
    [
        ("<x id='1'/>", "{1}", True),
        ("<x id='INTERPOLATION' equiv-text='{{ name }}'/>", "{INTERPOLATION}", True),
        ("<ph id='2'>%d</ph>", "%d", True),
        ("<bx id='3'/>", "", False),
        ("<ex id='3'/>", "", False),
        ("<x id='1' ctype='x-b' equiv-text='&lt;b&gt;'/>", "", False),
        ("<x id='1' ctype='lb'/>", " ", False),
        ("<g id='1'>3</g>", "3", False),
        ("<bpt id='1'>&lt;b&gt;</bpt>", "", False),
    ],
)
def test_inline_elements_that_stand_for_values(tmp_path, inline, text, dropped):
    file = tmp_path / "a.xlf"
    file.write_text(
        xliff1(f"<trans-unit id='1'><source>It has{inline}rooms</source><target>Té{inline}sales</target></trans-unit>")
    )
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [(p.source, p.target) for p in corpus] == [(f"It has{text}rooms", f"Té{text}sales")]
    assert keep_useful(corpus, min_words=0)[1].placeholder == dropped


@pytest.mark.parametrize(
    ("inline", "text", "dropped"),
    [
        ("<ph id='1' dataRef='value'/>", "%d", True),
        ("<ph id='1' dataRef='tag'/>", "", False),
        ("<ph id='1' dataRef='break'/>", " ", False),
        ("<ph id='1' dataRef='absent'/>", "{1}", True),
        ("<pc id='1' dataRefStart='tag'>3</pc>", "3", False),
        ("<sc id='1' dataRef='tag'/>", "", False),
    ],
)
def test_inline_elements_of_xliff_2_name_their_code(tmp_path, inline, text, dropped):
    file = tmp_path / "a.xlf"
    file.write_text(
        "<xliff version='2.0' xmlns='urn:oasis:names:tc:xliff:document:2.0' srcLang='en' trgLang='ca'><file id='f'>"
        "<unit id='1'><originalData><data id='tag'>&lt;b&gt;</data><data id='value'>%d</data>"
        "<data id='break'>&lt;br/&gt;</data></originalData><segment state='final'>"
        f"<source>It has{inline}rooms</source><target>Té{inline}sales</target></segment></unit></file></xliff>",
        encoding="utf-8",
    )
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [(p.source, p.target) for p in corpus] == [(f"It has{text}rooms", f"Té{text}sales")]
    assert keep_useful(corpus, min_words=0)[1].placeholder == dropped


@pytest.mark.parametrize("bad", ["&#x1F;", "\x1f", "&", "&nbsp;"])
def test_one_bad_unit_is_counted_and_the_others_are_whole(tmp_path, bad):
    file = tmp_path / "a.xlf"
    body = "<trans-unit id='{}'><source>{}</source><target>{}</target></trans-unit>"
    file.write_text(
        xliff1(body.format(1, "a &amp; b", "c\u00a0d") + body.format(2, f"x{bad}y", "z") + body.format(3, "e", "f"))
    )
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [(p.source, p.target) for p in corpus] == [("a & b", "c\u00a0d"), ("e", "f")]
    assert corpus.left_out == {"invalid characters": 1}


def test_a_character_that_xliff_2_writes_by_its_number(tmp_path):
    file = tmp_path / "a.xlf"
    segment = "<segment><source>{}</source><target>{}</target></segment>"
    file.write_text(
        '<xliff version="2.0" xmlns="urn:oasis:names:tc:xliff:document:2.0" srcLang="en" trgLang="ca"><file id="main">'
        '<unit id="u">'
        + segment.format("a<cp hex='001F'/>b", "c") + segment.format("d", "e") + "</unit></file></xliff>"
    )  # fmt: skip
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert ([(p.source, p.target) for p in corpus], corpus.left_out) == ([("d", "e")], {"invalid characters": 1})


@pytest.mark.parametrize(
    ("states", "taken"),
    [
        (("Translated", "Draft"), ["One."]),
        (("RejectedTranslation", "ApprovedSignOff"), ["Two."]),
        (("Translated", "Translated"), ["One.", "Two."]),
        (("Draft", "Draft"), []),
    ],
)
def test_each_segment_of_a_unit_is_a_pair_with_a_state_of_its_own(tmp_path, states, taken):
    def marked(one, two):
        return f"<mrk mtype='seg' mid='1'>{one}</mrk> <mrk mtype='seg' mid='2'>{two}</mrk>"

    defined = "".join(f'<sdl:seg id="{n}" conf="{state}"/>' for n, state in enumerate(states, 1))
    file = tmp_path / "a.sdlxliff"
    file.write_text(
        xliff1(
            f"<trans-unit id='1'><source>One. Two.</source><seg-source>{marked('One.', 'Two.')}</seg-source>"
            f"<target>{marked('U.', 'Dos.')}</target>"
            f'<sdl:seg-defs xmlns:sdl="http://sdl.com/FileTypes/SdlXliff/1.0">{defined}</sdl:seg-defs></trans-unit>'
            "<trans-unit id='2'><source>c</source><target>d</target></trans-unit>"
        ),
        encoding="utf-8",
    )
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [pair.source for pair in corpus] == [*taken, "c"]
    assert [pair.target for pair in corpus] == [*({"One.": "U.", "Two.": "Dos."}[source] for source in taken), "d"]
    assert corpus.left_out.get("unfinished", 0) == 2 - len(taken)
