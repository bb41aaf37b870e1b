"""What was said of recent sentences is said again, and little is kept."""

import pyarrow as pa
import pytest

from raydistill.stages.recent import Recent
from raydistill.stages.skip import Skip


def test_each_text_is_made_once_and_answers_stand_in_order():
    made: list[list[str]] = []

    def lengths(texts: list[str]) -> list[int]:
        made.append(texts)
        return [len(text) for text in texts]

    recent: Recent[int] = Recent()
    assert recent(["a", "bb", "a"], lengths) == [1, 2, 1]
    assert recent(["bb", "ccc"], lengths) == [2, 3]
    assert recent(["a"], lengths) == [1]
    assert recent([], lengths) == []
    assert made == [["a", "bb"], ["ccc"]]
    assert recent.hit_rate == 3 / 6


def test_no_more_is_kept_than_said_and_what_is_asked_for_stays():
    made: list[str] = []

    def same(texts: list[str]) -> list[str]:
        made.extend(texts)
        return texts

    recent: Recent[str] = Recent(10)
    for at in range(100):
        assert recent(["often", f"seldom {at}"], same) == ["often", f"seldom {at}"]
        assert len(recent.young) + len(recent.old) <= 10
    assert made.count("often") == 1
    assert recent(["seldom 0"], same) == ["seldom 0"]
    assert made.count("seldom 0") == 2


def test_skip_gives_a_repeated_sentence_its_score_without_another_look(tiny):
    shape = tiny.release.manifest.shapes["skip"]

    def stage() -> Skip:
        folder = tiny.release.folder / "skip"
        return Skip(folder, threshold=0.0, threads=1, max_input=shape["max_input"])

    texts = list(dict.fromkeys(tiny.dataset.table("val")["text"].to_pylist()))[:30]
    batch = pa.table({"text": pa.array([*texts, None, *reversed(texts)], pa.string())})
    one = stage()
    first = one.scored(batch)["skip_score"].to_pylist()
    assert one.recent.hit_rate == 0.5
    assert first == [*first[:30], None, *reversed(first[:30])]
    assert one.scored(batch)["skip_score"].to_pylist() == first
    assert one.recent.hit_rate == 0.75
    plain = stage().scored(batch.slice(0, 30))["skip_score"].to_pylist()
    assert first[:30] == pytest.approx(plain, abs=1e-5)
