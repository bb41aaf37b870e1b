"""Near-duplicates: which texts are near, and which of them stay."""

import numpy as np

from raydistill.lessons import dedup

WORDS = [f"word{n}" for n in range(400)]


def text(start: int, length: int = 30, **changed: int) -> str:
    words = WORDS[start : start + length]
    for place, new in changed.items():
        words[int(place[1:])] = f"other{new}"
    return " ".join(words)


def found(texts: list[str], parts: list[int] | None = None, **more) -> list[int]:
    signature, bands = dedup.signatures(texts)
    part = np.array(parts or [0] * len(texts), np.int8)
    priority = np.arange(len(texts))
    return dedup.near(bands.__getitem__, signature, priority, part, **more).tolist()


def test_a_text_with_one_word_changed_at_its_end_is_near_and_the_earlier_one_stays() -> None:
    assert found([text(0), text(100), text(0, p29=1)], threshold=0.8) == [-1, -1, 0]


def test_texts_that_share_half_of_their_runs_are_not_near() -> None:
    assert found([text(0), text(0, p5=1, p12=2, p20=3, p27=4)], threshold=0.8) == [-1, -1]


def test_case_and_spacing_do_not_part_texts() -> None:
    assert found([text(0), text(0).upper().replace(" ", "  ")], threshold=0.99) == [-1, 0]


def test_within_one_part_nothing_is_dropped_when_only_straddling_is_asked_for() -> None:
    texts = [text(0), text(0), text(0, p29=1)]
    assert found(texts, [0, 0, 1], threshold=0.8, within=False) == [-1, -1, 0]


def test_a_dropped_text_drops_no_other() -> None:
    # b is near a, c is near b but not near a: a chain must not eat c.
    a, b, c = text(0, 60), text(4, 60), text(8, 60)
    assert found([a, b, c], threshold=0.85) == [-1, 0, -1]


def test_the_check_finds_what_straddles_and_nothing_after_it_was_dropped() -> None:
    texts = [text(0), text(50), text(0, p29=1), text(50), text(200)]
    signature, bands = dedup.signatures(texts)
    part = np.array([0, 0, 1, 1, 1], np.int8)

    def check(rows: list[int]) -> set[tuple[int, int]]:
        kept = np.array(rows)
        return dedup.straddling(bands.__getitem__, signature, kept, part, threshold=0.8)

    assert check([0, 1, 2, 3, 4]) == {(0, 2), (1, 3)}
    assert check([0, 1, 4]) == set()


def test_similarity_estimates_the_jaccard_index() -> None:
    texts = [text(0, 200), text(0, 200, p50=1, p51=2, p52=3, p53=4)]
    one, other = (set(dedup.shingles(each)) for each in texts)
    truth = len(one & other) / len(one | other)
    signature, _ = dedup.signatures(texts)
    assert abs(dedup.similarity(signature[:1], signature[1:])[0] - truth) < 0.12


def test_no_texts_have_no_signatures() -> None:
    signature, bands = dedup.signatures([])
    assert signature.shape == (0, dedup.PLACES)
    assert bands.shape == (dedup.BANDS, 0)
    priority = np.empty(0, np.int64)
    near = dedup.near(bands.__getitem__, signature, priority, np.empty(0, np.int8), threshold=0.8)
    assert len(near) == 0
