"""Event types: which names are probably one, and how a merge map is read."""

from collections import Counter
from pathlib import Path

import pytest

from raydistill.errors import SetupError
from raydistill.lessons import consolidate


@pytest.mark.parametrize(
    ("rare", "frequent"),
    [
        ("auditor_dismissed", "dismissed_auditor"),
        ("dismisses_auditors", "dismissed_auditor"),
        ("dismised_auditor", "dismissed_auditor"),
        ("declared_divdiend", "declared_dividend"),
        ("declaredd_dividend", "declared_dividend"),
        ("adopted_policies", "adopted_policy"),
    ],
)
def test_near_identical_names_are_suggested_for_the_frequent_one(rare: str, frequent: str) -> None:
    found = consolidate.suggestions({frequent: 50, rare: 2, "closed_plant": 9})
    assert {old: one.new for old, one in found.items()} == {rare: frequent}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("raised_guidance", "lowered_guidance"),
        ("appointed_director", "appointed_executive"),
        ("series_1_notes", "series_2_notes"),
        ("hired", "fired"),
    ],
)
def test_different_names_are_not_suggested(one: str, other: str) -> None:
    assert consolidate.suggestions({one: 5, other: 3}) == {}


def test_a_merge_map_is_followed_to_its_end_and_circles_are_refused() -> None:
    assert consolidate.resolved({"a": "b", "b": "c"}) == {"a": "c", "b": "c"}
    with pytest.raises(SetupError, match="circle"):
        consolidate.resolved({"a": "b", "b": "a"})


def test_the_head_is_what_occurs_twice_most_frequent_first() -> None:
    assert consolidate.head({"a": 2, "b": 5, "c": 1, "d": 2}, 10) == ["b", "a", "d"]
    assert consolidate.head({"a": 2, "b": 5, "d": 2}, 1) == ["b"]


def test_types_csv_has_every_name_with_its_count_and_suggestion(tmp_path: Path) -> None:
    counts = {"event_type": Counter({"sold_assets": 3, "assets_sold": 1})}
    consolidate.write(tmp_path / "types.csv", counts, {"event_type": ["sold_assets"]})
    assert (tmp_path / "types.csv").read_text().splitlines()[1:] == [
        "event_type,sold_assets,3,0.750000,yes,,",
        "event_type,assets_sold,1,0.250000,no,sold_assets,same words",
    ]
