"""Teacher answers: what large models really write, brought to the one standard answer of a task.

Strict JSON is read as it is. Only where that fails are thoughts, fences and prose taken away, and
what is left read as Python or repaired. Nothing is guessed: a text without JSON is no answer, and
one that was cut off is not completed.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.fields import is_null
from raydistill.task import Task

MAX_CHARACTERS = 200_000
MAX_REPAIR = 8_000  # characters; 16 records are 6,000, and 40,000 odd quotes took 90 s to repair
_MAX_DEPTH = 8
_THINK = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_LANGUAGE = re.compile(r"[\w-]*")
_START = re.compile(r"""\{(?!\s*\w+\s*\})|\[(?=\s*[\[{"'\]])""")  # "[1]" and "{name}" are prose
_YES, _NO = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})

Object = dict[str, Any]


def canonical(raw: Any, task: Task, text: str | None = None) -> Answer:
    """The standard answer of whatever a teacher wrote; `text` is the sentence, for its spans.

    `raw` is a text or a parsed JSON value. Raises AnswerError: `no_json`, `cut_short`, `too_long`,
    `wrong_shape`, `contradictory_skip`, or the code of a record's first wrong value.
    """
    if raw is None:
        raise AnswerError("no_json", "no answer")
    return task.answer(list(_records(raw, task, 0)), text)


def _records(value: Any, task: Task, depth: int) -> list[Object]:
    """The loose records of a value, by field name."""
    if depth > _MAX_DEPTH:
        raise AnswerError("wrong_shape", "nested too deep")
    if isinstance(value, str):
        return _records(_parsed(value, task), task, depth + 1)
    if isinstance(value, Mapping):
        return _of_object({str(key): one for key, one in value.items()}, task, depth)
    if isinstance(value, list | tuple):
        return _of_list(value, task, depth)
    raise AnswerError("wrong_shape", f"{type(value).__name__} instead of {task.key}")


def _of_object(value: Object, task: Task, depth: int) -> list[Object]:
    keys: Object = {}
    for key, one in value.items():
        keys.setdefault(_bare(key), one)
    record = _record(keys, task)
    skip = _skip(keys.get("skip"))
    held = _held(keys, task)
    found = _records(held[0], task, depth + 1) if held and held[0] is not None else []
    said = bool(found) or (record is not None and not _is_null(record.get(task.fields[0].name)))
    if (skip and said) or (skip is False and held and not said):
        raise AnswerError("contradictory_skip", f"skip is {skip} with {len(found)} {task.key}")
    if skip or held:
        return found
    if record:
        return [record]
    # {"answer": {...}}, {"event_1": {...}, "event_2": {...}} or {"id": 7, "result": [...]}
    nested = [one for one in value.values() if _holds_json(one)]
    if nested and len(nested) in (1, len(value)):
        return [one for part in nested for one in _records(part, task, depth + 1)]
    raise AnswerError("wrong_shape", f"no {task.key} in {{{', '.join(value)[:80]}}}")


def _of_list(values: Sequence[Any], task: Task, depth: int) -> list[Object]:
    if values and not any(_holds_json(one) for one in values):
        if len(values) != len(task.fields):
            detail = f"{len(values)} values for {len(task.fields)} fields"
            raise AnswerError("wrong_shape", detail)
        return [{f.name: one for f, one in zip(task.fields, values, strict=True)}]
    parts = [_records(one, task, depth + 1) for one in values]
    if any(parts) and not all(parts):
        raise AnswerError("contradictory_skip", f"a skip among {task.key}")
    return [one for part in parts for one in part]


def _record(keys: Object, task: Task) -> Object | None:
    """The object as a record, or None where none of its keys is a field."""
    found = {f.name: keys[_bare(f.name)] for f in task.fields if _bare(f.name) in keys}
    return {name: _alone(one) for name, one in found.items()} or None


def _alone(value: Any) -> Any:
    """The value of a list of one; null for an empty list."""
    if isinstance(value, list) and len(value) < 2:
        return value[0] if value else None
    return value


def _held(keys: Object, task: Task) -> list[Any]:
    """What stands under the task's key: `events`, `event`, or `e` as in compact guidelines."""
    key = _bare(task.key)
    for name in (key, key.removesuffix("s"), key[0]):
        if name in keys and (_holds_json(keys[name]) or (name == key and keys[name] is None)):
            return [keys[name]]
    return []


def _holds_json(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip()[:1] in ("{", "[") and _START.match(value.lstrip()) is not None
    return isinstance(value, Mapping | list | tuple)


def _skip(value: Any) -> bool | None:
    if _is_null(value):
        return None
    written = str(value).strip().casefold()
    if written in _YES or written in _NO:
        return written in _YES
    raise AnswerError("wrong_type", f"skip={written[:80]!r}")


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, str) and is_null(value))


@lru_cache(4096)
def _bare(key: str) -> str:
    """A key without its style: eventType, Event Type and event_type are one."""
    return re.sub(r"[\W_]+", "", key).casefold()


def _parsed(text: str, task: Task) -> Any:
    """The JSON value in a text, however it is wrapped."""
    if len(text) > MAX_CHARACTERS:
        raise AnswerError("too_long", f"{len(text)} characters")
    text = text.strip("\ufeff \t\r\n")
    found = list(_strict(text))
    if found:
        return found[0]
    text = _thoughtless(text)
    fences = [_LANGUAGE.sub("", block, count=1) for block in text.split("```")[1::2]]
    fences = [block for block in fences if _START.search(block)]
    for block in reversed(fences):  # the last is the final one
        for value in _strict(block):
            return value
    return _embedded(fences[-1] if fences else text, task)


def _thoughtless(text: str) -> str:
    """What follows the last thought; thoughts that never end have no answer behind them."""
    for end in _THOUGHT.finditer(text):
        text = end.string[end.end() :]
    begin = _THINK.search(text)
    return text[: begin.start()] if begin else text


def _strict(text: str) -> Iterator[Any]:
    """The value of a strict JSON text, or nothing."""
    try:
        yield json.loads(text)
    except (ValueError, RecursionError):
        return


def _embedded(text: str, task: Task) -> Any:
    """The JSON values that stand in prose; one broken value and all after it is repaired whole.

    Parts inside a broken value are never read alone: that would drop its other records.
    """
    values: list[Any] = []
    start = _START.search(text)
    while start:
        try:
            value, end = json.JSONDecoder().raw_decode(text, start.start())
        except (ValueError, RecursionError):
            values.append(_repaired(text[start.start() :]))
            break
        values.append(value)
        start = _START.search(text, end)
    if not values:
        raise AnswerError("no_json", text[:80])
    # One record a line, as in JSON lines; otherwise drafts, of which the last counts.
    lines = [one for one in values if isinstance(one, dict) and _is_record(one, task)]
    return lines if len(lines) == len(values) > 1 else values[-1]


def _is_record(value: Object, task: Task) -> bool:
    keys = {_bare(str(key)): one for key, one in value.items()}
    return _record(keys, task) is not None and not _held(keys, task)


def _repaired(text: str) -> Any:
    """The value that begins `text`, read as Python or mended; AnswerError where it was cut off."""
    from json_repair import loads

    last = max(text.rfind("}"), text.rfind("]"))
    rest = text[last + 1 :].lstrip()
    if last < 0 or rest[:1] in (",", ":") or _START.search(rest):
        raise AnswerError("cut_short", text[-80:])
    whole = text[: last + 1]
    if len(whole) > MAX_REPAIR:
        raise AnswerError("too_long", f"{len(whole)} characters to repair")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a text is no concern of ours
            return ast.literal_eval(whole)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    if whole[1:].lstrip().startswith('\\"'):  # a JSON text that was escaped without its quotes
        whole = whole.replace('\\"', '"')
    try:
        value = loads(whole)
    except (ValueError, RecursionError):
        value = ""
    if not isinstance(value, dict | list) or not value:
        raise AnswerError("no_json", whole[:80])
    return value
