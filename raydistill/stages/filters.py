"""Filters: the teacher's safety rules, carried in the release and applied before any other stage.

filters.json: {"deny": ["pattern", ...], "redact": [{"pattern": "...", "mark": "x"}, ...]}. A denied
sentence is answered by nobody: it loses its text and becomes a dead letter. A redaction replaces
every character of a match, so that offsets into the sentence stay right.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute

from raydistill.errors import SetupError

FILE = "filters.json"
DENIED = "denied"
pc: Any = compute


@dataclass(frozen=True, slots=True)
class Redaction:
    """A pattern whose matches are overwritten, character by character, with `mark`."""

    pattern: str
    mark: str = "█"

    def __call__(self, text: str) -> str:
        """The text with every match overwritten; its length stays."""
        return re.sub(self.pattern, lambda found: self.mark * len(found.group()), text)


@dataclass(frozen=True, slots=True)
class Filters:
    """Deny rules and redactions, as a stage. Patterns are in the syntax of RE2."""

    deny: tuple[str, ...] = ()
    redact: tuple[Redaction, ...] = field(default=())

    def __post_init__(self) -> None:
        for pattern in (*self.deny, *(one.pattern for one in self.redact)):
            _check(pattern)
        for one in self.redact:
            if len(one.mark) != 1:
                raise SetupError(f"filters: mark {one.mark!r}", expected="one character")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The same rows; denied ones without text and with `denied` as their error."""
        if not (self.deny or self.redact):
            return batch
        text, error = batch.column("text"), batch.column("error")
        for pattern in self.deny:
            hit = pc.fill_null(pc.match_substring_regex(text, pattern), False)
            error = pc.if_else(pc.and_(hit, pc.is_null(error)), DENIED, error)
            text = pc.if_else(hit, pa.scalar(None, pa.string()), text)
        for one in self.redact:
            hit = pc.fill_null(pc.match_substring_regex(text, one.pattern), False)
            if pc.any(hit).as_py():  # rare: the fast engine finds the rows, Python's keeps lengths
                some = [one(value) for value in text.filter(hit).to_pylist()]
                mask = pa.chunked_array([hit]) if isinstance(hit, pa.Array) else hit
                text = pc.replace_with_mask(
                    text.combine_chunks(), mask.combine_chunks(), pa.array(some, pa.string())
                )
        for name, column in (("text", text), ("error", error)):
            batch = batch.set_column(batch.schema.get_field_index(name), name, column)
        return batch


def of(folder: Path) -> Filters:
    """The filters of a release's folder; none where it carries none."""
    file = folder / FILE
    return read(file) if file.is_file() else Filters()


def read(file: Path) -> Filters:
    """The filters of a JSON file. Raises SetupError where it is not as described above."""
    expected = '{"deny": ["pattern"], "redact": [{"pattern": "...", "mark": "x"}]}'
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        unknown = set(value) - {"deny", "redact"}
        if unknown:
            raise SetupError(f"{file}: unknown {sorted(unknown)}", expected=expected)
        return Filters(
            tuple(value.get("deny", ())), tuple(Redaction(**one) for one in value.get("redact", ()))
        )
    except (OSError, ValueError, TypeError, AttributeError) as problem:
        raise SetupError(f"{file}: {problem}", expected=expected) from None


def _check(pattern: str) -> None:
    try:
        if re.compile(pattern).match(""):
            raise SetupError(f"filters: {pattern!r} matches everything", todo="narrow the pattern")
        pc.match_substring_regex(pa.array(["x"]), pattern)
    except (re.error, TypeError, pa.ArrowInvalid) as problem:
        raise SetupError(
            f"filters: {pattern!r} is no pattern: {problem}",
            expected="a regular expression without look-around or back-references",
        ) from None
