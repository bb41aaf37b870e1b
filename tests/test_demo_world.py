"""The demo world: deterministic, learnable, and as uneven as production."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raydistill import postgres
from raydistill.demo.boilerplate import Boilerplate
from raydistill.demo.names import dollars, parts, registrants
from raydistill.demo.phrases import Phrasing, Slot, phrases
from raydistill.demo.world import EVENTS, World, chunks, world, write
from raydistill.errors import SetupError
from raydistill.tasks import FILING_EVENTS

DENSE = {"keyword_share": 0.8, "event_share": 0.5, "sentences_per_filing": 60, "companies": 400}
TABLES = ("filings", "sentences", "events", "truth")
DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")


@pytest.fixture(scope="module")
def dense() -> World:
    """A world in which every second sentence states an event; no error, all read."""
    return world(seed=1, filings=150, error_rate=0.0, unread=0.0, **DENSE)


def texts(of: World) -> dict[str, str]:
    """Sentences by id."""
    ids = of.sentences["sentence_id"].to_pylist()
    return dict(zip(ids, of.sentences["sentence"].to_pylist(), strict=True))


def same(one: World, other: World) -> bool:
    return all(getattr(one, name).equals(getattr(other, name)) for name in TABLES)


def all_phrasings() -> Iterator[Phrasing]:
    for choices in (*phrases().by_type.values(), phrases().compounds):
        yield from (*choices.seen, *choices.unseen)


def test_the_same_seed_gives_the_same_world_and_another_seed_another() -> None:
    small = {"filings": 8, "companies": 20, "event_share": 0.05}
    assert same(world(seed=3, **small), world(seed=3, **small))
    assert not same(world(seed=3, **small), world(seed=4, **small))


def test_chunks_are_the_world_in_whole_filings() -> None:
    arguments = {"seed": 5, "filings": 30, **DENSE}
    pieces = list(chunks(chunk_sentences=300, **arguments))
    assert len(pieces) > 3
    whole = World(*(pa.concat_tables([getattr(p, name) for p in pieces]) for name in TABLES))
    assert same(whole, world(**arguments))
    for piece in pieces:
        assert set(piece.sentences["filing_id"].to_pylist()) == set(
            piece.filings["filing_id"].to_pylist()
        )


def test_more_filings_leave_the_first_ones_as_they_were() -> None:
    few = world(seed=6, filings=4, companies=9)
    many = world(seed=6, filings=7, companies=9)
    assert many.sentences.slice(0, len(few.sentences)).equals(few.sentences)
    assert many.events.slice(0, len(few.events)).equals(few.events)


def test_ids_are_unique_and_lead_from_event_to_filing(dense: World) -> None:
    for table, column in (
        (dense.filings, "filing_id"),
        (dense.sentences, "sentence_id"),
        (dense.events, "event_id"),
        (dense.truth, "sentence_id"),
    ):
        assert len(pc.unique(table[column])) == len(table)
    sentences = texts(dense)
    for row in dense.events.to_pylist():
        assert row["sentence"] == sentences[row["sentence_id"]]
        assert row["sentence_id"].startswith(row["filing_id"] + "#")


def test_forty_types_have_eight_seen_phrasings_and_two_unseen_ones_apart() -> None:
    assert len(phrases().by_type) >= 40
    for choices in phrases().by_type.values():
        assert len(choices.seen) >= 8
        assert len(choices.unseen) >= 2
        assert not {one.pieces for one in choices.seen} & {one.pieces for one in choices.unseen}


def test_no_two_phrasings_have_the_same_words() -> None:
    def bare(phrasing: Phrasing) -> tuple[object, ...]:
        return tuple(
            (piece.kind, piece.words) if isinstance(piece, Slot) else piece
            for piece in phrasing.pieces
        )

    words = [bare(phrasing) for phrasing in all_phrasings()]
    assert len(words) == len(set(words))


def test_every_slot_an_event_names_is_in_its_phrasing() -> None:
    for phrasing in all_phrasings():
        slots = {piece.name for piece in phrasing.pieces if isinstance(piece, Slot)}
        for says in phrasing.says:
            assert {says.subject, says.object, *says.sizes} - {None} <= slots, phrasing.id


def test_held_out_companies_have_parts_of_names_no_other_company_has() -> None:
    pools = parts()["companies"]
    for part in ("heads", "ends", "sectors"):
        assert not set(pools["seen"][part]) & set(pools["held_out"][part])
    companies = registrants(1, 2500, 0.2)
    assert len({company.name for company in companies}) == 2500
    assert sum(company.held_out for company in companies) == 500
    known = {company.short for company in companies if not company.held_out}
    assert not known & {company.short for company in companies if company.held_out}


def test_held_out_companies_use_unseen_phrasings_half_the_time_and_others_never(
    dense: World,
) -> None:
    held_out = dense.truth.filter(dense.truth["held_out"])
    others = dense.truth.filter(pc.invert(dense.truth["held_out"]))
    assert all(others["phrasing_seen"].to_pylist())
    seen = held_out["phrasing_seen"].to_pylist()
    assert 0.42 < sum(seen) / len(seen) < 0.58


def test_subjects_and_objects_stand_in_their_sentence_as_whole_words(dense: World) -> None:
    for row in dense.events.to_pylist():
        for name in ("subject", "object"):
            if row[name] is not None:
                span = re.escape(row[name])
                assert re.search(rf"(?<!\w){span}(?!\w)", row["sentence"]), row


def test_dates_are_iso_and_agree_with_their_confidence(dense: World) -> None:
    widths = {10: {10}, 6: {7, 4}, 5: {4}, 2: {None}, 0: {None}}
    for row in dense.events.to_pylist():
        date = row["event_date"]
        assert date is None or DATE.fullmatch(date)
        assert (len(date) if date else None) in widths[row["date_confidence"]]
        assert date is None or date[:4] in row["sentence"]
    assert set(dense.events["date_confidence"].to_pylist()) == set(widths)


def test_the_task_takes_every_answer_as_it_is(dense: World) -> None:
    grouped: dict[str, list[dict[str, object]]] = defaultdict(list)
    names = [field.name for field in FILING_EVENTS.fields]
    for row in dense.events.to_pylist():
        grouped[row["raw"]].append({name: row[name] for name in names})
    for raw, events in grouped.items():
        answer = FILING_EVENTS.parse(raw)
        assert [dict(record) for record in answer.records] == events[: len(answer.records)]


def test_amounts_decide_the_magnitude(dense: World) -> None:
    rows = [row for row in dense.events.to_pylist() if row["event_type"] == "repaid_debt"]
    assert rows
    for row in rows:
        size = dollars(row["object"])
        expected = "major" if size >= 100e6 else "minor" if size < 5e6 else "moderate"
        assert row["magnitude_class"] == expected


def test_equal_sentences_have_equal_truths(dense: World) -> None:
    told: dict[str, set[str]] = defaultdict(set)
    sentences = texts(dense)
    for row in dense.truth.to_pylist():
        told[sentences[row["sentence_id"]]].add(row["events"])
    assert {len(truths) for truths in told.values()} == {1}


def test_sentences_state_none_to_three_events_and_truth_is_what_was_written(dense: World) -> None:
    written = dict(dense.events.group_by("sentence_id").aggregate([([], "count_all")]).to_pydict())
    counts = dict(zip(written["sentence_id"], written["count_all"], strict=True))
    truth = {row["sentence_id"]: json.loads(row["events"]) for row in dense.truth.to_pylist()}
    assert {len(events) for events in truth.values()} == {0, 1, 2, 3}
    assert counts == {id: len(events) for id, events in truth.items() if events}


def test_sentences_are_long_enough_and_end_with_one_dot(dense: World) -> None:
    sentences = set(dense.events["sentence"].to_pylist())
    lengths = sorted(len(sentence.split()) for sentence in sentences)
    assert 15 <= lengths[len(lengths) // 2] <= 30
    assert lengths[-1] < 80
    for sentence in sentences:
        assert re.search(r"[^.]\.$", sentence), sentence
        assert not re.search(r"  | ,|\{|\[|<|,,|\b(\w+) \1\b", sentence), sentence


def test_shares_of_keywords_and_events_are_as_asked() -> None:
    made = world(seed=2, filings=300, companies=50, unread=0.0, sentences_per_filing=150)
    total = len(made.sentences)
    events = sum(row != "[]" for row in made.truth["events"].to_pylist())
    assert 0.094 < len(made.truth) / total < 0.106
    assert 0.008 < events / total < 0.012


def test_the_teacher_errs_at_the_stated_rate_and_truth_records_it() -> None:
    made = world(seed=9, filings=200, error_rate=0.1, unread=0.0, **DENSE)
    answers = {row["sentence_id"]: row["raw"] for row in made.events.to_pylist()}
    wrong = stated = 0
    for row in made.truth.to_pylist():
        truth, raw = json.loads(row["events"]), answers.get(row["sentence_id"])
        answer = json.loads(raw)["events"] if raw else []
        assert (answer != truth) == row["erred"]
        stated += bool(truth)
        wrong += row["erred"]
    assert 0.085 < wrong / stated < 0.115


def test_filings_the_teacher_has_not_read_have_sentences_and_truth_but_no_events() -> None:
    made = world(seed=4, filings=100, unread=0.3, **DENSE)
    unread = made.filings.filter(pc.is_null(made.filings["teacher_done_at"]))["filing_id"]
    assert 15 <= len(unread) <= 45
    assert not set(unread.to_pylist()) & set(made.events["filing_id"].to_pylist())
    assert set(unread.to_pylist()) <= set(made.sentences["filing_id"].to_pylist())


def test_a_filing_without_events_is_a_cover_a_body_and_signatures() -> None:
    made = world(seed=1, filings=1, companies=1, keyword_share=0.0, event_share=0.0, unread=0.0)
    body = made.sentences["sentence"].to_pylist()
    assert body[0].startswith("UNITED STATES")
    assert "SIGNATURES" in body
    assert len(made.truth) == len(made.events) == 0
    assert len(Boilerplate().sections) >= 8


def test_shares_that_cannot_be_are_refused_before_any_work() -> None:
    with pytest.raises(SetupError, match="event_share"):
        world(seed=1, filings=1, companies=1, event_share=0.5)
    with pytest.raises(SetupError, match="held_out"):
        world(seed=1, filings=1, companies=1, held_out=1.5)
    with pytest.raises(SetupError, match="no more company names"):
        world(seed=1, filings=1, companies=20_000, held_out=1.0)


@pytest.mark.postgres
def test_written_tables_read_back_as_they_were_and_a_second_world_replaces_them(
    database: str,
) -> None:
    made = world(seed=8, filings=12, **DENSE)
    write(world(seed=7, filings=5, **DENSE), database)
    write(made, database)
    with postgres.connect(database, read_only=True) as connection:
        for name in ("filings", "sentences", "events"):
            table = getattr(made, name)
            [(count,)] = postgres.fetch(connection, f"SELECT count(*) FROM kee.{name}")
            assert count == len(table)
        columns = ", ".join(name for name in EVENTS.names if name != "raw")
        rows = postgres.fetch(
            connection, f"SELECT {columns}, raw FROM kee.events ORDER BY event_id"
        )
    expected = [
        (*(row[name] for name in EVENTS.names if name != "raw"), json.loads(row["raw"]))
        for row in made.events.to_pylist()
    ]
    assert rows == expected
