"""Teacher rows become clean examples: standard records, one answer a sentence, one label a text.

Rows come as Arrow tables with either a `raw` column (whatever the teacher wrote) or a column for
each field of the task. What cannot be saved carries a `code` and is kept as a reject.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as compute

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.fields import Field, Span, Text
from raydistill.lessons.teacher_answer import canonical
from raydistill.target import MAX_RECORDS
from raydistill.task import Task

pc: Any = compute
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Merge = Mapping[str, str]

RECORDS = pa.schema(
    [
        ("row", pa.int64()),  # of the table that was read
        ("record", pa.string()),  # JSON; null where the teacher found nothing, or `code` is set
        ("confidence", pa.int16()),  # null where the task has none
        ("code", pa.string()),
        ("detail", pa.string()),
    ]
)


def json_text(value: Any) -> str:
    """A value as JSON in the form that Task.render writes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def records(rows: pa.Table, task: Task, merge: Merge) -> pa.Table:
    """The records of teacher rows in standard form, as RECORDS: one or more for each row.

    `merge` renames values of the task's open vocabularies (old to new).
    """
    if "raw" in rows.column_names:
        return _of_raw(rows["raw"].to_pylist(), rows["text"].to_pylist(), task, merge)
    return _of_columns(rows, task, merge)


def _of_raw(raws: list[Any], texts: list[str], task: Task, merge: Merge) -> pa.Table:
    found: list[dict[str, Any]] = []
    for row, (raw, text) in enumerate(zip(raws, texts, strict=True)):
        try:
            answer = canonical(raw, task, text)
        except AnswerError as problem:
            found.append({"row": row, "code": problem.code, "detail": problem.detail[:200]})
            continue
        if not answer.records:
            found.append({"row": row})
        for record in answer.records:
            one = _renamed(record, task, merge)
            sure = record.get("confidence")  # a number where it is to be compared with a floor
            known = sure if isinstance(sure, int) else None
            found.append({"row": row, "record": json_text(one), "confidence": known})
    return pa.Table.from_pylist(found, schema=RECORDS)


def _renamed(record: Mapping[str, Any], task: Task, merge: Merge) -> dict[str, Any]:
    open_ = {field.name for field in task.fields if isinstance(field, Text)}
    return {k: merge.get(v, v) if k in open_ else v for k, v in record.items()}


def _of_columns(rows: pa.Table, task: Task, merge: Merge) -> pa.Table:
    """One record a row; a value is normalised once however often it occurs, spans apart."""
    count = len(rows)
    code = np.full(count, None, object)
    detail = np.full(count, None, object)
    texts = rows["text"].to_pylist()
    parts: list[Any] = []
    confidence = pa.nulls(count, pa.int16())
    for at, field in enumerate(task.fields):
        column = rows[field.name] if field.name in rows.column_names else pa.nulls(count)
        if isinstance(field, Span):
            made = [_value(field, v, t) for v, t in zip(column.to_pylist(), texts, strict=True)]
            where: Any = range(count)
        else:
            made, where = _distinct(field, column, merge)
        written = [json_text(v) for v, _ in made]
        problems = np.array([p is not None for _, p in made], np.bool_)[where]
        for row in np.flatnonzero(problems & (code == None)):  # noqa: E711
            problem = made[where[row]][1]
            code[row], detail[row] = (
                (problem.code, problem.detail[:200]) if problem else (None,) * 2
            )
        parts.append(f'{"," if at else "{"}"{field.name}":')
        parts.append(pa.array(written, pa.string()).take(pa.array(where, pa.int64())))
        if field.name == "confidence":
            known = [v if isinstance(v, int) else None for v, _ in made]
            confidence = pa.array(known, pa.int16()).take(pa.array(where, pa.int64()))
    record = pc.binary_join_element_wise(*parts, "}", "")
    bad = pa.array(code != None)  # noqa: E711
    return pa.table(
        [
            pa.array(np.arange(count)),
            pc.if_else(bad, None, record),
            confidence,
            pa.array(code, pa.string()),
            pa.array(detail, pa.string()),
        ],
        schema=RECORDS,
    )


def _value(field: Field, value: Any, text: str | None = None) -> tuple[Any, AnswerError | None]:
    try:
        return field.normalise(value, text), None
    except AnswerError as problem:
        return None, problem


def _distinct(
    field: Field, column: Any, merge: Merge
) -> tuple[list[tuple[Any, AnswerError | None]], Ints]:
    """The standard form of each distinct value of a column, and which of them each row has."""
    coded = pc.dictionary_encode(column, null_encoding="encode")
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    made = [_value(field, value) for value in coded.dictionary.to_pylist()]
    if isinstance(field, Text) and merge:
        made = [(merge.get(v, v), problem) for v, problem in made]
    return made, np.asarray(coded.indices, np.int64)


def answers(rows: pa.Table, task: Task, floor: int) -> tuple[pa.Table, pa.Table]:
    """One row for each sentence: those with a standard answer, and those rejected.

    `rows` are spilled teacher rows: `text_key id_key reading at`, RECORDS' columns, and whatever
    travels along. Adds `answer`, `keep` (it has a record) and `records`; rejected rows have `code`.
    """
    # The text, too: ids of several files may each begin at 0.
    keys = ("at", "reading", "id_key", "text_key")
    order = np.lexsort(tuple(np.asarray(rows[name]) for name in keys))
    rows = rows.take(pa.array(order)).combine_chunks()
    group = _groups(*(np.asarray(rows[name]) for name in keys[:0:-1]))
    count = int(group[-1]) + 1 if len(group) else 0
    rows, group = _unrepeated(rows, group)
    has = np.asarray(rows["record"].is_valid())
    sizes = np.bincount(group[has], minlength=count)
    joined = _joined(rows["record"].filter(pa.array(has)), sizes)
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]]) if len(rows) else group
    code, detail = _codes(rows, group, starts, sizes, task, floor)
    one = rows.take(pa.array(starts)).drop_columns(["record", "code", "detail"])
    empty = task.render(Answer()) if not task.single else ""
    form = ("", "") if task.single else (f'{{"{task.key}":[', "]}")
    answer = pc.binary_join_element_wise(form[0], joined, form[1], "")
    sure = _least(np.asarray(rows["confidence"].fill_null(99)), starts)
    columns: dict[str, Any] = {
        "answer": pc.if_else(pa.array(sizes > 0), answer, empty),
        "keep": pa.array(sizes > 0),
        "records": pa.array(sizes, pa.int16()),
        "code": code,
        "detail": detail,
    }
    one = one.set_column(
        one.schema.get_field_index("confidence"), "confidence", pa.array(sure, pa.int16())
    )
    for name, column in columns.items():
        one = one.append_column(name, column)
    bad = code.is_valid()
    raw = rows["record"].take(pa.array(starts))
    rejected = one.filter(bad)
    given = rejected["raw"] if "raw" in rejected.column_names else pa.nulls(len(rejected))
    rejected = rejected.drop_columns(["raw"] if "raw" in rejected.column_names else [])
    rejected = rejected.append_column("raw", pc.coalesce(given.cast(pa.string()), raw.filter(bad)))
    good = one.filter(pc.invert(bad)).drop_columns(["code", "detail"])
    return good.drop_columns(["raw"] if "raw" in good.column_names else []), rejected


def _least(values: Ints, starts: Ints) -> Ints:
    return np.minimum.reduceat(values, starts) if len(starts) else values


def _groups(*columns: npt.NDArray[Any]) -> Ints:
    """The number of each sorted row's group: rows with equal keys are one."""
    if not len(columns[0]):
        return np.empty(0, np.int64)
    new = np.zeros(len(columns[0]), np.bool_)
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.cumsum(new, dtype=np.int64)


def _unrepeated(rows: pa.Table, group: Ints) -> tuple[pa.Table, Ints]:
    """The rows without records that their sentence has already."""
    coded = pc.dictionary_encode(rows["record"], null_encoding="encode").combine_chunks()
    pair = group * (len(coded.dictionary) + 1) + np.asarray(coded.indices, np.int64)
    # Rows with a code all have a null record: the first code of a sentence is the one that counts.
    code = np.asarray(rows["code"].is_valid())
    pair = np.where(code, -1 - np.arange(len(pair)), pair)
    _, kept = np.unique(pair, return_index=True)
    kept = np.sort(kept)
    return rows.take(pa.array(kept)), group[kept]


def _joined(texts: Any, sizes: Ints) -> Any:
    """The records of each sentence, with commas between."""
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    offsets = pa.array(np.r_[0, np.cumsum(sizes)].astype(np.int32))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, texts), ",")


def _codes(
    rows: pa.Table, group: Ints, starts: Ints, sizes: Ints, task: Task, floor: int
) -> tuple[Any, Any]:
    """Why each sentence is rejected (null: it is not), and the detail."""
    code = np.full(len(starts), None, object)
    detail = np.full(len(starts), None, object)
    sure = _least(np.asarray(rows["confidence"].fill_null(99)), starts)
    low = (sure < floor) & (sizes > 0)
    code[low] = "low_confidence"
    code[sizes > MAX_RECORDS] = "too_many_records"
    if task.single:
        code[sizes != 1] = "wrong_count"
    own = rows["code"].to_pylist()
    for row in reversed(np.flatnonzero(np.asarray(rows["code"].is_valid())).tolist()):
        code[group[row]], detail[group[row]] = own[row], rows["detail"][row].as_py()
    return pa.array(code, pa.string()), pa.array(detail, pa.string())


def voted(rows: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """One row for each text: the label most of its copies have, and what was said otherwise.

    First whether there is an event (a tie: yes), then which answer; the more confident, then the
    alphabetically first breaks a tie. `rows` have `text_key share answer keep copies confidence
    filing_key filings`; adds `weight` (copies with the label), `against` (copies with another) and
    `repeats` (filings with the text).
    """
    if not len(rows):
        return _with(rows, np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)), {}
    coded = pc.dictionary_encode(rows["answer"]).combine_chunks()
    rank = np.empty(len(coded.dictionary), np.int64)
    rank[np.asarray(pc.sort_indices(coded.dictionary))] = np.arange(len(rank))
    answer = rank[np.asarray(coded.indices)]
    text = np.unique(np.asarray(rows["text_key"]), return_inverse=True)[1]
    copies = np.asarray(rows["copies"], np.int64)
    keep = np.asarray(rows["keep"])
    total = np.bincount(text, copies)
    event = 2 * np.bincount(text, copies * keep) >= total
    pair = text * len(rank) + answer
    _, pair = np.unique(pair, return_inverse=True)
    votes = np.bincount(pair, copies)
    sure = np.bincount(pair, np.minimum(np.asarray(rows["confidence"]), 11) * copies)
    right = keep == event[text]
    order = np.lexsort((np.asarray(rows["share"]), answer, -sure[pair], -votes[pair], ~right, text))
    first = order[np.r_[True, text[order][1:] != text[order][:-1]]]
    chosen, which = rows.take(pa.array(first)), text[first]
    against = (total[which] - votes[pair[first]]).astype(np.int64)
    nots = np.bincount(text, copies * ~keep)
    counts = {
        "duplicates": int(total.sum() - len(first)),
        "contradictory_texts": int((against > 0).sum()),
        "contradictory_event_or_not": int(((nots > 0) & (nots < total)).sum()),
        "outvoted_rows": int(against.sum()),
    }
    return _with(chosen, votes[pair[first]], against, _filings(rows, text)[which]), counts


def _filings(rows: pa.Table, text: Ints) -> Ints:
    """In how many filings each text stands."""
    filing = np.asarray(rows["filing_key"])
    order = np.lexsort((filing, text))
    text_too, filing_too = text[order], filing[order]
    new = np.r_[True, (text_too[1:] != text_too[:-1]) | (filing_too[1:] != filing_too[:-1])]
    # A row that stands for several filings counts them all.
    counts = np.where(new, np.asarray(rows["filings"], np.int64)[order], 0)
    return np.bincount(text_too, counts).astype(np.int64)


def _with(rows: pa.Table, votes: Any, against: Any, repeats: Any) -> pa.Table:
    for name, values, kind in (
        ("weight", votes, pa.float32()),
        ("against", against, pa.int32()),
        ("repeats", repeats, pa.int32()),
    ):
        rows = rows.append_column(name, pa.array(np.asarray(values), kind))
    return rows


def first_values(answers: Sequence[str], task: Task) -> dict[str, list[str]]:
    """The values of each open vocabulary in these answers (JSON), with repeats."""
    names = [field.name for field in task.fields if isinstance(field, Text)]
    found: dict[str, list[str]] = {name: [] for name in names}
    for text in answers:
        for record in standard(text, task):
            for name in names:
                found[name].append(str(record[name]))
    return found


def standard(answer: str, task: Task) -> list[dict[str, Any]]:
    """The records of an answer that is in standard form: ten times sooner than Task.parse."""
    value = json.loads(answer)
    return [value] if task.single else value.get(task.key, [])
