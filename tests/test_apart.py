"""Made lessons keep away from validation and test sentences, whether equal or nearly so."""

from pathlib import Path

import pytest

from raydistill.lessons.apart import HeldOut
from raydistill.lessons.taught import taught
from tests import small_dataset

WORDS = [f"word{n}" for n in range(200)]


def text(start: int, length: int = 40) -> str:
    return " ".join(WORDS[start : start + length])


def test_what_is_equal_but_for_case_and_spacing_or_nearly_equal_is_found() -> None:
    held_out = HeldOut.of([text(0), text(50), "Straße 7"])
    asked = {
        text(50).upper().replace(" ", "  "): True,
        "STRASSE  7": True,
        f"{text(0)} more": True,  # one of 39 runs is new
        text(8): False,  # two thirds of the runs
        text(100): False,
    }
    assert held_out.like(list(asked)).tolist() == list(asked.values())
    assert held_out.like([f"{text(0)} more"], 0.995).tolist() == [False]


@pytest.mark.parametrize("texts", [[], [text(0), text(60)]])
def test_what_is_held_out_is_read_back_as_it_was_written(texts: list[str], tmp_path: Path) -> None:
    HeldOut.of(texts).write(tmp_path)
    assert HeldOut.read(tmp_path).like([text(60), text(9)]).tolist() == [bool(texts), False]
    assert HeldOut.read(tmp_path).like([]).tolist() == []


def test_a_made_lesson_like_a_held_out_sentence_is_not_taught_and_is_counted(
    tmp_path: Path,
) -> None:
    plain = taught(
        small_dataset.write(tmp_path / "plain"), negatives=0.5, copies=2, joined=0.4, seed=1
    )
    rows = plain.rows.to_pylist()
    copies = sorted(row["text"] for row in rows if "~" in row["id"] and "+" not in row["id"])
    assert plain.made >= len(copies) > 20
    taken = [text.upper() for text in copies[::3]]
    data = small_dataset.write(tmp_path / "dataset", held_out=taken)
    found = taught(data, negatives=0.5, copies=2, joined=0.4, seed=1)
    held_out = {text.casefold() for name in ("val", "test") for text in texts(data, name)}
    rows = found.rows.to_pylist()
    left = {row["text"].casefold() for row in rows if "~" in row["id"] or "+" in row["id"]}
    assert len(left) > 20
    assert not left & held_out
    assert found.dropped >= len(copies) // 3
    assert f"{found.dropped:,} more were dropped" in found.told()


def texts(data: small_dataset.Dataset, split: str) -> list[str]:
    return data.table(split)["text"].to_pylist()
