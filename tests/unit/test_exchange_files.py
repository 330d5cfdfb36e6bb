"""TMX and XLIFF: languages, states, inline tags, documents, and files that are damaged; checked against translate-toolkit."""

from __future__ import annotations

import gzip
import lzma
import sys

import pytest
from translate.storage.tmx import tmxfile
from translate.storage.xliff import Xliff1File
from translate.storage.xliff2 import Xliff2File

from ks_lottery import UserError, read_corpus

PAIRS = [("The house is old & <cold>", "La casa és vella i <freda>"), ("Hello, world", "Hola, món")]


def read(path, **more):
    corpus = read_corpus(path, **{"source_language": "en", "target_language": "ca", **more})
    return [(pair.source, pair.target) for pair in corpus]


def toolkit_tmx(path, pairs=PAIRS, codes=("en", "ca")):
    store = tmxfile(sourcelanguage=codes[0], targetlanguage=codes[1])
    for source, target in pairs:
        store.addtranslation(source, codes[0], target, codes[1])
    path.write_bytes(bytes(store))
    return path


@pytest.mark.parametrize("codes", [("en", "ca"), ("en-US", "ca-ES"), ("EN", "CA"), ("en_GB", "cat")])
def test_a_memory_that_translate_toolkit_wrote(tmp_path, codes):
    assert read(toolkit_tmx(tmp_path / "a.tmx", codes=codes)) == PAIRS


@pytest.mark.parametrize(("opener", "ending"), [(gzip.open, "gz"), (lzma.open, "xz")])
def test_packed_memories_and_damaged_ones(tmp_path, opener, ending):
    plain = toolkit_tmx(tmp_path / "a.tmx", PAIRS * 50).read_bytes()
    file = tmp_path / f"b.tmx.{ending}"
    with opener(file, "wb") as handle:
        handle.write(plain)
    assert read(file) == PAIRS * 50
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="not a whole packed file"):
        read(file)
    (tmp_path / "a.tmx").write_bytes(plain[: len(plain) // 2])
    with pytest.raises(UserError, match=r"a\.tmx, line \d+ is not well-formed XML"):
        read(tmp_path / "a.tmx")


TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en" segtype="sentence"/><body>
<tu tuid="1"><prop type="x-document">help/intro.html</prop>
  <tuv xml:lang="ca"><seg>Feu clic <bpt i="1">&lt;b&gt;</bpt>aquí<ept i="1">&lt;/b&gt;</ept> <ph>{0}</ph>ara</seg></tuv>
  <tuv xml:lang="en-GB"><seg>British</seg></tuv>
  <tuv xml:lang="en"><seg>Click <bpt i="1">&lt;b&gt;</bpt>here<ept i="1">&lt;/b&gt;</ept>
     <hi>right <it pos="begin">&lt;i&gt;</it>now</hi><!-- no --></seg></tuv></tu>
<tu><tuv xml:lang="en-US"><seg>Colour</seg></tuv><tuv xml:lang="en-GB"><seg>Color</seg></tuv>
  <tuv lang="ca"><seg>Color</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>Only English</seg></tuv><tuv xml:lang="de"><seg>Nur Englisch</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>Brazil</seg></tuv><tuv xml:lang="pt"><seg>general</seg></tuv>
  <tuv xml:lang="pt-PT"><seg>europeu</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>Brazil</seg></tuv><tuv xml:lang="pt-PT"><seg>europeu</seg></tuv>
  <tuv xml:lang="pt-BR"><seg>brasileiro</seg></tuv><tuv xml:lang="pt"><seg>general</seg></tuv></tu>
</body></tmx>
"""


def test_languages_inline_tags_and_documents_of_a_memory(tmp_path):
    file = tmp_path / "a.tmx"
    file.write_text(TMX, encoding="utf-8")
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [(pair.source, pair.target) for pair in corpus] == [
        ("Click here right now", "Feu clic aquí ara"),
        ("Colour", "Color"),
    ]
    assert [pair.document for pair in corpus] == ["help/intro.html", ""]
    assert corpus.left_out == {"other languages": 3}
    assert read(file, target_language="pt_BR") == [("Brazil", "general"), ("Brazil", "brasileiro")]
    assert read(file, source_language="en_GB")[1] == ("Color", "Color")
    with pytest.raises(
        UserError, match="no unit in en and fr; its languages are ca, en-GB, en, en-US, de, pt, pt-PT, pt-BR"
    ):
        read(file, target_language="fr")


def test_a_memory_in_utf16(tmp_path):
    file = tmp_path / "a.tmx"
    file.write_bytes(TMX.replace("UTF-8", "UTF-16").encode("utf-16"))
    assert read(file)[1] == ("Colour", "Color")


def test_entities_open_no_file(tmp_path):
    (tmp_path / "secret").write_text("do not read me")
    variant = '<tuv xml:lang="{}"><seg>{}</seg></tuv>'
    memory = f"<tmx><body><tu>{variant.format('en', 'a&e;c')}{variant.format('ca', 'b')}</tu></body></tmx>"
    exchange = "<xliff version='1.2'><file source-language='en'><body><trans-unit id='1'><source>a&e;c</source>"
    exchange += "<target>b</target></trans-unit></body></file></xliff>"
    for ending, root in (("tmx", memory), ("xlf", exchange)):
        file = tmp_path / f"a.{ending}"
        file.write_text(f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>{root}')
        assert read(file) == [("ac", "b")]


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
    assert [(p.source, p.target, p.document) for p in corpus] == [("Click here now", "Feu clic aquí ara", "ui/main.c")]


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
    assert [(p.source, p.target, p.document) for p in corpus] == [(f"s{i}", f"t{i}", "main") for i in (0, 2, 3, 4)]
    assert corpus.left_out == {"unfinished": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tmx", "<html></html>", r"a\.tmx is no TMX file: its root is html"),
        ("a.tmx", "", r"a\.tmx, line \d+ is not well-formed"),
        ("a.tmx", "<tmx><body></body></tmx>", "holds no pairs"),
        ("a.xlf", "<html></html>", r"a\.xlf is no XLIFF file: its root is html"),
        ("a.xlf", "<xliff>\n<file>", r"a\.xlf, line 2 is not well-formed"),
        ("a.xlf", "", r"a\.xlf, line \d+ is not well-formed"),
        ("a.xlf", '<xliff version="1.2"></xliff>', "cannot be read as XLIFF"),
        (
            "a.xlf",
            xliff1("<trans-unit id='1'><source>a</source></trans-unit>"),
            "holds no pairs.*1 left out: untranslated",
        ),
        (
            "a.xlf",
            xliff1("", 'source-language="ca" target-language="en"'),
            "line 2 is from ca to en, not from en to ca",
        ),
    ],
)
def test_damaged_files_get_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_xliff_without_its_reader_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "translate.storage.xliff", None)
    file = tmp_path / "a.xlf"
    file.write_text('<xliff version="1.2"/>', encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.xlf is XLIFF.*pip install translate-toolkit"):
        read_corpus(file, source_language="en", target_language="ca")
