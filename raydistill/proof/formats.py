"""Formats: one master in every form it can be served in, side by side: size, speed, agreement."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from raydistill import engine, gguf_form
from raydistill.answer import Answer
from raydistill.engine import Generated
from raydistill.errors import AnswerError, SetupError
from raydistill.frame import Frame
from raydistill.stages.extract import Extract
from raydistill.student.folder import Card
from raydistill.student.masters import Extractor
from raydistill.target import decoded
from raydistill.task import Task
from raydistill.tokenizer import Encoded

SAFETENSORS = "safetensors"
FORMATS = (*engine.QUANTISATIONS, *gguf_form.FORMATS, SAFETENSORS)
Answers = Sequence[Answer | AnswerError]
Asked = tuple[Task, Frame]


@dataclass(frozen=True, slots=True)
class Row:
    """One form of a student. Agreements are shares, 0..1, of sentences with the same whole answer.

    Speed and agreements are null where `note` says why they were not measured. `specialist` is
    empty where a release has one student.
    """

    format: str
    mib: float
    sentences_per_second: float | None = None
    master: float | None = None
    teacher: float | None = None
    note: str = ""
    specialist: str = ""

    def passes(self, parity: float) -> bool:
        """Whether it differs from its master on at most `parity` of the sentences."""
        return self.master is not None and 1 - self.master <= parity


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One task's sentences with the teacher's answers and the master's, and how fast those were.

    `asked` is the master as it is asked for this task, `frame` what stands around its sentences.
    """

    asked: Extractor
    frame: Frame
    texts: list[str]
    teacher: Answers
    master: Answers
    master_seconds: float


def sample(
    master: Extractor, texts: list[str], answers: list[str], *, asked: Asked | None = None
) -> Sample:
    """The sample of these sentences; the master answers them here.

    `asked` is the task and frame of a student of several tasks.
    """
    task, frame = asked or (master.task, master.card.frame)
    master = master.asking(task, frame)
    teacher = [task.parse(answer, text) for answer, text in zip(answers, texts, strict=True)]
    began = time.perf_counter()
    said = master.answers(texts)
    seconds = time.perf_counter() - began
    return Sample(
        asked=master,
        frame=frame,
        texts=texts,
        teacher=teacher,
        master=said,
        master_seconds=seconds,
    )


def table(
    student: Path,
    card: Card,
    some: Sequence[Sample],
    formats: Sequence[str],
    out: Path,
    *,
    threads: int,
) -> list[Row]:
    """A row for each of `formats`, over every task's sample.

    Their files stay in folders of their names below `out`.
    """
    unknown = [one for one in formats if one not in FORMATS]
    if unknown:
        raise SetupError(
            f"publish.formats={','.join(unknown)}",
            expected=" | ".join(FORMATS),
            todo="correct formats=",
        )
    return [_row(student, card, some, one, out / one, threads) for one in formats]


def _row(
    student: Path, card: Card, some: Sequence[Sample], form: str, folder: Path, threads: int
) -> Row:
    size: dict[str, Any] = {
        "threads": threads,
        "max_input": card.shape["max_input"],
        "max_output": card.shape["max_output"],
    }
    if form == SAFETENSORS:
        _copied(student, folder)
        seconds = sum(one.master_seconds for one in some)
        return _compared(form, folder, some, [one.master for one in some], seconds)
    if form in gguf_form.FORMATS:
        file = gguf_form.write(student, folder, form)
        try:
            generator = gguf_form.GgufGenerator(folder, **size)
        except SetupError as problem:
            return Row(form, file.stat().st_size / 2**20, note=problem.found)

        def asked(one: Sample, texts: list[str]) -> Answers:
            encoded = one.asked.tokenizer.encode(texts)
            return _decoded(one.asked, encoded, generator(encoded, one.frame))

        return _timed(form, folder, some, asked)
    engine.convert(student, folder, quantisation=form)
    extract = Extract(folder, some[0].asked.task, target=card.target, **size)
    extract.tries = 1  # as the master
    stages = {one.asked.task.name: extract.asking(one.asked.task, one.frame) for one in some}

    def said(one: Sample, texts: list[str]) -> Answers:
        return [said.answer for said in stages[one.asked.task.name].answers(texts)]

    return _timed(form, folder, some, said)


def _decoded(master: Extractor, encoded: list[Encoded], made: list[Generated]) -> Answers:
    pairs = zip(encoded, made, strict=True)
    return [decoded(master.target, said.tokens, one.source) for one, said in pairs]


def _timed(
    form: str,
    folder: Path,
    some: Sequence[Sample],
    asked: Callable[[Sample, list[str]], Answers],
) -> Row:
    asked(some[0], some[0].texts[:8])
    began = time.perf_counter()
    said = [asked(one, one.texts) for one in some]
    return _compared(form, folder, some, said, time.perf_counter() - began)


def _compared(
    form: str, folder: Path, some: Sequence[Sample], answers: Sequence[Answers], seconds: float
) -> Row:
    said = list(chain.from_iterable(answers))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Row(
        form,
        size / 2**20,
        len(said) / max(1e-9, seconds),
        _same(said, list(chain.from_iterable(one.master for one in some))),
        _same(said, list(chain.from_iterable(one.teacher for one in some))),
    )


def _same(one: Answers, other: Answers) -> float:
    """The share of equal answers; errors are equal when they say the same."""
    same = [
        str(a) == str(b) if isinstance(a, AnswerError) else a == b
        for a, b in zip(one, other, strict=True)
    ]
    return sum(same) / max(1, len(same))


def _copied(student: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in student.iterdir():
        if file.is_file():
            shutil.copyfile(file, folder / file.name)


def fastest(rows: Sequence[Row], parity: float) -> str:
    """The format that a release can hold, that passes for each of its students and is fastest.

    SetupError where there is none.
    """
    held: dict[str, list[Row]] = {}
    for one in rows:
        if one.format in engine.QUANTISATIONS:
            held.setdefault(one.format, []).append(one)
    passing = [form for form, some in held.items() if all(one.passes(parity) for one in some)]
    if not passing:
        failing = [one for some in held.values() for one in some if not one.passes(parity)]
        raise SetupError(
            f"no format agrees with its master: {_differences(failing or rows)} differ",
            expected=f"at most {parity:.2%}",
            todo="add float32 to formats, or train longer",
        )
    # Each answered as many sentences: together they take the sum of each one's seconds a sentence.
    return min(passing, key=lambda form: fmean(_seconds(one) for one in held[form]))


def _seconds(one: Row) -> float:
    return 1 / max(1e-9, one.sentences_per_second or 0.0)


def _differences(rows: Sequence[Row]) -> str:
    names = [f"{one.format} of {one.specialist}" if one.specialist else one.format for one in rows]
    shares = [f"{1 - (one.master or 0):.2%}" for one in rows]
    return ", ".join(f"{name} {share}" for name, share in zip(names, shares, strict=True))


def printed(rows: Sequence[Row], parity: float) -> str:
    """The rows as a table for a terminal; a column with the specialists where there are some."""
    names = [one.specialist for one in rows if one.specialist]
    wide = max(map(len, ("specialist", *names))) + 2 if names else 0
    heading = "specialist".ljust(wide) if names else ""
    lines = [f"{heading}{'format':14}{'MiB':>9}{'sentences/s':>13}{'master':>9}{'teacher':>9}"]
    for one in rows:
        begin = f"{one.specialist.ljust(wide)}{one.format:14}{one.mib:9.1f}"
        if one.sentences_per_second is None or one.master is None or one.teacher is None:
            lines.append(f"{begin}  {one.note}")
            continue
        lines.append(
            f"{begin}{one.sentences_per_second:13,.0f}{one.master:9.1%}"
            f"{one.teacher:9.1%}{'' if one.passes(parity) else '  below the gate'}"
        )
    return "\n".join(lines)


def spec(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON; `specialist` is there where a release has several students."""
    return [
        {key: value for key, value in asdict(one).items() if key != "specialist" or value}
        for one in rows
    ]
