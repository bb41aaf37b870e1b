"""Which of the measured formats a release takes, and how they are told."""

import pytest

from raydistill.errors import SetupError
from raydistill.proof import formats
from raydistill.proof.formats import Row


def _row(specialist: str, form: str, speed: float, master: float) -> Row:
    return Row(form, 1.0, speed, master, 0.5, specialist=specialist)


def test_a_format_passes_where_every_specialist_does_and_is_as_fast_as_all_together():
    rows = [
        _row("people", "int8", 900.0, 1.0), _row("people", "int16", 100.0, 1.0),
        _row("people", "float32", 30.0, 1.0),
        _row("rest", "int8", 900.0, 0.9), _row("rest", "int16", 10.0, 1.0),
        _row("rest", "float32", 30.0, 1.0),
    ]  # fmt: skip
    assert formats.fastest(rows, 0.2) == "int8"
    assert formats.fastest(rows, 0.01) == "float32"


def test_where_no_format_passes_for_all_the_message_names_who_fails_in_which():
    rows = [
        _row("people", "int8", 9.0, 1.0), _row("people", "int16", 9.0, 0.5),
        _row("rest", "int8", 9.0, 0.75), _row("rest", "int16", 9.0, 1.0),
    ]  # fmt: skip
    with pytest.raises(SetupError) as refused:
        formats.fastest(rows, 0.01)
    assert "its master: int8 of rest 25.00%, int16 of people 50.00% differ" in str(refused.value)


def test_specialists_are_a_column_where_there_are_some_and_nothing_elsewhere():
    several = [_row("people", "int8", 9.0, 1.0), _row("a_very_long_name", "int8", 9.0, 0.5)]
    heading, first, second = formats.printed(several, 0.01).splitlines()
    assert heading.startswith("specialist        format  ")
    assert first.startswith("people            int8  ")
    assert second.startswith("a_very_long_name  int8  ")
    assert second.endswith("below the gate")
    assert [row["specialist"] for row in formats.spec(several)] == ["people", "a_very_long_name"]
    one = [Row("int8", 1.0, 9.0, 1.0, 0.5), Row("gguf_q8_0", 2.0, note="no llama.cpp")]
    assert formats.printed(one, 0.01) == (
        "format              MiB  sentences/s   master  teacher\n"
        "int8                1.0            9   100.0%    50.0%\n"
        "gguf_q8_0           2.0  no llama.cpp"
    )
    assert list(formats.spec(one)[0]) == [
        "format", "mib", "sentences_per_second", "master", "teacher", "note",
    ]  # fmt: skip
