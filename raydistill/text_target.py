"""Targets as plain text, for pretrained decoders and for comparison with the compact target."""

import re
from collections.abc import Callable, Sequence

from raydistill.answer import Answer, Record, located
from raydistill.errors import AnswerError
from raydistill.fields import Field
from raydistill.target import MAX_RECORDS, Source, Spell, Unspell

_ESCAPES = {"\\": "\\\\", "|": "\\p", "\n": "\\n", "~": "\\t", "\r": "\\r"}
_PLAIN = {escaped[1]: plain for plain, escaped in _ESCAPES.items()}
_ESCAPED = re.compile(r"\\(.)")
_NONE = "~~"  # no record: "~" is one null, and a value's own "~" is escaped


class JsonTarget:
    """The task's own JSON form, spelled out."""

    def __init__(
        self,
        render: Callable[[Answer], str],
        parse: Callable[[str, str | None], Answer],
        *,
        spell: Spell,
        unspell: Unspell,
    ) -> None:
        self.render, self.parse, self.spell, self.unspell = render, parse, spell, unspell

    def tokens(self) -> list[str]:
        return []

    def encode(self, answer: Answer, source: Source) -> list[str]:
        return self.spell(self.render(answer))

    def decode(self, tokens: Sequence[str], source: Source) -> Answer:
        return self.parse(self.unspell(tokens).strip(), source.text)


class LiteralTarget:
    """One line a record, values by `|` in field order, `~` for null: a third of JSON's tokens."""

    def __init__(self, fields: tuple[Field, ...], *, spell: Spell, unspell: Unspell) -> None:
        self.fields, self.spell, self.unspell = fields, spell, unspell

    def tokens(self) -> list[str]:
        return []

    def encode(self, answer: Answer, source: Source) -> list[str]:
        lines = ["|".join(_written(one[f.name]) for f in self.fields) for one in answer.records]
        return self.spell("\n".join(lines) if lines else _NONE)

    def decode(self, tokens: Sequence[str], source: Source) -> Answer:
        text = self.unspell(tokens).strip(" ")
        if text == _NONE:
            return Answer()
        lines = text.split("\n")
        if len(lines) > MAX_RECORDS:
            raise AnswerError("too_many_records", f"more than {MAX_RECORDS}")
        records: list[Record] = []
        for line in lines:
            record = self._record(line, source)
            if record not in records:
                records.append(record)
        return located(records, self.fields, source.text)

    def _record(self, line: str, source: Source) -> Record:
        parts = line.split("|")
        if len(parts) != len(self.fields):
            raise AnswerError("wrong_count", f"{len(parts)} values for {len(self.fields)} fields")
        return {
            field.name: field.normalise(None if part == "~" else _read(part))
            for field, part in zip(self.fields, parts, strict=True)
        }


def _written(value: str | int | None) -> str:
    return "~" if value is None else "".join(_ESCAPES.get(c, c) for c in str(value))


def _read(part: str) -> str:
    return _ESCAPED.sub(lambda found: _PLAIN.get(found.group(1), found.group(1)), part)
