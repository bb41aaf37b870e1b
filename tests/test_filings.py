import datetime
import gzip
from pathlib import Path

import pyarrow.compute as pc
import pytest

from raydistill import filings
from raydistill.bench import edgar
from raydistill.errors import FilingError, SetupError
from raydistill.filings import SENTENCES, read, sentence_table

RAW = Path(__file__).parents[2] / "shared" / "corpus" / "raw"

SUBMISSION = """<SEC-DOCUMENT>0000072333-23-000015.txt : 20230306
<SEC-HEADER>0000072333-23-000015.hdr.sgml : 20230306
ACCESSION NUMBER:\t\t0000072333-23-000015
CONFORMED SUBMISSION TYPE:\t8-K
ITEM INFORMATION:\t\tOther Events
ITEM INFORMATION:\t\tFinancial Statements and Exhibits
FILED AS OF DATE:\t\t20230306

FILER:
\tCOMPANY DATA:
\t\tCOMPANY CONFORMED NAME:\t\t\tNORDSTROM INC
\t\tCENTRAL INDEX KEY:\t\t\t0000072333

FILER:
\tCOMPANY DATA:
\t\tCOMPANY CONFORMED NAME:\t\t\tANOTHER INC
\t\tCENTRAL INDEX KEY:\t\t\t0000000099
</SEC-HEADER>
<DOCUMENT>
<TYPE>8-K
<SEQUENCE>1
<FILENAME>main.htm
<TEXT>
<html><body><p>{item}The Company paid $5.</p></body></html>
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>EX-10.1
<FILENAME>ex101.htm
<TEXT>
<html><body><p>An agreement that is not read.</p></body></html>
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>EX-99.1
<FILENAME>ex991.txt
<TEXT>
A press release of Nordstrom.
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>GRAPHIC
<FILENAME>logo.jpg
<TEXT>
begin 644 logo.jpg
M_]C_X  02D9)1@ ! @   0 !  #_[0"<4&AO=&]S:&]P
end
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>EX-99.2
<FILENAME>slides.pdf
<TEXT>
<PDF>
begin 644 slides.pdf
</PDF>
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>XML
<FILENAME>R1.htm
<TEXT>
<html><body><p>Cover page data.</p></body></html>
</TEXT>
</DOCUMENT>
"""


def text_of(html: str) -> list[str]:
    return read("x.htm", f"<html><body>{html}</body></html>".encode()).text.split("\n")


def test_a_submission_gives_its_header_and_the_documents_of_words() -> None:
    filing = read("somewhere/full.txt", SUBMISSION.format(item="").encode())
    assert filing == filings.Filing(
        filing_id="0000072333-23-000015",
        cik="72333",
        company="NORDSTROM INC",
        form="8-K",
        filed_at=datetime.date(2023, 3, 6),
        item=("Other Events", "Financial Statements and Exhibits"),
        text="The Company paid $5.\n\nA press release of Nordstrom.",
    )


def test_the_text_numbers_the_items() -> None:
    heads = "</p><p>Item 5.02(e) A head.</p><p>ITEM 9.01. Another.</p><p>"
    assert read("a.txt", SUBMISSION.format(item=heads).encode()).item == ("5.02", "9.01")


def test_tags_of_the_newer_header_are_read() -> None:
    header = (
        "<SUBMISSION>\n<ACCESSION-NUMBER>0001398344-24-000491\n<TYPE>10-K/A\n"
        "<FILING-DATE>20240111\n<FILER>\n<CONFORMED-NAME>FUND, LP\n<CIK>0001296490\n</FILER>\n"
        "<DOCUMENT>\n<TYPE>10-K/A\n<TEXT>\nWords of it.\n</TEXT>\n</DOCUMENT>\n"
    )
    filing = read("x.nc", header.encode())
    assert (filing.filing_id, filing.form, filing.cik) == (
        "0001398344-24-000491",
        "10-K/A",
        "1296490",
    )
    assert (filing.company, filing.filed_at, filing.item) == (
        "FUND, LP",
        datetime.date(2024, 1, 11),
        (),
    )


@pytest.mark.parametrize(
    ("name", "filing_id", "cik", "form"),
    [
        ("1001279_8K_2002_0000950109-02-005824.htm", "0000950109-02-005824", "1001279", "8-K"),
        ("a/320193_10-K_2020_0000320193-20-000096.htm", "0000320193-20-000096", "320193", "10-K"),
        ("edgar/data/320193/0000320193-20-000096.txt", "0000320193-20-000096", "320193", None),
        (
            "edgar/data/320193/000032019320000096/d8k.htm",
            "0000320193-20-000096:d8k",
            "320193",
            None,
        ),
        ("/data/letter.htm", "letter", None, None),
        ("letter.txt.gz", "letter", None, None),
    ],
)
def test_a_bare_file_is_known_by_its_name(
    name: str, filing_id: str, cik: str | None, form: str | None
) -> None:
    filing = read(name, b"<p>Words.</p>")
    assert (filing.filing_id, filing.cik, filing.form) == (filing_id, cik, form)
    assert (filing.filed_at, filing.text) == (None, "Words.")


def test_a_bare_file_tells_company_and_form() -> None:
    lines = "<p>Form 10-Q</p><p>ACME CORP</p><p>(Exact name of registrant as specified)</p>"
    filing = read("x.htm", lines.encode())
    assert (filing.form, filing.company) == ("10-Q", "ACME CORP")
    fact = '<ix:nonNumeric name="dei:{}" id="f"><b>{}</b></ix:nonNumeric>'
    known = {"EntityRegistrantName": "Acme &amp; Co", "EntityCentralIndexKey": "0000001750"}
    inline = "".join(fact.format(*pair) for pair in {**known, "DocumentType": "8-K"}.items())
    filing = read("x.htm", f"<html><p>{inline}</p></html>".encode())
    assert (filing.company, filing.cik, filing.form) == ("Acme & Co", "1750", "8-K")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b" \n\x00\x00", "empty"),
        (b"%PDF-1.4 words", "binary"),
        (b"\x89PNG\r\n", "binary"),
        (b"ab\x00\x00\x01\x02" * 50, "binary"),
        (b"<html><body><p> </p></body></html>", "no_text"),
        (b"12 13 14", "no_text"),
        (b"<DOCUMENT>\n<TYPE>D\n<FILENAME>a.xml\n<TEXT>\n<XML><a>words</a></XML>\n", "no_text"),
    ],
)
def test_what_cannot_be_read_has_a_code(data: bytes, code: str) -> None:
    with pytest.raises(FilingError) as problem:
        read("x", data)
    assert problem.value.code == code


def test_encodings() -> None:
    assert (
        read("x", b"Caf\x00\xc3\xa9 words and more words, so that one byte is few.").text[:4]
        == "Café"
    )
    assert read("x", b"It\x92s a caf\xe9").text == "It’s a café"
    assert read("x", "\ufeffIt’s it".encode()).text == "It’s it"
    assert read("x", "It’s it".encode("utf-16")).text == "It’s it"
    assert text_of("<p>It&#146;s AT&amp;T &lt;5&nbsp;% &eacute; &#28; x\u200by</p>") == [
        "It’s AT&T <5 % é xy"
    ]


def test_blocks_end_lines_and_inline_tags_do_not() -> None:
    assert text_of("<div>A<b>p</b>ple <font>is\n red</font></div><p>Two<br>Three</p>four") == [
        "Apple is red",
        "Two",
        "Three",
        "four",
    ]
    assert text_of("<p>It goes on<br>in lower case.") == ["It goes on in lower case."]
    assert text_of("<ul><li>One<li>Two</ul>") == ["One", "Two"]


def test_hidden_parts_are_dropped() -> None:
    hidden = (
        "<head><title>T</title><style>s</style></head><script>x < y</script><!-- <p>c</p> -->"
        '<div style="color:red;DISPLAY: none">a<p style="display:none">b</p></div>'
        "<ix:header><ix:hidden>q</ix:hidden></ix:header><title/>"
    )
    assert text_of(f"{hidden}<p>Seen.</p>") == ["Seen."]
    assert text_of('<p>Seen <font style="display:none">not</font>too.</p>') == ["Seen too."]


def test_a_hidden_inline_tag_hides_its_content_alone() -> None:
    assert text_of('<p>A <span style="display:none">x <span>y</span></span>b</p>') == ["A b"]
    assert text_of('<p>A <ix:x style="DISPLAY: NONE">x <b>y</b></ix:x>b <i>c</i></p>') == ["A b c"]


def test_a_tag_ends_where_its_quotes_let_it() -> None:
    assert text_of("<p title=\"a > b\">One</p><p title='c > d'>Two") == ["One", "Two"]
    assert text_of('<span title="a > b">One</span><td width=5">Two</td>') == ["OneTwo"]
    assert text_of("<p>a < b <b class='x'>or</b> c > d") == ["a < b or c > d"]
    assert text_of("<!-- <b --><p>Seen.<!-- <p class='x'> --></p>") == ["Seen."]


def test_empty_cells_are_nothing() -> None:
    cells = "<td>Fee</td><td></td><td><font>&nbsp;</font></td><td style='x'>&#160;</td><td>due</td>"
    assert text_of(f"<table><tr>{cells}</tr></table>") == ["Fee | due"]


def test_signs_that_open_no_tag_cost_little() -> None:
    assert read("x.htm", b"<p>One.</p>" + b"<" * 500_000).text.startswith("One.")


def test_tables_become_lines() -> None:
    row = "<tr><td>{}</td><td> <p>{}</p> </td></tr>"
    table = (
        row.format("Name", "Position") + row.format("Ann Lee", "Chief<br>Officer")
        + row.format("•", "A point.") + row.format("Item 8.01", "Other Events")
        + row.format("", "<p>It stands alone.</p><p>In two.</p>")
    )  # fmt: skip
    assert text_of(f"Before<table>{table}</table>after") == [
        "Before",
        "Name | Position",
        "Ann Lee | Chief Officer",
        "• A point.",
        "Item 8.01 Other Events",
        "It stands alone.",
        "In two.",
        "after",
    ]


def test_tables_of_numbers_are_dropped_and_their_notes_kept() -> None:
    note = "(1) The figures of the former year were restated after the sale of the paper business."
    rows = "".join(
        f"<tr><td>{name}</td><td>$</td><td>1,234</td><td>(56</td><td>)%</td></tr>"
        for name in ("Net sales", "Net income")
    )
    assert text_of(f"<table>{rows}<tr><td>{note}</td></tr></table>") == [note]


def test_a_table_around_the_page_is_no_table() -> None:
    inner = "<table><tr><td>Name</td><td>Position</td></tr></table>"
    page = f"<table><tr><td><p>One.</p>{inner}<p>Two.</p></td></tr></table>"
    assert text_of(page) == ["One.", "Name | Position", "Two."]


def test_typewriter_text_inside_html_is_unwrapped() -> None:
    lines = "The registrant is subject to the requirements of Section 13 or\n15(d) of it."
    page = f"<pre>\n{lines}\n</pre>"
    assert text_of(page) == [
        "The registrant is subject to the requirements of Section 13 or 15(d) of it."
    ]


def test_pages_of_text_are_joined() -> None:
    first = b"The registrant is subject to the requirements of this section and\n"
    second = b"\n  -3-\n<PAGE>  4\nof others.\n\x0c\nThen."
    assert read("x.txt", first + second).text.split("\n") == [
        "The registrant is subject to the requirements of this section and of others.",
        "Then.",
    ]


def test_unclosed_fonts_do_not_multiply() -> None:
    html = "".join(f'<p><font size="{i % 7}" color="#{i:06x}">line {i} <b>b' for i in range(3000))
    assert text_of(html)[2999] == "line 2999 b"


def test_absurd_nesting_is_flattened() -> None:
    assert len(text_of("<div>Ab." * 20_000)) == 20_000


def test_sentences_have_the_schema_and_their_places() -> None:
    filing = read(
        "f.txt", b"<p>One is Inc. here. Two is \xe2\x80\x9cthere.\xe2\x80\x9d</p><p>Three</p>"
    )
    table = sentence_table(filing)
    assert table.schema == SENTENCES
    assert table["id"].to_pylist() == ["f#0", "f#1", "f#2"]
    assert table["text"].to_pylist() == ["One is Inc. here.", "Two is “there.”", "Three"]
    assert [filing.text[row["start"] : row["end"]] for row in table.to_pylist()] == table[
        "text"
    ].to_pylist()
    empty = sentence_table(filings.Filing("f", None, None, None, None, (), ""))
    assert empty.schema == SENTENCES
    assert empty.num_rows == 0


def test_a_folder_gives_its_filings_sorted(tmp_path: Path) -> None:
    for name in (
        "b.txt",
        "a.htm",
        "MANIFEST.json",
        ".hidden.txt",
        "logo.JPG",
        "sub/c.nc",
        ".x/d.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    expected = [str(tmp_path / name) for name in ("a.htm", "b.txt", "sub/c.nc")]
    found = filings.find(str(tmp_path))
    assert list(found) == expected
    assert found == {name: Path(name).stat().st_size for name in expected}
    assert filings.find(expected[0]) == {expected[0]: found[expected[0]]}
    assert filings.find(f"file://{tmp_path}") == found
    assert filings.open_bytes(expected[0]) == b"a.htm"


def test_a_url_names_what_can_be_opened() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/filings_test/a.txt", b"words")
    names = list(filings.find("memory://filings_test"))
    assert names == ["memory:///filings_test/a.txt"]
    assert filings.open_bytes(names[0]) == b"words"


@pytest.mark.parametrize("path", ["/no/such/folder", "nosuchprotocol://bucket/x", "memory://none"])
def test_no_source_says_what_to_set(path: str) -> None:
    with pytest.raises(SetupError, match=r"source\.path="):
        filings.find(path)


def test_packed_files_are_unpacked_and_broken_ones_have_a_code(tmp_path: Path) -> None:
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(b"words"))
    assert filings.open_bytes(str(packed)) == b"words"
    for broken in (b"no gzip", gzip.compress(b"words")[:12]):
        packed.write_bytes(broken)
        with pytest.raises(FilingError, match="unreadable"):
            filings.open_bytes(str(packed))
    with pytest.raises(FilingError, match="unreadable"):
        filings.open_bytes(str(tmp_path / "gone.txt"))


@pytest.mark.parametrize("tag", ["span", "b", "ix:nonNumeric"])
def test_a_bare_angle_before_an_inline_tag_stays_text(tag: str) -> None:
    page = (
        f"<html><body><p>Loss <{tag}><</{tag}>Company has plans.</p><p>More text.</p></body></html>"
    )
    assert read("a.htm", page.encode()).text == "Loss <Company has plans.\nMore text."


@pytest.mark.parametrize("tag", ["pre", "article", "nav"])
def test_absurdly_nested_blocks_are_laid_flat(tag: str) -> None:
    page = f"<html><body>{f'<{tag}>' * 30_000}Words that stay.</body></html>"
    assert "Words that stay." in read("a.htm", page.encode()).text


def test_the_bench_reads_what_it_makes() -> None:
    figures = edgar.run(passes=1)
    assert {f"{kind}_mb_per_s" for kind in edgar.KINDS} <= figures.keys()
    assert min(figures.values()) > 0


@pytest.mark.shared
def test_every_real_file_is_read_and_its_offsets_reproduce_its_text() -> None:
    if not RAW.exists():
        pytest.skip(f"no filings at {RAW}")
    names = list(filings.find(str(RAW)))
    assert len(names) == 78
    unread: dict[str, str] = {}
    for name in names:
        try:
            filing = read(name, filings.open_bytes(name))
        except FilingError as problem:
            unread[Path(name).name] = problem.code
            continue
        table = sentence_table(filing)
        assert table.num_rows > 2, name
        assert table.schema == SENTENCES
        cut = [filing.text[row["start"] : row["end"]] for row in table.to_pylist()]
        assert cut == table["text"].to_pylist()
        assert "".join("".join(cut).split()) == "".join(filing.text.split()), name
        assert pc.max(pc.utf8_length(table["text"])).as_py() <= 2000
        assert not set("\x1c\x1d\x1e\x1f\x00\xa0\u200b") & set(filing.text), name
        assert "<td" not in filing.text.lower(), name
    assert set(unread.values()) == {"no_text"}  # the three Forms D are XML
    assert len(unread) == 3
