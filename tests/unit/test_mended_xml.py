"""What XML forbids is marked, and nothing else changes: checked against lxml on what it parses."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ks_lottery import UserError
from ks_lottery.corpus import mended_xml
from ks_lottery.corpus.mended_xml import MARK, MendedXml

PARSER = etree.XMLParser(resolve_entities=False, no_network=True)
PIECES = [
    "word", " ", "é", "\u2028", "&amp;", "&lt;", "&#233;", "&#x1D11E;", "<b/>", "<!-- a & b -->", "<!-- <![CDATA[ &x; -->",
    "<![CDATA[R&D <b> &#x1F; ]] > --]]>", "]]", "-", "--", "'", "\U0001f600",
]  # fmt: skip


def mended(content: bytes) -> bytes:
    return MendedXml(io.BytesIO(content), Path("a.xml")).read()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "iso-8859-15", "shift_jis"])
def test_well_formed_documents_stay_as_they_are(encoding):
    text = "<a>&lt;b&gt; R&amp;D &#x41;<![CDATA[1 & 2]]> ---- ]] </a>"
    declared = encoding.removesuffix("-sig").removesuffix("-le")
    content = f"<?xml version='1.0' encoding='{declared}'?>\n{text}".encode(encoding)
    if encoding == "utf-16-le":
        content = content.replace("utf-16".encode("utf-16-le"), "utf-16".encode("utf-16-le"))
    assert etree.tostring(etree.fromstring(mended(content))) == etree.tostring(etree.fromstring(text))


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=30), chunk=st.integers(64, 200))
def test_any_well_formed_text_at_any_chunk(pieces, chunk):
    text = f"<a>{''.join(pieces)}</a>".encode()
    try:
        expected = etree.fromstring(text, PARSER)
    except etree.XMLSyntaxError:
        return  # such as "]]" before ">"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mended_xml, "CHUNK", chunk)
        assert etree.tostring(etree.fromstring(mended(text), PARSER)) == etree.tostring(expected)


@pytest.mark.parametrize(
    "bad", ["&#x1F;", "&#0;", "&#xD800;", "&#xFFFF;", "&#99999999;", "\x1f", "\x00", "\ufffe", "&", "&nbsp;", "&e;"]
)
@pytest.mark.parametrize("before", [0, 65_500, 65_530])
def test_what_xml_forbids_is_marked(bad, before):
    content = f"<a>{'x' * before}one{bad} two &amp; <b>three</b></a>".encode()
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(content, PARSER)
    root = etree.fromstring(mended(content), PARSER)
    rest = bad[1:] if bad[0] == "&" else ""
    assert "".join(root.itertext()) == f"{'x' * before}one{MARK}{rest} two & three"


@pytest.mark.parametrize("name", ["hex", "zlib_codec", "nonsense", "rot13", "a\udc80b", ""])
def test_an_encoding_that_is_not_known(name):
    content = f"<?xml version='1.0' encoding='{name}'?><a/>".encode("utf-8", "surrogateescape")
    with pytest.raises(UserError, match="which is not known"):
        mended(content)


def test_a_line_that_is_not_in_the_encoding_is_named():
    with pytest.raises(UserError, match="line 3 is not utf-8"):
        mended(b"<a>\n\n\xff</a>")
