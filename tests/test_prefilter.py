"""The prefilter keeps exactly the rows that Python's `re` keeps, with hyperscan and without."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

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


ENGINES = ("trie", "hyperscan", "re2")


def left(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves an engine alone to find rows, as on a platform where the others cannot be imported."""
    if engine == "trie":
        assert prefilter._trie() is not None
        return
    monkeypatch.setattr(prefilter, "_trie", lambda: None)
    if engine == "re2":
        monkeypatch.setattr(prefilter, "hyperscan", None)
    elif prefilter.hyperscan is None:
        pytest.skip("hyperscan has no wheel here")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test as it is, and as on platforms without numba, and without hyperscan."""
    left(request.param, monkeypatch)
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
def test_every_engine_agrees_with_re_on_any_text(
    keywords: list[str], texts: list[str | None]
) -> None:
    expected = [
        t is not None and bool(reference_pattern(keywords).search(one_line(t))) for t in texts
    ]
    for engine in ENGINES:
        with pytest.MonkeyPatch.context() as patch:
            left(engine, patch)
            assert kept(keywords, texts) == expected, engine


# Words that share beginnings, shorter and longer than the 8 and 15 bytes that the trie looks up.
SHARED_WORDS = st.one_of(
    st.integers(1, 18).map(lambda n: "internationalisation"[:n]),
    st.integers(2, 9).map(lambda n: "nationals"[-n:]),
    st.sampled_from(
        ["a", "in", "at&t", "u.s.", "10-k", "_x", "$5", "(loss)", "c++", "é", "in`", "in@"]
    ),
)
SPACES = [" ", " ", " ", "  ", "\t", "\n ", "\u00a0", " \u00a0", "\u2009 ", "\u3000"]
OTHERS = ["\u200b", "’", "—", "", *"éſ²_-.,\x00\x1f\u1680\x85🙂合"]
SEPARATORS = st.sampled_from([*SPACES, *OTHERS])
CASES = st.sampled_from([str.lower, str.upper, str.title])
NEAR_TEXTS = st.lists(
    st.builds(lambda case, w, s: case(w) + s, CASES, SHARED_WORDS, SEPARATORS), max_size=12
).map("".join)
NEAR_PHRASES = st.builds(
    lambda words, start, end: start + " ".join(words) + end,
    st.lists(SHARED_WORDS, min_size=1, max_size=3),
    st.sampled_from(["", "", "", "*"]),
    st.sampled_from(["", "", "", "*"]),
)


@settings(max_examples=400, deadline=None)
@given(
    keywords=st.lists(NEAR_PHRASES, min_size=1, max_size=5),
    texts=st.lists(st.none() | NEAR_TEXTS, max_size=30),
    cut=st.integers(0, 5),
)
def test_near_matches_are_told_from_matches(
    keywords: list[str], texts: list[str | None], cut: int
) -> None:
    pattern = reference_pattern(keywords)
    expected = [t is not None and bool(pattern.search(one_line(t))) for t in texts]
    stage = Prefilter(keywords)
    for kind in (pa.string(), pa.large_string()):
        found = stage.mask(pa.array(texts, kind).slice(cut))
        assert found.to_pylist() == expected[cut:]


def test_a_text_next_to_another_in_memory_is_no_part_of_it() -> None:
    for width in range(1, 140):
        before, after = "x" * width + " internat", "ional"
        texts = pa.array([before, after, "merger", "s", "pre", "merger"])
        assert Prefilter(["international", "merger"]).mask(texts).to_pylist() == [
            *(False, False, True, False, False, True)
        ]


def test_memory_below_a_null_and_without_room_behind_it_is_read_rightly() -> None:
    texts = [b"a merger", b"merger", b"the merger"]
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    valid = np.array([0b101], np.uint8)
    buffers = [pa.py_buffer(b) for b in (valid, offsets, b"".join(texts))]
    column = pa.Array.from_buffers(pa.string(), 3, buffers)
    assert Prefilter(["merger"]).mask(column).to_pylist() == [True, False, True]


@pytest.mark.usefixtures("engine")
def test_long_texts_and_many_near_matches_keep_their_rows() -> None:
    near = "an international agreements " * 20_000
    texts = pa.array([near, "", near + "agreement", near, "An International\tAgreement", near])
    keywords = ["agreement", "international agreement"]
    assert Prefilter(keywords).mask(texts).to_pylist() == [False, False, True, False, True, False]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("length", range(1, 18))
def test_white_space_is_any_run_behind_first_words_of_any_length(length: int) -> None:
    word = "internationalisation"[:length]
    white = [" ", "\t", "  ", "\n", "\u00a0", " \u00a0", "\u2009 ", "\u3000"]
    texts = [f"an {word}{w}act" for w in [*white, "\u200b", "", "-", " “"]]
    assert kept([f"{word} act"], [*texts]) == [True] * len(white) + [False] * 4


@pytest.mark.parametrize("place", [*range(40, 72), *range(96, 128)])
def test_a_keyword_is_found_wherever_it_stands(place: int) -> None:
    for keyword in ("a", "merger", "at&t", "credit agreement", "international", "acqui*", "*ware"):
        word = keyword.replace("*", "")
        texts = pa.array(
            [" " * place + word, "-" * place + word, "x" * place + word, "é" * place + word]
        )
        expected = [True, True, keyword == "*ware", keyword == "*ware"]
        assert Prefilter([keyword]).mask(texts).to_pylist() == expected, keyword


def test_numba_is_not_imported_before_the_first_use() -> None:
    code = (
        "import sys; from raydistill.stages.prefilter import Prefilter; stage = Prefilter(['a']);"
        "import pyarrow as pa; assert 'numba' not in sys.modules;"
        "assert stage.mask(pa.array(['a', 'b'])).to_pylist() == [True, False];"
        "assert 'numba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_a_folder_for_the_cache_it_still_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from raydistill.stages import walk

    real = walk.numba.njit

    def njit(*, cache: bool = False, **options: bool) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(walk.numba, "njit", njit)
    assert walk._compiled(lambda a: a + 1)(1) == 2


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


@pytest.mark.usefixtures("engine")
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


@pytest.mark.shared
def test_all_real_sentences_pass_as_in_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = SHARED / "corpus" / "sentences.parquet"
    if not corpus.exists():
        pytest.skip(f"no {corpus}")
    if prefilter.hyperscan is None:
        pytest.skip("hyperscan has no wheel here")
    texts = pq.read_table(corpus, columns=["sentence"])["sentence"]
    keywords = [
        *("entered into", "resign*", "appointed", "credit agreement", "company announced that"),
        *(
            "vice president",
            "acqui*",
            "indebtedness",
            "*holders",
            "10-k",
            "u.s.",
            "securities act of",
        ),
        *("material adverse effect", "in addition", "of $1", "re:\\$\\d+ million", "société"),
    ]
    found = Prefilter(keywords).mask(texts)
    left("hyperscan", monkeypatch)
    scanned = Prefilter(keywords).mask(texts)
    assert 0.05 < np.mean(scanned) < 0.9
    assert found.equals(scanned)
