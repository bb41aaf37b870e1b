"""The prefilter keeps exactly the rows that Python's `re` keeps, with hyperscan and without."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.errors import SetupError
from raydistill.stages import pieces, prefilter
from raydistill.stages.keyword import one_line, reference_pattern
from raydistill.stages.prefilter import Prefilter

SHARED = Path(__file__).parents[2] / "shared"

# keyword, text, whether it passes
MEANING = [
    ("merger", "The merger closed.", True),
    ("merger", "THE MERGER", True),
    ("MERGER", "a merger", True),
    ("merger", "merger", True),
    ("merger", "mergers", False),
    ("merger", "premerger", False),
    ("merger", "merger_sub", False),
    ("merger", "merger2", False),
    ("merger", "“merger”", True),
    ("merger", "the\u00a0merger\u00a0of", True),
    ("merger", "pre–merger—talks", True),
    ("merger", "merger’s", True),
    ("merger", "émerger", False),
    ("merger", "mergeré", False),
    ("merger", "合merger", False),
    ("merger", "mergerſ", False),
    ("merger", "émerger, then merger", True),
    ("merger", "merger²", True),
    ("merger", "merger™", True),
    ("merger", "(merger)", True),
    ("merger", "", False),
    ("kit", "\u212ait", False),  # the Kelvin sign is no k
    ("credit agreement", "a Credit Agreement.", True),
    ("credit agreement", "credit  agreement", True),
    ("credit agreement", "credit\nagreement", True),
    ("credit agreement", "credit\t \r\nagreement", True),
    ("credit agreement", "credit\u00a0agreement", True),
    ("credit agreement", "credit\u2009agreement", True),
    ("credit agreement", "credit\u202f\u3000agreement", True),
    ("credit agreement", "credit-agreement", False),
    ("credit agreement", "credit, agreement", False),
    ("credit agreement", "creditagreement", False),
    ("credit agreement", "credit\u200bagreement", False),
    ("credit agreement", "credit agreements", False),
    ("credit agreement", "é credit  agreementé", False),
    ("credit\u00a0 agreement", "credit agreement", True),
    ("acqui*", "acquired", True),
    ("acqui*", "acqui", True),
    ("acqui*", "reacquired", False),
    ("acqui*", "éacquired", False),
    ("*ware", "Software", True),
    ("*ware", "wares", False),
    ("*ware*", "softwares", True),
    ("credit agree*", "credit\u00a0agreements", True),
    ("at&t", "with AT&T Inc.", True),
    ("u.s.", "the U.S. dollar", True),
    ("u.s.", "the u.s.a", False),
    ("u.s.", "the uxs.", False),
    ("10-k", "Form 10-K", True),
    ("10-k", "Form 110-K", False),
    ("c++", "in C++ and", True),
    ("c++", "in C++x", False),
    ("société", "la SOCIÉTÉ générale", True),
    ("société", "sociétés", False),
    ("re:pay(s|ed)?", "prepayment", True),
    (r"re:\$\s?\d+", "paid $ 5 million", True),
    (r"re:^net", "Net sales", True),
    (r"re:^net", "the net", False),
    (r"re:sales$", "net sales", True),
    (r"re:a.c", "xa\nc", True),
    (r"re:a.c", "aéc", True),
    (r"re:(?<!not )paid", "not paid", False),
    (r"re:(?<!not )paid", "was paid", True),
    (r"re:a[^x]*b", "a", False),
]


@pytest.fixture(params=["hyperscan", "re2"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with the scan, and as on a platform without hyperscan."""
    if request.param == "re2":
        monkeypatch.setattr(prefilter, "hyperscan", None)
    elif prefilter.hyperscan is None:
        pytest.skip("hyperscan has no wheel here")
    return request.param


def kept(keywords: list[str], texts: list[str | None]) -> list[bool]:
    return Prefilter(keywords).mask(pa.array(texts, pa.string())).to_pylist()


@pytest.mark.usefixtures("engine")
def test_each_keyword_means_what_the_table_says() -> None:
    for keyword, text, passes in MEANING:
        assert kept([keyword], [text]) == [passes], (keyword, text)


def test_the_reference_says_the_same_as_the_table() -> None:
    for keyword, text, passes in MEANING:
        assert bool(reference_pattern([keyword]).search(one_line(text))) == passes, (keyword, text)


@pytest.mark.usefixtures("engine")
def test_all_keywords_together_keep_what_the_reference_keeps() -> None:
    keywords = [keyword for keyword, _, _ in MEANING if not keyword.startswith("re:a")]
    texts = [text for _, text, _ in MEANING]
    pattern = reference_pattern(keywords)
    assert kept(keywords, list(texts)) == [bool(pattern.search(one_line(t))) for t in texts]


WORDS = st.text(alphabet="abkKé²_1", min_size=1, max_size=3)
PHRASES = st.builds(
    lambda words, start, end: start + " ".join(words) + end,
    st.lists(WORDS, min_size=1, max_size=3),
    st.sampled_from(["", "", "*"]),
    st.sampled_from(["", "", "*"]),
)
REGEXES = st.sampled_from(
    ["re:a.b", r"re:\bk+\b", "re:^é", "re:b$", r"re:a\s+b", "re:[^a]b", "re:(?!ab)a1"]
)
TEXTS = st.text(alphabet="aAbkKéÉ²_1  \n\t-’—\u00a0\u202f\u212aſ合\x00", max_size=14)


@settings(max_examples=120, deadline=None)
@given(
    keywords=st.lists(st.one_of(PHRASES, PHRASES, REGEXES), min_size=1, max_size=6),
    texts=st.lists(st.none() | TEXTS, max_size=25),
)
def test_scan_and_fallback_agree_with_re_on_any_text(
    keywords: list[str], texts: list[str | None]
) -> None:
    expected = [
        t is not None and bool(reference_pattern(keywords).search(one_line(t))) for t in texts
    ]
    assert kept(keywords, texts) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefilter, "hyperscan", None)
        assert kept(keywords, texts) == expected


@pytest.mark.usefixtures("engine")
def test_the_kelvin_sign_is_no_k_among_several_keywords() -> None:
    assert kept(["1", "k"], ["11-\u212a", "k"]) == [False, True]
    assert kept(["as", "a1"], ["a\u017f", "AS"]) == [False, True]


@pytest.mark.usefixtures("engine")
def test_a_regex_that_is_anchored_finds_its_rows_beside_another() -> None:
    assert kept(["re:^x", "re:b$"], ["111—b", "b x", "x b", "xy"]) == [True, False, True, True]


@pytest.mark.usefixtures("engine")
def test_pairs_name_every_keyword_of_a_row_once() -> None:
    texts = pa.array(["a b a", None, "b\u00a0c bé", "c"], pa.string())
    rows, ids = Prefilter(["a", "b", "b c", "re:^c"]).pairs(texts)
    assert list(zip(rows.tolist(), ids.tolist(), strict=True)) == [
        (0, 0),
        (0, 1),
        (2, 1),
        (2, 2),
        (3, 3),
    ]


def table(texts: list[str | None]) -> pa.Table:
    ids = pa.array([str(i) for i in range(len(texts))], pa.string())
    return pa.table(
        {"id": ids, "text": pa.array(texts, pa.string()), "n": pa.array(range(len(texts)))}
    )


def test_markers_pass_and_order_and_columns_stay() -> None:
    batch = table([None, "nothing", "a merger", "", None, "the merger"])
    out = Prefilter(["merger"])(batch)
    assert out["id"].to_pylist() == ["0", "2", "4", "5"]
    assert out.schema == batch.schema


def test_an_empty_table_keeps_its_schema() -> None:
    batch = table([]).cast(table(["x"]).schema)
    for empty in (batch, batch.schema.empty_table(), table(["none of them"])):
        out = Prefilter(["merger"])(empty)
        assert (out.num_rows, out.schema) == (0, empty.schema)


def test_chunks_and_slices_count_rows_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "ROWS", 3)
    texts = ["a", "x", None, "a", "x", "x", "a", "xa", "x a", "a"]
    whole = pa.array(["a", *texts], pa.string()).slice(1)
    chunked = pa.chunked_array([whole.slice(0, 4), whole.slice(4, 0), whole.slice(4)])
    expected = [t is not None and "a" in t.split() for t in texts]
    assert Prefilter(["a"]).mask(whole).to_pylist() == expected
    assert Prefilter(["a"]).mask(chunked).to_pylist() == expected


def test_pickles_before_and_after_it_compiled() -> None:
    first = Prefilter(["merger", "re:a+b"])
    second = pickle.loads(pickle.dumps(first))
    assert second.mask(pa.array(["the merger", "x"])).to_pylist() == [True, False]
    assert pickle.loads(pickle.dumps(second)).keywords == first.keywords


def test_hits_say_where_in_characters() -> None:
    text = "“Crédit” — credit\u00a0agreement acquired"
    hits = Prefilter(["credit agreement", "acqui*", "merger"]).hits(text)
    assert [(text[a:b], k) for a, b, k in hits] == [
        ("credit\u00a0agreement", "credit agreement"),
        ("acquired", "acqui*"),
    ]


@pytest.mark.parametrize(
    "bad",
    ["", " ", "*", "**", "a*b", "a* b", "re:", "re:(", "re:a*", r"re:\Aa", r"re:(a)\1", "re:[[a]"],
)
def test_a_bad_keyword_is_named(bad: str) -> None:
    with pytest.raises(SetupError, match="keyword") as problem:
        Prefilter(["good", bad])
    assert repr(bad) in str(problem.value)


def test_no_keywords_at_all_are_refused() -> None:
    for none in ([], "merger"):
        with pytest.raises(SetupError):
            Prefilter(none)


@pytest.mark.shared
def test_real_sentences_pass_as_re_says() -> None:
    corpus = SHARED / "corpus" / "sentences.parquet"
    if not corpus.exists():
        pytest.skip(f"no {corpus}")
    column = pq.read_table(corpus, columns=["sentence"])["sentence"]
    texts = column.take(pa.array(np.arange(0, len(column), 100)))
    keywords = [
        "entered into",
        "resign*",
        "appointed",
        "credit agreement",
        r"re:\$\d+ million",
        "u.s.",
    ]
    pattern = reference_pattern(keywords)
    expected = [bool(pattern.search(one_line(t))) for t in texts.to_pylist()]
    assert 0.01 < np.mean(expected) < 0.5
    assert Prefilter(keywords).mask(texts).to_pylist() == expected
