"""Students side by side: agreement, output tokens, sentences a second, size; and other engines.

Each extractor is trained on the same lessons for the same seconds. Larger ones would be untrained
after that: their speed alone is measured, on outputs of the length that the teacher's answers have.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raydistill import engine, gguf_form, train
from raydistill.bench import lessons
from raydistill.config import compose
from raydistill.dataset import Dataset
from raydistill.engine import Generated
from raydistill.errors import SetupError
from raydistill.frame import POINTER
from raydistill.readers import Pointers
from raydistill.student.folder import card
from raydistill.student.masters import Extractor
from raydistill.target import decoded
from raydistill.tokenizer import Encoded

_QUANTISATION = "int8"
Measured = tuple[tuple[float, float] | None, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """A student of the bench; `trained` ones get the bench's seconds, the others one step."""

    name: str
    student: str
    target: str
    trained: bool
    sentences: int


PLANS = (
    Plan("pointer_s", "pointer_s", "compact", True, 600),
    Plan("seq2seq_s", "seq2seq_s", "compact", True, 600),
    Plan("seq2seq_m", "seq2seq_m", "compact", True, 300),
    Plan("decoder_xs", "decoder_xs", "compact", True, 300),
    Plan("seq2seq_l", "seq2seq_l", "compact", False, 100),
    Plan("decoder_d8", "decoder_d8", "compact", False, 60),
    Plan("decoder_d8 json", "decoder_d8", "json", False, 24),
)


def run(root: Path, *, seconds: int = 40, threads: int = 2) -> dict[str, Any]:
    """`vs_transformers`, `vs_json_decoder`, `vs_llama_cpp` (ratios) and `students` (rows)."""
    data = lessons.made(root / "lessons")
    rows = {plan.name: _row(root, data, plan, seconds, threads) for plan in PLANS}
    best, large = rows["seq2seq_s"], rows["decoder_d8"]
    for row in rows.values():
        print(" ".join(f"{key}={_short(value)}" for key, value in row.items()), flush=True)
    rates, note = _apart(_llama_cpp, root, large["output_tokens"], threads)
    llama, alone = rates or (None, None)
    print(f"llama.cpp: {_short(llama)} sentences/s, int8 likewise {_short(alone)}: {note}")
    master = best["transformers_sentences_per_second"]
    return {
        "vs_transformers": best["sentences_per_second"] / master,
        "vs_json_decoder": best["sentences_per_second"]
        / rows["decoder_d8 json"]["sentences_per_second"],
        "vs_llama_cpp": large["sentences_per_second"] / llama if llama else None,
        "vs_llama_cpp_alone": alone / llama if llama and alone else None,
        "llama_cpp_sentences_per_second": llama,
        "llama_cpp_note": note,
        "students": list(rows.values()),
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _row(root: Path, data: Dataset, plan: Plan, seconds: int, threads: int) -> dict[str, Any]:
    out = root / plan.name.replace(" ", "_")
    steps = _trained(root, data, plan, out, seconds, threads)
    quantised = out.with_name(f"{out.name}.int8")
    engine.convert(out, quantised, quantisation=_QUANTISATION)
    master = Extractor(out, threads=threads)
    rows = data.table("test").slice(0, plan.sentences)
    texts = rows["text"].to_pylist()
    encoded = master.tokenizer.encode(texts)
    truths = [data.task.parse(a, t) for a, t in zip(rows["answer"].to_pylist(), texts, strict=True)]
    sources = [sentence.source for sentence in encoded]
    taught = [len(master.target.encode(a, s)) + 1 for a, s in zip(truths, sources, strict=True)]
    wished = None if plan.trained else round(float(np.mean(taught)))
    generator = _generator(quantised, master, wished, threads)
    asked: list[Callable[[], Any]] = [lambda: generator(encoded)]
    if plan.trained:
        asked.append(lambda: master.tokens(encoded))
    made = generator(encoded)
    spent = _in_turn(asked, 3 if plan.trained else 1)
    row: dict[str, Any] = {
        "student": plan.name,
        "target": plan.target,
        "parameters": sum(p.numel() for p in master.model.parameters()),
        "mib": (quantised / "model.bin").stat().st_size / 2**20,
        "train_steps": steps,
        "output_tokens": float(np.mean([len(answer.tokens) for answer in made])),
        "taught_tokens": float(np.mean(taught)),
        "sentences_per_second": len(made) / spent[0],
    }
    if plan.trained:
        said = [decoded(master.target, m.tokens, s) for m, s in zip(made, sources, strict=True)]
        row["agreement"] = float(np.mean([a == b for a, b in zip(said, truths, strict=True)]))
        row["transformers_sentences_per_second"] = len(encoded) / spent[1]
    return row


def _in_turn(asked: list[Callable[[], Any]], times: int) -> list[float]:
    """The median seconds of each, all of them asked in turn: what disturbs one disturbs both."""
    spent: list[list[float]] = [[] for _ in asked]
    for _ in range(times):
        for act, seconds in zip(asked, spent, strict=True):
            began = time.perf_counter()
            act()
            seconds.append(time.perf_counter() - began)
    return [float(np.median(one)) for one in spent]


def _generator(
    quantised: Path, master: Extractor, wished: int | None, threads: int
) -> Callable[[list[Encoded]], list[Generated]]:
    """The quantised student; `wished` output tokens each where it is not trained."""
    size = master.shape
    if master.card.kind == POINTER:
        student = Pointers(quantised, threads=threads, max_input=size.max_input)
        return student.asked(master.task.name, master.target)
    return engine.Generator(
        quantised,
        threads=threads,
        max_input=size.max_input,
        max_output=wished or size.max_output,
        min_output=wished or 0,
    )


def _trained(root: Path, data: Dataset, plan: Plan, out: Path, seconds: int, threads: int) -> int:
    """Trains the student for about `seconds`; gives its steps."""
    steps = 1
    overrides = [
        f"root={root}", f"dataset={data.folder}", f"student={plan.student}", f"out={out}",
        f"target={plan.target}", "workers=0", f"threads={threads}", "invented=0",
        "max_dropped=1", f"student.max_input={data.manifest['positions']}",
    ]  # fmt: skip
    if plan.target == "json":
        overrides.append("student.max_output=700")
    if plan.trained:
        trial = compose("train", train.Config, [*overrides, "fit.steps=6", "fit.log_every=1"])
        steps = max(6, int(seconds / train.step_seconds(trial)))
    elif not plan.trained:
        overrides.append("fit.batch_tokens=512")
    train.run(compose("train", train.Config, [*overrides, f"fit.steps={steps}"]))
    return steps


def _apart(act: Callable[..., Measured], *what: Any) -> Measured:
    """`act` in a process of its own: a binding built for another processor ends its process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(act, *what).result()
        except BrokenProcessPool:
            return None, "its process ended at once: was it built for this processor?"


def _llama_cpp(root: Path, tokens: float, threads: int) -> Measured:
    """Sentences a second of the depth-8 decoder under llama.cpp Q8_0, as many tokens each, and of
    the int8 engine asked likewise: one sentence after the other."""
    student = root / "decoder_d8"
    folder = root / "decoder_d8.gguf"
    shape = card(student).shape
    try:
        gguf_form.write(student, folder, "gguf_q8_0")
        generator = gguf_form.GgufGenerator(
            folder, threads=threads, max_input=shape["max_input"], max_output=round(tokens),
            min_output=round(tokens),
        )  # fmt: skip
    except SetupError as problem:
        return None, problem.found
    texts = lessons.made(root / "lessons").table("test")["text"].to_pylist()[:24]
    encoded = generator.tokenizer.encode(texts)
    ours = engine.Generator(
        root / "decoder_d8.int8", threads=threads, max_input=shape["max_input"],
        max_output=round(tokens), min_output=round(tokens),
    )  # fmt: skip
    generator(encoded[:4])
    ours(encoded[:4])
    spent = _in_turn([lambda: generator(encoded), lambda: [ours([one]) for one in encoded]], 5)
    note = "one sentence after the other, as its Python binding has it"
    return (len(texts) / spent[0], len(texts) / spent[1]), note
