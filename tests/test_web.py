"""The page's routes: files that a browser can trust, the review queue, quality by day."""

import csv
import io
import json
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from raydistill import postgres
from raydistill.dataset import SCHEMA
from raydistill.errors import AnswerError, DataError
from raydistill.lessons import corrections
from raydistill.serve import mirror
from raydistill.web import quality, router
from raydistill.web.review import Asked, Queue
from tests.small_dataset import TASK, event, rows

NO = '{"skip":true}'


def browser(queue=None, measured=None):
    app = FastAPI()
    for one in (router.pages(), router.reviews(queue), router.quality(measured)):
        app.include_router(one)
    return TestClient(app)


@pytest.fixture
def queue(database):
    made = Queue(database, TASK)
    made.prepare()
    return made


def asked(row, **changes):
    given = {"sentence_id": row["id"], "filing_id": row["group"], "text": row["text"]}
    given |= {"reason": "disagreement", "teacher": row["answer"], "student": NO}
    return Asked(**given | {"confidence": 0.4, "skip_score": 0.9} | changes)


def eventful(count):
    return [row for row in rows() if row["keep"]][:count]


# ---------------------------------------------------------------- files


def test_the_page_and_its_parts_are_sent_with_a_strict_policy():
    web = browser()
    page = web.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    for name in router.NAMES:
        part = web.get(f"/page/{name}")
        assert part.status_code == 200
        assert part.headers["content-security-policy"] == policy
        again = web.get(f"/page/{name}", headers={"If-None-Match": part.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/page/router.py", "/page/%2e%2e%2fpyproject.toml", "/page/"])
def test_nothing_but_the_page_is_sent(path):
    assert browser().get(path).status_code == 404


def test_the_page_asks_for_nothing_outside_itself():
    web = browser()
    for name in ("", *(f"page/{one}" for one in router.NAMES)):
        text = web.get(f"/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text
        assert "innerHTML" not in text


def test_without_a_database_review_and_quality_say_so():
    web = browser()
    assert web.get("/v1/review").status_code == 404
    assert web.get("/v1/review/labels.csv").status_code == 404
    assert web.get("/v1/quality").status_code == 404


@pytest.mark.postgres
def test_the_queue_of_a_fresh_database_is_empty(database):
    made = browser(Queue(database, TASK)).get("/v1/review").json()
    assert made["rows"] == []
    assert set(made["counts"].values()) == {0}


def test_a_database_that_is_away_is_503_and_names_no_host():
    web = browser(Queue("postgresql://nobody@127.0.0.1:9/x", TASK))
    answer = web.get("/v1/review")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "127.0.0.1" not in answer.text


# ---------------------------------------------------------------- review


@pytest.mark.postgres
def test_a_sentence_is_asked_once_a_release_and_what_cannot_be_stored_is_left_out(queue):
    some = [asked(row) for row in eventful(3)]
    assert queue.add(some, release="one") == 3
    assert queue.add(some, release="one") == 0
    assert queue.add(some[:1], release="two") == 1
    bad = [asked(eventful(1)[0], sentence_id=c, text=f"a{c}b") for c in ("\0", "\ud800")]
    assert queue.add(bad, release="one") == 0
    assert queue.counts()["open"] == 4
    first = queue.next()
    assert first["sentence_id"] == some[0].sentence_id
    assert first["teacher"] == json.loads(some[0].teacher)
    assert [one["id"] for one in queue.listed(after=first["id"], limit=2)] == [
        first["id"] + 1,
        first["id"] + 2,
    ]


@pytest.mark.postgres
def test_only_who_decided_can_take_it_back(queue):
    queue.add([asked(row) for row in eventful(1)], release="r")
    id = queue.next()["id"]
    assert queue.decide(id, "teacher", reviewer="ann")["state"] == "teacher"
    with pytest.raises(DataError) as other:
        queue.decide(id, "student", reviewer="bob")
    assert other.value.code == "decided"
    assert queue.decide(id, "student", reviewer="ann")["answer"] == {"skip": True}
    back = queue.decide(id, "open", reviewer="ann")
    assert (back["state"], back["answer"], back["reviewer"]) == ("open", None, None)
    assert queue.decide(id, "dismissed", reviewer="bob")["answer"] is None


@pytest.mark.postgres
def test_what_is_no_answer_of_the_task_is_refused_and_changes_nothing(queue):
    row = eventful(1)[0]
    queue.add([asked(row, student=None, reason="abstained")], release="r")
    id = queue.next()["id"]
    record = json.loads(row["answer"])["events"][0]
    with pytest.raises(AnswerError, match="timing"):
        queue.decide(id, "corrected", reviewer="a", answer={"events": [record | {"timing": "x"}]})
    with pytest.raises(DataError, match="no_answer"):
        queue.decide(id, "student", reviewer="a")
    with pytest.raises(DataError, match="not_found"):
        queue.decide(id + 1, "teacher", reviewer="a")
    assert queue.counts()["open"] == 1


@pytest.mark.postgres
def test_labels_come_back_into_a_dataset_as_corrections(queue, tmp_path):
    """The sheet that the page offers is what `build corrections=` reads."""
    some = eventful(5)
    queue.add([asked(row) for row in some], release="r")
    ids = [one["id"] for one in queue.listed()]
    fixed = json.loads(event(some[0]["text"], event_type="=evil()", subject="the Company"))
    queue.decide(ids[0], "corrected", reviewer="=ann", answer=fixed)
    queue.decide(ids[1], "student", reviewer="ann")
    queue.decide(ids[2], "teacher", reviewer="bob")
    queue.decide(ids[3], "dismissed", reviewer="bob")
    web = browser(queue)
    sheet = web.get("/v1/review/labels.csv")
    assert all(not cell.startswith("=") for line in csv.reader(io.StringIO(sheet.text))
               for cell in line)  # fmt: skip
    (tmp_path / "labels.csv").write_bytes(sheet.content)
    said = corrections.read([tmp_path / "labels.csv"], TASK)
    assert said.rejects == ()
    table = pa.Table.from_pylist(some, schema=SCHEMA)
    made, used = corrections.apply(table, said)
    assert sorted(used) == sorted(row["id"] for row in some[:3])
    answers = made["answer"].to_pylist()
    first = json.loads(answers[0])["events"][0]
    assert (first["event_type"], first["subject"]) == ("evil", "the Company")
    assert answers[1] == NO
    assert answers[2:] == [row["answer"] for row in some[2:]]
    assert {one.reviewer for one in said.by_id.values()} == {"=ann", "ann", "bob"}
    assert [one.changed for one in said.by_id.values()] == [True, True, False]


@pytest.mark.postgres
def test_the_queue_over_http_names_what_is_wrong(queue):
    queue.add([asked(row) for row in eventful(2)], release="r")
    web = browser(queue)
    made = web.get("/v1/review?limit=1").json()
    assert made["counts"]["open"] == 2
    assert [one["name"] for one in made["task"]["fields"]] == [one.name for one in TASK.fields]
    where = f"/v1/review/{made['rows'][0]['id']}"
    good = {"verdict": "teacher", "reviewer": "ann"}
    for body, status in (
        ({"verdict": "maybe", "reviewer": "ann"}, 422),
        ({"verdict": "teacher", "reviewer": " "}, 422),
        ({"verdict": "teacher", "reviewer": "a\0"}, 422),
        (good | {"more": 1}, 422),
        ({"verdict": "corrected", "reviewer": "ann"}, 422),
        ({"verdict": "corrected", "reviewer": "ann", "answer": {"events": [{"a": "\0"}]}}, 422),
        (good, 200),
        (good | {"reviewer": "bob"}, 409),
    ):
        assert web.post(where, json=body).status_code == status
    assert web.post("/v1/review/999999", json=good).status_code == 404
    assert web.get("/v1/review?limit=1000").status_code == 422
    assert web.get("/v1/review?state=teacher").json()["rows"][0]["reviewer"] == "ann"


# ---------------------------------------------------------------- quality


@pytest.mark.postgres
def test_quality_of_an_empty_database_is_empty(database):
    made = browser(measured=quality.of(database, TASK, gate=0.8)).get("/v1/quality").json()
    assert made["agreement"] == {
        "bar": 0.8,
        "total": {"rows": 0, "value": None, "low": None, "high": None},
        "by_day": [],
    }
    assert made["drift"]["decisions"] == made["drift"]["types"] == made["time"] == []


@pytest.mark.postgres
def test_quality_by_day_counts_what_the_service_wrote(database):
    _written(database)
    made = quality.of(database, TASK, gate=0.8)(30)
    assert made["traffic"] == {"requests": 400, "sentences": 4000, "ms": 4000.0}
    assert made["agreement"]["total"]["rows"] == 4 * 300
    assert [one["value"] for one in made["agreement"]["by_day"]] == pytest.approx([0.75] * 4)
    for one in made["agreement"]["by_day"]:
        assert one["low"] < one["value"] < one["high"]
    assert [one["value"] for one in made["skip"]["by_day"]] == [0.6] * 4
    assert [one["release"] for one in made["releases"]] == ["old", "new"]
    types = [one["value"] for one in made["drift"]["types"]]
    assert types[0] is None  # the first day is what the others are compared with
    assert max(types[1:3]) < quality.WATCH
    assert types[3] > quality.LIMIT / 2
    assert made["drift"]["moved"][0][0] in ("issued_notes", "amended_bylaws")
    assert [one["value"] for one in made["drift"]["decisions"]][1:] == pytest.approx([0] * 3)
    assert quality.of(database, TASK)(1)["traffic"]["sentences"] == 1000


def _written(dsn):
    """Four days; on the last one nearly all events are of another type."""
    now = datetime.now(timezone.utc)
    with postgres.connect(dsn) as connection:
        postgres.script(connection, mirror.DDL)
        for day in range(4):
            at = now - timedelta(days=3 - day)
            release = "old" if day < 2 else "new"
            traffic = {"at": [at], "process": ["p"], "task": [TASK.name], "release": [release]}
            traffic |= {"mode": ["shadow"], "requests": [100], "sentences": [1000]}
            traffic |= {"keyword": [500], "skip": [300], "extract": [200], "teacher": [0]}
            traffic |= {"error": [0], "records": [100], "ms": [1000.0]}
            postgres.copy_in(connection, "raydistill.traffic", pa.table(traffic))
            kind = "issued_notes" if day < 3 else "amended_bylaws"
            said = [
                {
                    "at": at, "request_id": "r", "task": TASK.name, "release": release,
                    "mode": "shadow", "sentence": "s", "decision": "extract", "eventful": True,
                    "student": event("s", event_type=kind if n % 10 else "paid_dividend"),
                    "agree": n % 4 > 0,
                }
                for n in range(300)
            ]  # fmt: skip
            postgres.copy_in(connection, "raydistill.comparisons", pa.Table.from_pylist(said))
