"""What was said of recent sentences is said again, and little is kept."""

from raydistill.stages.recent import Recent


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
