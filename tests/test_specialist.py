"""Specialists: a dataset narrowed to some event types, for training, publishing and evaluation."""

import pytest

from raydistill import dataset
from raydistill.errors import SetupError
from raydistill.questions import lessons
from raydistill.tasks import TASKS
from tests import small_dataset


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return small_dataset.write(tmp_path_factory.mktemp("specialist") / "dataset")


def _types(table):
    return [one["event_type"] for a in table["answer"].to_pylist() for one in small_dataset.told(a)]


def test_a_specialists_rows_hold_its_own_event_types_alone(whole):
    some = sorted(set(_types(whole.table("train"))))[:3]
    part = dataset.open_(whole.folder, only=some)
    table = part.table("train")
    assert set(_types(table)) == set(some)
    assert len(table) == len(whole.table("train"))
    assert table.schema == whole.table("train").schema
    assert [bool(small_dataset.told(a)) for a in table["answer"].to_pylist()] == table[
        "keep"
    ].to_pylist()
    assert _types(table) == [one for one in _types(whole.table("train")) if one in some]


def test_a_specialist_is_not_mistaken_for_a_student_of_the_whole_dataset(whole):
    some = sorted(set(_types(whole.table("train"))))[:2]
    one, other = dataset.open_(whole.folder, only=some), dataset.open_(whole.folder, only=some[:1])
    assert len({whole.fingerprint, one.fingerprint, other.fingerprint}) == 3
    assert one.fingerprint == dataset.open_(whole.folder, only=some[::-1]).fingerprint


def test_values_that_the_dataset_does_not_hold_are_refused_with_near_ones(tmp_path):
    rows = [
        {"id": str(at), "group": "x", "task": "query_kind", "text": f"Which {at}?", "at": at,
         "answer": '{"kind":"list"}'} for at in range(3)
    ]  # fmt: skip
    made = lessons.build(
        rows, [TASKS["query_kind"]], tmp_path / "d",
        split=lambda group: "train", vocabulary=300, positions=16, seed=0,
    )  # fmt: skip
    with pytest.raises(SetupError, match="did you mean list"):
        dataset.open_(made.folder, only=["lists"])
    assert dataset.open_(made.folder, only=["list"]).table("train").num_rows == 3
