import json

import pytest

from raydistill import curve
from raydistill.errors import SetupError
from raydistill.student.fit import FitConfig
from raydistill.student.shape import Kind, Shape
from tests.tiny import MAX_INPUT, MAX_OUTPUT


def _config(tiny, out, **changes):
    student = Shape(
        kind=Kind.seq2seq, width=32, layers=1, decoder_layers=1, heads=2,
        max_input=MAX_INPUT, max_output=MAX_OUTPUT,
    )  # fmt: skip
    settings = {"shares": [1.0, 0.3], "test_rows": 60, "draws": 100, "workers": 0, "threads": 1}
    return curve.Config(
        dataset=str(tiny.dataset.folder), out=str(out), student=student, max_dropped=1.0,
        fit=FitConfig(steps=6, batch_tokens=1000, bf16=False), **settings | changes,
    )  # fmt: skip


def test_a_smaller_share_of_companies_lies_within_a_larger(tiny, tmp_path):
    small, large = (curve.subset(tiny.dataset, tmp_path / str(s), s, 0) for s in (0.3, 0.7))
    groups = [set(one.table("train")["group"].to_pylist()) for one in (small, large)]
    assert groups[0] < groups[1]
    assert small.manifest["counts"]["train"]["companies"] == len(groups[0])
    assert small.table("test").equals(tiny.dataset.table("test"))
    assert small.fingerprint != large.fingerprint


def test_a_curve_has_a_student_and_a_point_a_share_with_intervals(tiny, tmp_path):
    points = curve.run(_config(tiny, tmp_path))
    assert [one["share"] for one in points] == [0.3, 1.0]
    assert points[0]["rows"] < points[1]["rows"] == len(tiny.dataset.table("train"))
    for one in points:
        assert one["agreement"]["low"] <= one["agreement"]["value"] <= one["agreement"]["high"]
    assert json.loads((tmp_path / "curve.json").read_text())["points"] == points
    assert "Would more labels help?" in (tmp_path / "curve.html").read_text()


def test_shares_and_students_that_make_no_curve_are_refused(tiny, tmp_path):
    with pytest.raises(SetupError, match="shares"):
        _config(tiny, tmp_path, shares=[0.0])
