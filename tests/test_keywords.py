"""Keywords are learned, written, read, and claim no more than the held-out events show."""

from pathlib import Path

import numpy as np
import pytest

from raydistill import keywords
from raydistill.errors import SetupError

FILLER = ["the", "company", "of", "quarter", "sales", "plan", "rate", "note", "value", "year"]
PLANTED = ["resigned", "entered into", "acquired", "acquires", "acquiring"]


def filings(companies: int, rows: int, seed: int = 0) -> tuple[list[str], np.ndarray, list[str]]:
    """Sentences of filler words; those with an event hold a planted word or phrase, too."""
    rng = np.random.default_rng(seed)
    texts, positive, groups = [], [], []
    for company in range(companies):
        for _ in range(rows):
            words = list(rng.choice(FILLER, 8))
            event = rng.random() < 0.3
            if event:
                words.insert(int(rng.integers(8)), str(rng.choice(PLANTED)))
            texts.append(" ".join(words))
            positive.append(event)
            groups.append(f"company {company}")
    return texts, np.array(positive), groups


def test_planted_keywords_are_found_and_shown() -> None:
    learned = keywords.learn(*filings(60, 60), recall=0.98, seed=1)
    assert any(k.startswith("resig") for k in learned.keywords)
    assert any(k.startswith("acqu") for k in learned.keywords)
    assert learned.recall == 1.0
    assert learned.supported
    assert learned.pass_rate < 0.4
    assert f"n={learned.events} events" in learned.claim
    counts, recalls, passes = (np.array(c) for c in zip(*learned.curve, strict=True))
    for column in (counts, recalls, passes):
        assert (np.diff(column) >= 0).all()


def test_the_same_seed_learns_the_same() -> None:
    data = filings(30, 30)
    assert keywords.learn(*data, recall=0.9, seed=3) == keywords.learn(*data, recall=0.9, seed=3)


def test_too_few_events_support_no_claim() -> None:
    learned = keywords.learn(*filings(20, 20), recall=0.995, seed=1)
    assert learned.recall == 1.0
    assert not learned.supported
    assert "cannot be shown with fewer than 598 events" in learned.claim
    assert learned.lower == pytest.approx(0.05 ** (1 / learned.events))


def test_events_of_a_kind_unseen_lower_the_reported_recall() -> None:
    """Every company has words of its own for half of its events: only held-out companies tell."""
    texts, positive, groups = filings(40, 40)
    own = {
        g: "own" + "abcdefghij"[i % 10] + "klmn"[i // 10]
        for i, g in enumerate(dict.fromkeys(groups))
    }
    for i in np.flatnonzero(positive)[::2]:
        texts[i] = " ".join(w for w in texts[i].split() if w in FILLER) + " " + own[groups[i]]
    learned = keywords.learn(texts, positive, groups, recall=0.9, seed=1)
    passed_all = learned.pass_rate > 0.95
    assert passed_all or learned.recall_lower < 0.9
    assert not (learned.supported and learned.recall < 0.9)


def test_rates_come_from_the_random_rows_alone() -> None:
    texts, positive, groups = filings(60, 60)
    sample = np.arange(len(texts)) % 3 == 0
    learned = keywords.learn(texts, positive, groups, recall=0.9, seed=1, sample=sample)
    assert 0 < learned.events <= (positive & sample).sum()


def test_without_events_nothing_is_learned() -> None:
    texts, positive, groups = filings(20, 20)
    for none in (np.zeros_like(positive), np.ones_like(positive)):
        with pytest.raises(SetupError, match="rows to learn"):
            keywords.learn(texts, none, groups, seed=1)


def test_a_resampled_company_widens_the_bound() -> None:
    kept = np.array([True] * 90 + [False] * 10)
    together = np.repeat(np.arange(10), 10)  # all that is lost is one company's
    apart = np.tile(np.arange(10), 10)
    bound = keywords._lower_by_company
    assert bound(kept, together, 1) < bound(kept, apart, 1)
    assert keywords._lower(90, 100) == pytest.approx(0.8363, abs=1e-3)


def test_a_written_list_is_read_again(tmp_path: Path) -> None:
    learned = keywords.learn(*filings(30, 30), recall=0.9, seed=1)
    learned.write(tmp_path / "keywords.txt")
    assert keywords.read(tmp_path / "keywords.txt") == learned.keywords
    assert (tmp_path / "keywords.txt").read_text().startswith(f"# {learned.claim}\n")


def test_a_list_edited_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "keywords.txt"
    path.write_text("\ufeff# mine\r\n\r\nmerger\r\n acqui* \r\nmerger\r\nre:\\$\\d #1\r\n", "utf-8")
    assert keywords.read(path) == ["merger", "acqui*", "re:\\$\\d #1"]


@pytest.mark.parametrize("content", [b"", b"# only\n\n", b"\xff\xfe\x00", b"ok\nre:(\n"])
def test_a_bad_list_stops_the_job(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k.txt").write_bytes(content)
    with pytest.raises(SetupError):
        keywords.read(tmp_path / "k.txt")
    with pytest.raises(SetupError):
        keywords.read(tmp_path / "absent.txt")


def test_losses_name_the_lost_and_the_gates() -> None:
    texts = ["a merger", "resigned", "a merger resigned", "other merger", "none", "lost"]
    positive = np.array([True, True, True, False, False, True])
    found = keywords.losses(["merger", "resign*"], texts, positive)
    assert found.lost.tolist() == [5]
    assert found.by_keyword.to_pydict() == {
        "keyword": ["merger", "resign*"],
        "events": [2, 2],
        "others": [1, 0],
        "events_alone": [1, 1],
        "others_alone": [1, 0],
    }
