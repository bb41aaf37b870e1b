from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raydistill.sentences import clean_lines, is_numeric, row_text, sentences, unwrapped


def split(text: str, max_chars: int = 2000) -> list[str]:
    return [text[start:end] for start, end in sentences(text, max_chars)]


@pytest.mark.parametrize(
    "sentence",
    [
        "Apple Inc. Announces a Dividend.",
        "AAR Corp. said so.",
        "Wills & Co. Limited agreed.",
        "Amendment No. 1 to the Agreement took effect.",
        "Notes Nos. 7 and 8 were amended.",
        "A U.S. District Court ruled.",
        "The claim under Sec. 10(b) of the Act failed.",
        "Mr. Spear, Mrs. Jones and Dr. Lee resigned.",
        "It moved to St. Louis and Ft. Lauderdale.",
        "John W. Dietrich and J. Smith joined.",
        "W.A. Freeman signed.",
        "The price was $3.482 per share.",
        "The call is at 8:30 a.m. Eastern Time on May 3.",
        "He cited Smith v. Jones and Doe vs. Roe.",
        "Several events, e.g. Mergers, occurred.",
        "See Fig. 3 and Art. 5 of the Treaty.",
        "Payment is due on Jan. 3, 2020.",
        "Erie, PA ... Zurn Industries expects a profit.",
        "Item 5.02. Departure of Directors.",
        "ITEM 9.01(d). Exhibits.",
        "1. Certain Definitions.",
        "A. Deferred compensation expenses.",
        "SAN JOSE, Calif. – March 15, 2023 – Adobe reported results.",
        "J. P. Morgan Securities LLC acted as agent.",
        "The plan covers Messrs. Smith and Jones.",
        "A dividend to a Non-U.S. Holder is taxed.",
        "It is discussed in “Item 1A. Risk Factors” below.",
        "See the Registration Statement (Reg. No. 333-126772).",
        "SEC. 10. Costs.",
        "99.1 | Press release of Acme Holdings. | Filed.",
        "It was bought by Yahoo! for cash.",
    ],
)
def test_what_does_not_end_a_sentence(sentence: str) -> None:
    assert split(sentence) == [sentence]
    assert split(f"It is so. {sentence} We agree.") == ["It is so.", sentence, "We agree."]


@pytest.mark.parametrize(
    "text",
    [
        "We sold it to Apple Inc.|The Company agreed.",
        "It operates in the U.S.|In May it left.",
        "The call starts at 5 p.m.|We will publish a replay.",
        "It is state of the art.|The plant opened.",
        "She said no.|Then she left.",
        "Revenue grew 5.4%.|Costs fell.",
        "“We are happy.”|He smiled.",
        "The fee was paid.(1)|The rest is due.",
        "Is it true?|Yes!|We agree.",
        "Sales rose.|eBay grew.|iPhone sales fell.",
        "Sales were $4.|$5 is next.",
        "(It is so.)|(That too.)",
        "A heading\n|It begins here.",
        "The first\n|the second",
        "It is filed with the SEC.|Management agreed.",
        "See Section 12.6.|(d) Prior to May, it ends.",
        "It is done.|• the next point",
        "He met Smith v. The Company.|It won.",
    ],
)
def test_what_ends_a_sentence(text: str) -> None:
    parts = [part.strip() for part in text.split("|")]
    assert split(" ".join(text.split("|")) if "\n" not in text else text.replace("|", "")) == parts


def test_a_sentence_without_an_end_is_cut_at_spaces_and_loses_nothing() -> None:
    text = "word " * 200_000
    parts = split(text)
    assert max(map(len, parts)) <= 2000
    assert " ".join(parts) == text.strip()
    assert split("x" * 4500) == ["x" * 2000, "x" * 2000, "x" * 500]


def test_no_maximum_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="max_chars"):
        sentences("a", max_chars=0)


PROSE = st.text(st.sampled_from("aA1.!?\"') (\n\t•–|$\xa0\u2003“”"), max_size=300)


@given(st.one_of(st.text(max_size=300), PROSE), st.integers(1, 40))
@example("", 1)
@example(". A\x1c.\x85 B", 2)
def test_spans_are_ordered_apart_stripped_and_hold_every_character(text: str, limit: int) -> None:
    spans = sentences(text, limit)
    end = 0
    for start, stop in spans:
        assert end <= start < stop <= start + limit
        assert not text[end:start].strip()
        assert text[start:stop] == text[start:stop].strip()
        end = stop
    assert not text[end:].strip()


@given(PROSE)
def test_unwrapping_and_cleaning_keep_the_letters_in_order(text: str) -> None:
    letters = [character for character in text if character == "A"]
    assert [character for character in unwrapped(text) if character == "A"] == letters
    cleaned = clean_lines(text)
    assert [character for character in cleaned if character == "A"] == letters
    assert clean_lines(cleaned) == cleaned


PRESS_RELEASE = """
                                      -1-<PAGE>


ITEM 5 - OTHER EVENTS

The Company's news release dated March 22, 1994 commenting on earnings
estimates for the fourth quarter ending March 31, 1994 is incorporated herein
by reference to the filing of
1993.

     The registrant is subject to the requirements of Section 13 or 15(d) of
the

                                       2
<PAGE>   3
Securities Act, and files long-
term reports.

   (a)       Exhibits of the Company, which are filed herewith and stand below in
             Exhibit 99.1 hereto

     (b)     If the merger is not consummated on or before the day that is
named in this agreement, it ends.

Erie, PA ... Zurn Industries, Inc. (New York Stock Exchange), a leading

designer, constructor and manufacturer of systems and equipment for power

generation announced today that it expects the fourth quarter earnings of

$.47 per share.

- --------------------------------------------------------------------------
"""


def test_hard_wrapped_lines_become_paragraphs() -> None:
    assert unwrapped(PRESS_RELEASE).split("\n") == [
        "ITEM 5 - OTHER EVENTS",
        "The Company's news release dated March 22, 1994 commenting on earnings estimates for the "
        "fourth quarter ending March 31, 1994 is incorporated herein by reference to the filing "
        "of 1993.",
        "The registrant is subject to the requirements of Section 13 or 15(d) of the Securities "
        "Act, and files long-term reports.",
        "(a) Exhibits of the Company, which are filed herewith and stand below in Exhibit 99.1 "
        "hereto",
        "(b) If the merger is not consummated on or before the day that is named in this "
        "agreement, it ends.",
        "Erie, PA ... Zurn Industries, Inc. (New York Stock Exchange), a leading designer, "
        "constructor and manufacturer of systems and equipment for power generation announced "
        "today that it expects the fourth quarter earnings of $.47 per share.",
    ]


COLUMNS = """
<TABLE>
<CAPTION>
Exhibits                                                      Page
- --------                                                      ----
<S>              <C>                                          <C>
1(c) -           Terms Agreement dated January 27, 1994 among
                 Turner Broadcasting System, Inc. and others

4(f) -           Form of Officers' Certificate
</TABLE>
<TABLE>
<S>                    <C>          <C>
Net sales              $  1,234     $  1,100
Net income             $     12     $     (9)
</TABLE>
"""


def test_columns_are_joined_and_tables_of_numbers_dropped() -> None:
    assert unwrapped(COLUMNS).split("\n") == [
        "Exhibits | Page",
        "1(c) - | Terms Agreement dated January 27, 1994 among Turner Broadcasting System, Inc. "
        "and others",
        "4(f) - | Form of Officers' Certificate",
    ]


@pytest.mark.parametrize(
    "line",
    ["12", "- 12 -", "F-3", "Page 3 of 9", "iv", "Table of Contents", "-----", "•", "\u200b7",
     "Apple Inc. | 2024 Form 10-K | 4", "Back to Table of Contents"],
)  # fmt: skip
def test_page_marks_are_dropped_and_the_sentence_goes_on(line: str) -> None:
    assert clean_lines(f"The Company shall\n{line}\npay.") == "The Company shall pay."
    assert clean_lines(f"It ends.\n{line}\nIt begins.") == "It ends.\nIt begins."


@pytest.mark.parametrize("line", ["Item 5", "2023 results", "12 months", "Contents", "I agree"])
def test_short_lines_of_words_stay(line: str) -> None:
    assert clean_lines(line) == line


def test_rows() -> None:
    assert row_text(["Fee", "$", "1,234", "(", "5", ")", "%"]) == "Fee | $1,234 | (5)%"
    assert row_text(["•", "A point", ""]) == "• A point"
    assert row_text(["q", "A symbol font's box"]) == "q A symbol font's box"
    assert row_text(["Item 5.02", "Departure of Directors"]) == "Item 5.02 Departure of Directors"
    assert is_numeric(["Net sales | $1,234 | 1,100", "Cost | (3) | —"])
    assert not is_numeric(["Name | Age | Position", "Ann Lee | 58 | Chief Executive Officer"])
    assert not is_numeric(["99.1 | Press release", "104 | Cover Page Interactive Data File"])
    assert not is_numeric(["A line", "No table"])
    assert not is_numeric([])


@pytest.mark.shared
def test_the_sentences_of_a_corpus_split_by_others_are_rarely_cut() -> None:
    path = Path(__file__).parents[2] / "shared" / "corpus" / "sentences.parquet"
    if not path.exists():
        pytest.skip(f"no corpus at {path}")
    import pyarrow.parquet as pq

    rows = pq.ParquetFile(path).read_row_group(0, columns=["sentence"])["sentence"].to_pylist()
    whole = sum(len(sentences(row, 100_000)) == 1 for row in rows[:20_000])
    assert whole > 0.97 * len(rows[:20_000])
