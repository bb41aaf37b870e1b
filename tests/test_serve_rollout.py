"""From teacher to student, step by step, and back by itself when a gate is crossed."""

import asyncio
import json
import time

import pytest

from raydistill import postgres, release
from raydistill.errors import SetupError
from raydistill.serve.rollout import Gate, Mode, Rollout, RolloutConfig, State, below, sticky
from raydistill.serve.teacher import TeacherConfig
from tests.openai_server import Says, serving
from tests.serving import served

EVENT = {
    "event_type": "amended_bylaws", "subject": "The Company", "object": None,
    "magnitude_class": "minor", "timing": "definitive", "sentiment": "neutral",
    "materiality": "immaterial", "confidence": 8, "date_confidence": 0, "event_date": None,
}  # fmt: skip
TAUGHT = json.dumps({"events": [EVENT]})
ONE = "The Company amended its bylaws to change the notice period of its board."


def ran(story):
    return asyncio.run(story())


def rollout(mode, **rest):
    return RolloutConfig(mode=Mode(mode), **rest)


def student_texts(tiny):
    """Sentences for which the tiny student has an answer of its own."""
    rows = tiny.dataset.table("test")
    return rows.filter(rows["keep"])["text"].to_pylist()[:60]


async def asked(client, texts, **body):
    answer = await client.post("/v1/extract", json={"sentences": texts, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def settled(client):
    """Waits until what runs beside the answers has ended."""
    while client.service._side:
        await asyncio.sleep(0.02)


def test_each_mode_asks_whom_it_says(tiny):
    texts = student_texts(tiny)[:8]

    async def by(client, **body):
        return {one["by"] for one in (await asked(client, texts, **body))["results"]}

    async def story(url):
        teacher = TeacherConfig(url=url)
        folder = tiny.release.folder
        async with served(folder, teacher=teacher, rollout=rollout("teacher_only")) as client:
            assert await by(client) == {"teacher"}
            answer = (await asked(client, [ONE]))["results"][0]
            assert answer["records"] == [EVENT]
            assert answer["spans"] == [{"subject": [0, 11]}]
            await client.put("/v1/rollout", json={"mode": "shadow", "mirror": 1.0})
            assert await by(client) == {"teacher"}
            await settled(client)
            assert sum(client.service._gate.failed) >= 0
            assert client.service.gate()["compared"] >= 4
            await client.put("/v1/rollout", json={"mode": "canary", "share": 0.5, "mirror": 0})
            keys = {key: await by(client, key=key) for key in map(str, range(12))}
            for key, who in keys.items():
                assert who == ({"student"} if sticky(key) < 0.5 else {"teacher"})
            assert len({frozenset(who) for who in keys.values()}) == 2
            await client.put("/v1/rollout", json={"mode": "student_first", "confidence": 1.0})
            seen = (await asked(client, [*texts, "See Item 7."]))["results"]
            assert {one["by"] for one in seen[:-1]} >= {"teacher"}
            assert (seen[-1]["by"], seen[-1]["decision"]) == ("student", "keyword")
            await client.put("/v1/rollout", json={"mode": "student_only"})
            assert await by(client) == {"student"}

    with serving(lambda n, prompt: Says(TAUGHT)) as server:
        ran(lambda: story(server.url))


def test_a_teacher_that_is_away_is_a_503_where_it_must_answer_and_nothing_elsewhere(tiny):
    texts = student_texts(tiny)[:5]

    async def story(url):
        teacher = TeacherConfig(url=url, tries=1, timeout_s=2)
        first = rollout("student_first", confidence=1.0)
        async with served(tiny.release.folder, teacher=teacher, rollout=first) as client:
            results = (await asked(client, texts))["results"]
            assert {one["by"] for one in results} == {"student"}
            await client.put("/v1/rollout", json={"mode": "teacher_only"})
            answer = await client.post("/v1/extract", json={"sentences": texts})
            assert (answer.status_code, answer.json()["code"]) == (503, "teacher_unavailable")
            assert url not in answer.text
            assert int(answer.headers["retry-after"]) > 0

    with serving(lambda n, prompt: Says(status=500)) as server:
        ran(lambda: story(server.url))


def test_the_teacher_never_sees_what_the_releases_rules_refuse(tiny):
    async def story(url):
        teacher = TeacherConfig(url=url)
        mode = rollout("teacher_only")
        async with served(tiny.release.folder, teacher=teacher, rollout=mode) as client:
            return (await asked(client, ["a\0b", "x" * 30_000, ONE]))["results"]

    with serving(lambda n, prompt: Says(TAUGHT)) as server:
        results = ran(lambda: story(server.url))
        assert len(server.requests) == 1
    assert [one["error"] for one in results] == ["nul_byte", "too_long", None]


def test_a_canary_that_disagrees_falls_back_by_itself(tiny, tmp_path):
    texts = student_texts(tiny)
    state = tmp_path / "state.json"

    async def story(url):
        gate = {"least": 20, "window": 50, "errors": 1.0}
        config = rollout("shadow", share=1.0, mirror=1.0, state=str(state), **gate)
        teacher = TeacherConfig(url=url)
        async with served(tiny.release.folder, teacher=teacher, rollout=config) as client:
            await client.put("/v1/rollout", json={"mode": "canary"})
            assert (await asked(client, texts))["mode"] == "canary"
            await settled(client)
            now = (await client.get("/v1/rollout")).json()
            assert now["mode"] == "shadow"
            assert "lower bound" in now["reason"]
            assert (await asked(client, texts[:3]))["results"][0]["by"] == "teacher"
            await settled(client)
            text = (await client.get("/metrics")).text
            assert "raydistill_fallbacks_total 1.0" in text
            assert 'raydistill_mode{mode="shadow"} 1.0' in text

    with serving(lambda n, prompt: Says('{"skip": true}')) as server:
        ran(lambda: story(server.url))
    assert json.loads(state.read_text())["mode"] == "shadow"
    assert Rollout(RolloutConfig(state=str(state))).state.mode is Mode.shadow


def test_a_change_reaches_other_processes_through_the_file(tmp_path):
    config = RolloutConfig(state=str(tmp_path / "s.json"))
    one, other = Rollout(config, look_s=0), Rollout(config, look_s=0)
    one.change(reason="test", mode=Mode.canary, share=0.25)
    assert (other.state.mode, other.state.share) == (Mode.canary, 0.25)
    (tmp_path / "s.json").write_text("{ broken")
    assert other.state.mode is Mode.canary


def test_a_fall_back_never_goes_up():
    def at(mode, previous=None):
        return below(State(Mode(mode), 0, 0, 0, previous and Mode(previous)))

    assert at("canary", "teacher_only") is Mode.teacher_only
    assert at("canary", "student_only") is Mode.shadow
    assert at("student_first") is Mode.canary
    assert at("teacher_only") is None


def test_the_gate_waits_for_enough_and_then_judges_the_lower_bound():
    gate = Gate(RolloutConfig(least=50, window=200, agreement=0.8, errors=0.02))
    gate.agreed.extend([False] * 49)
    assert gate.crossed() is None
    gate.agreed.append(False)
    assert "0/50" in str(gate.crossed())
    gate.clear()
    gate.agreed.extend([True] * 190 + [False] * 10)
    assert gate.crossed() is None
    gate.agreed.extend([False] * 20)  # 170 of the last 200: the lower bound is 0.79
    assert "lower bound" in str(gate.crossed())
    gate.clear()
    gate.failed.extend([False] * 97 + [True] * 3)
    assert "failed" in str(gate.crossed())


def test_a_mode_that_needs_a_teacher_is_refused_without_one(tiny):
    async def begun():
        async with served(tiny.release.folder, rollout=rollout("shadow")):
            pass

    with pytest.raises(SetupError, match="without a teacher"):
        ran(begun)

    async def changed():
        async with served(tiny.release.folder) as client:
            answer = await client.put("/v1/rollout", json={"mode": "canary"})
            assert (answer.status_code, answer.json()["field"]) == (422, "mode")
            wrong = await client.put("/v1/rollout", json={"share": 2})
            assert (wrong.status_code, wrong.json()["field"]) == (422, "share")

    ran(changed)


@pytest.mark.postgres
def test_comparisons_traffic_and_reviews_reach_the_database(tiny, database):
    texts = student_texts(tiny)[:30]

    async def story(url):
        config = rollout("shadow", mirror=1.0)
        teacher = TeacherConfig(url=url)
        async with served(
            tiny.release.folder, teacher=teacher, rollout=config, database=database
        ) as client:
            await asked(client, texts)
            await settled(client)

    with serving(lambda n, prompt: Says(TAUGHT)) as server:
        ran(lambda: story(server.url))
    rows = postgres.fetch(
        database,
        "SELECT sentence, teacher->'events'->0->>'event_type', agree, eventful, mode, release,"
        " reason FROM raydistill.comparisons ORDER BY id",
    )
    assert [row[0] for row in rows] == texts
    assert {row[1:6] for row in rows} == {
        ("amended_bylaws", False, True, "shadow", tiny.release.name)
    }
    ((asked_rows,),) = postgres.fetch(database, "SELECT count(*) FROM raydistill.review")
    assert asked_rows == len(set(texts))
    traffic = postgres.fetch(
        database, "SELECT requests, sentences, teacher FROM raydistill.traffic"
    )
    assert traffic == [(1, 30, 30)]

    async def read():
        async with served(tiny.release.folder, database=database) as client:
            return (await client.get("/v1/quality")).json()

    measured = ran(read)
    assert measured["traffic"]["requests"] == 1
    assert measured["agreement"]["total"]["rows"] == 30


def test_answers_go_on_without_a_database_and_what_is_lost_is_counted(tiny):
    async def story(url):
        async with served(
            tiny.release.folder,
            teacher=TeacherConfig(url=url),
            rollout=rollout("shadow", mirror=1.0),
            database="postgresql://nobody@127.0.0.1:9/none",
        ) as client:
            await asked(client, student_texts(tiny)[:10])
            await settled(client)
            until = time.monotonic() + 20
            while time.monotonic() < until:
                text = (await client.get("/metrics")).text
                if 'raydistill_mirror_dropped_total{reason="database_down"}' in text:
                    break
                await asyncio.sleep(0.05)
            assert 'raydistill_mirror_dropped_total{reason="database_down"} 10.0' in text
            assert len((await asked(client, [ONE]))["results"]) == 1

    with serving(lambda n, prompt: Says(TAUGHT)) as server:
        ran(lambda: story(server.url))


def test_a_new_release_behind_the_link_answers_without_a_failed_request(tiny, tmp_path):
    old, new, link = tiny.release.folder, tmp_path / "new", tmp_path / "link"
    manifest = tiny.release.manifest

    def fill(folder):
        import shutil

        shutil.copytree(old, folder, dirs_exist_ok=True)
        (folder / "release.json").unlink()
        (folder / "task.json").unlink()
        return dict(manifest.metrics)

    facts = {
        name: getattr(manifest, name)
        for name in ("dataset", "base", "adapter", "quantisation", "shapes", "licence", "extra")
    }
    facts["thresholds"] = {**manifest.thresholds, "skip": 0.0}
    newer = release.write(new, fill, task=tiny.release.task, label="newer", **facts)
    link.symlink_to(old)

    async def story():
        async with served(link, watch_s=0.05) as client:
            names = []
            until = time.monotonic() + 30
            while newer.name not in names[-1:] and time.monotonic() < until:
                answers = await asyncio.gather(*(asked(client, [ONE]) for _ in range(4)))
                names += [one["release"] for one in answers]
                if len(names) == 20:
                    (tmp_path / "next").symlink_to(new)
                    (tmp_path / "next").replace(link)
            assert (await client.get("/v1/release")).json()["release"] == newer.name
            return names

    names = ran(story)
    assert set(names) == {tiny.release.name, newer.name}
    assert names[-1] == newer.name


def test_a_broken_release_behind_the_link_is_not_taken(tiny, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tiny.release.folder)

    async def story():
        async with served(link, watch_s=0.05) as client:
            await asked(client, [ONE])
            link.unlink()
            link.symlink_to(tmp_path)
            await asyncio.sleep(0.4)
            return (await asked(client, [ONE]))["release"]

    assert ran(story) == tiny.release.name
