"""TMX: languages, inline tags, documents, and files that are damaged; checked against translate-toolkit."""

from __future__ import annotations

import gzip
import lzma

import pytest
from translate.storage.tmx import tmxfile

from ks_lottery import UserError, keep_useful, read_corpus

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
        ("Click here right now", "Feu clic aquí {0}ara"),
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
    file = tmp_path / "a.tmx"
    file.write_text(f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>{memory}')
    with pytest.raises(
        UserError, match="1 left out: invalid characters"
    ):  # neither the secret nor a sentence without it
        read(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html></html>", r"a\.tmx is no TMX file: its root is html"),
        ("", r"a\.tmx, line \d+ is not well-formed"),
        ("<tmx><body></body></tmx>", "holds no pairs"),
    ],
)
def test_damaged_memories_get_one_sentence(tmp_path, content, message):
    (tmp_path / "a.tmx").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / "a.tmx")
    assert "\n" not in str(caught.value)


def unit(source, target, more=""):
    return f'<tu {more}><tuv xml:lang="en"><seg>{source}</seg></tuv><tuv xml:lang="ca"><seg>{target}</seg></tuv></tu>'


def memory(path, *units):
    path.write_text(f"<tmx><body>{''.join(units)}</body></tmx>", encoding="utf-8")
    return read_corpus(path, source_language="en", target_language="ca")


@pytest.mark.parametrize("bad", ["&#x1F;", "&#0;", "\x1f", "&#xD800;", "&", "&nbsp;", "\ufffe"])
def test_one_bad_unit_is_counted_and_the_others_are_whole(tmp_path, bad):
    units = [
        unit("one &amp; two", "un"),
        unit(f"a{bad}b", "b"),
        unit("a", f"b{bad}"),
        unit("three", "tres"),
        unit("R<![CDATA[&D]]>", "R+D"),
    ]
    corpus = memory(tmp_path / "a.tmx", *units)
    assert [(p.source, p.target) for p in corpus] == [("one & two", "un"), ("three", "tres"), ("R&D", "R+D")]
    assert corpus.left_out == {"invalid characters": 2}


def test_entities_are_never_expanded(tmp_path):
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    file = tmp_path / "a.tmx"
    file.write_text(
        f'<!DOCTYPE tmx [<!ENTITY e0 "ha">{entities}]><tmx><body>{unit("&e9;", "b")}{unit("c", "d")}</body></tmx>'
    )
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert ([(p.source, p.target) for p in corpus], corpus.left_out) == ([("c", "d")], {"invalid characters": 1})


@pytest.mark.parametrize(
    ("inline", "text", "dropped"),
    [
        ("<ph x='1'/>", "{1}", True),
        ("<ph x='1'>{name}</ph>", "{name}", True),
        ("<ph>%s</ph>", "%s", True),
        ("<ph>&lt;b&gt;</ph>", "", False),
        ("<ph type='bold'>x</ph>", "", False),
        ("<ph>&lt;br/&gt;</ph>", " ", False),
        ("<bpt i='1'>{\\b </bpt>", "", False),
        ("<it pos='begin'>&lt;i&gt;</it>", "", False),
        ("<hi>3</hi>", "3", False),
    ],
)  # fmt: skip
def test_inline_elements_that_stand_for_values(tmp_path, inline, text, dropped):
    corpus = memory(tmp_path / "a.tmx", unit(f"The house has{inline}rooms in it", "La casa té moltes habitacions"))
    assert corpus.pairs[0].source == f"The house has{text}rooms in it"
    assert keep_useful(corpus, min_words=0)[1].placeholder == dropped
    assert len(keep_useful(corpus, min_words=0, drop_placeholders=False)[0]) == 1


def test_only_the_white_space_of_layout_is_run_together(tmp_path):
    text = "Quelle\n   heure\u202fest\u00a0:\u2009\u3000 il ?"
    assert (
        memory(tmp_path / "a.tmx", unit("a", text)).pairs[0].target == "Quelle heure\u202fest\u00a0:\u2009\u3000 il ?"
    )
    preserved = memory(tmp_path / "a.tmx", unit("a", " a  b\n c ", "xml:space='preserve'"))
    assert preserved.pairs[0].target == "a  b\n c"


@pytest.mark.parametrize("first", ["<seg> </seg>", "<seg>Mal &#x1F;</seg>", "<seg/>"])
def test_of_several_translations_the_first_that_can_be_used(tmp_path, first):
    units = (
        "<tu><tuv xml:lang='en'><seg>Hello</seg></tuv><tuv xml:lang='es'><seg>Hola</seg></tuv>"
        f"<tuv xml:lang='ca'>{first}</tuv><tuv xml:lang='ca'><seg>Bon dia</seg></tuv>"
        "<tuv xml:lang='ca'><seg>Ei</seg></tuv></tu>"
    )
    corpus = memory(tmp_path / "a.tmx", units)
    assert [(pair.source, pair.target) for pair in corpus] == [("Hello", "Bon dia")]
    assert not corpus.left_out
