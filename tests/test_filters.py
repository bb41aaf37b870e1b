import json

import pyarrow as pa
import pytest

from raydistill.chunk import SENTENCES
from raydistill.errors import SetupError
from raydistill.stages import filters
from raydistill.stages.filters import Filters, Redaction


def _batch(*texts):
    rows = [{"filing_id": "f", "id": str(n), "text": text} for n, text in enumerate(texts)]
    return pa.Table.from_pylist(rows, schema=SENTENCES)


def test_a_denied_sentence_loses_its_text_and_says_why():
    out = Filters(deny=(r"(?i)\bsocial security\b",))(_batch("A Social Security number.", "Fine."))
    assert out["text"].to_pylist() == [None, "Fine."]
    assert out["error"].to_pylist() == ["denied", None]
    assert out.schema == SENTENCES


def test_a_redaction_keeps_length_so_that_offsets_stay_right():
    text = "Call 212-555-0100, Müller said."
    out = Filters(redact=(Redaction(r"\d{3}-\d{3}-\d{4}", "x"),))(_batch(text, "Nothing."))
    assert out["text"].to_pylist() == ["Call xxxxxxxxxxxx, Müller said.", "Nothing."]
    assert out["text"][0].as_py().index("Müller") == text.index("Müller")


def test_markers_and_failed_rows_pass_as_they_are():
    batch = pa.Table.from_pylist(
        [{"filing_id": "f"}, {"filing_id": "f", "id": "1", "error": "nul_byte"}], schema=SENTENCES
    )
    rules = Filters(deny=("a",), redact=(Redaction("b"),))
    assert rules(batch).to_pylist() == batch.to_pylist()
    assert len(rules(batch.slice(0, 0))) == 0


@pytest.mark.parametrize(
    "value",
    ['{"deny": ["("]}', '{"deny": ["(?=a)b"]}', '{"deny": [".*"]}', '{"allow": []}', "nonsense",
     '{"redact": [{"pattern": "a", "mark": "xx"}]}', '{"redact": [{"regex": "a"}]}'],
)  # fmt: skip
def test_a_file_that_is_not_filters_is_refused(tmp_path, value):
    file = tmp_path / "filters.json"
    file.write_text(value)
    with pytest.raises(SetupError):
        filters.read(file)


def test_a_release_without_filters_has_none_and_one_with_them_applies_them(tmp_path):
    assert filters.of(tmp_path) == Filters()
    rules = {"deny": ["secret"], "redact": [{"pattern": "[0-9]+"}]}
    (tmp_path / "filters.json").write_text(json.dumps(rules))
    out = filters.of(tmp_path)(_batch("a secret", "in 2020"))
    assert out["text"].to_pylist() == [None, "in ████"]
