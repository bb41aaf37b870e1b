"""Every family of students: trained a few steps, exported, and answering as its master does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from raydistill import engine, readers, train
from raydistill.answer import Answer
from raydistill.errors import SetupError
from raydistill.frame import DECODER, POINTER, scratch
from raydistill.readers import Pointers, SkipScorer
from raydistill.slots import in_turn
from raydistill.stages.extract import Extract
from raydistill.student import folder as students
from raydistill.student.decoder import DecoderLearner
from raydistill.student.examples import Examples, Ragged
from raydistill.student.fit import FitConfig, fit
from raydistill.student.lora import LoraConfig
from raydistill.student.masters import Extractor, Skip
from raydistill.student.optimise import Optimiser
from raydistill.student.pointer import Pointed, PointingLearner, pointing, untrained
from raydistill.student.shape import Kind, Shape, model
from raydistill.tasks import TASKS
from raydistill.tokenizer import Tokenizer
from tests import bases
from tests.fix_tiny import Tiny

GENTLE = {"optimiser": Optimiser.adamw, "adamw_rate": 1e-3}
FIT = {"steps": 3, "batch_tokens": 800, "bf16": False, "log_every": 1, "warmup": 1}


def _trained(tiny: Tiny, out: Path, shape: Shape, **settings) -> Path:
    fit = FitConfig(**FIT | settings.pop("fit", {}))
    config = train.Config(
        dataset=str(tiny.dataset.folder), out=str(out), student=shape, fit=fit,
        workers=0, threads=1, negatives=0.1, **settings,
    )  # fmt: skip
    return train.run(config)


def _answers_as_its_master(tiny: Tiny, student: Path, tmp_path: Path) -> None:
    """The exported student's tokens and scores on a few sentences are those of the master."""
    engine.convert(student, tmp_path / "engine", quantisation="float32")
    card = students.card(student)
    stage = Extract(
        tmp_path / "engine", tiny.dataset.task, target=card.target, threads=1,
        max_input=card.shape["max_input"], max_output=card.shape["max_output"],
    )  # fmt: skip
    texts = tiny.dataset.table("val")["text"].to_pylist()[:12]
    encoded = stage.tokenizer.encode(texts)
    master = Extractor(student)
    expected = master.tokens(encoded)
    made = stage.generator(encoded)
    assert [one.tokens for one in made] == expected
    assert any(expected)
    limit = card.shape["max_output"]
    for one, said in list(zip(encoded, made, strict=True))[:3]:
        ended = [stage.tokenizer.id(one) for one in said.tokens]
        ended += [] if len(ended) == limit else [stage.tokenizer.id(card.frame.end)]
        assert said.score == pytest.approx(_score(master, one.ids, ended), rel=1e-3, abs=1e-3)
    assert all(one.answer is not None for one in stage.answers(texts))


def _score(master: Extractor, ids: list[int], answer: list[int]) -> float:
    """The logarithm of the probability that the master gives to an answer."""
    writer = master.writer
    prompt = [*writer.before, *ids, *writer.after]
    with torch.inference_mode():
        if writer.frame.kind == DECODER:
            logits = writer.model(input_ids=torch.tensor([prompt + answer])).logits[0]
            logits = logits[len(prompt) - 1 : -1]
        else:
            made = writer.model(input_ids=torch.tensor([prompt]), labels=torch.tensor([answer]))
            logits = made.logits[0]
    chosen = logits.float().log_softmax(-1).gather(1, torch.tensor(answer)[:, None])
    return float(chosen.sum())


def test_a_decoder_from_scratch_answers_as_its_master_does(tiny: Tiny, tmp_path: Path) -> None:
    shape = Shape(kind=Kind.decoder, depth=1, max_input=96, max_output=24)
    assert (shape.width, shape.layers, shape.heads) == (64, 1, 1)
    student = _trained(tiny, tmp_path / "student", shape, max_dropped=1.0)
    _answers_as_its_master(tiny, student, tmp_path)


CAUSAL = ("llama", "mistral", "qwen2", "phi3", "gemma")
SEQ2SEQ = ("t5", "flan_t5", "bart")


def _base(tiny: Tiny, folder: Path, form: str) -> str:
    return str(bases.made(folder, form, tiny.dataset.table("train")["text"].to_pylist()[:200]))


@pytest.mark.parametrize("form", [*CAUSAL, *SEQ2SEQ])
def test_a_pretrained_student_answers_as_its_master_does(
    tiny: Tiny, tmp_path: Path, form: str
) -> None:
    kind = Kind.decoder if form in CAUSAL else Kind.seq2seq
    base = _base(tiny, tmp_path / "base", form)
    shape = Shape(kind=kind, base=base, max_input=160, max_output=24)
    student = _trained(tiny, tmp_path / "student", shape, max_dropped=1.0, fit=GENTLE)
    frame = students.card(student).frame
    assert frame.positions == (None if form == "bart" else 0)
    _answers_as_its_master(tiny, student, tmp_path)


def test_a_pretrained_encoder_skips_as_its_master_does(tiny: Tiny, tmp_path: Path) -> None:
    base = _base(tiny, tmp_path / "base", "bert")
    shape = Shape(kind=Kind.encoder, base=base, max_input=32)
    student = _trained(tiny, tmp_path / "student", shape, max_cut=1.0, fit=GENTLE)
    assert students.card(student).frame.before == ("[CLS]",)
    engine.convert(student, tmp_path / "engine", quantisation="float32")
    texts = tiny.dataset.table("val")["text"].to_pylist()[:20]
    scorer = SkipScorer(tmp_path / "engine", threads=1, max_input=32, threshold=0.5)
    made = scorer(Tokenizer.load(tmp_path / "engine").batch_ids(texts))
    assert made.tolist() == pytest.approx(Skip(student).scores(texts), abs=1e-4)


@pytest.mark.parametrize("form", ["", "bert"])
def test_a_pointer_student_answers_as_its_master_does(
    tiny: Tiny, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = _base(tiny, tmp_path / "base", form) if form else ""
    shape = Shape(
        kind=Kind.pointer, base=base, width=32, layers=1, heads=2, max_input=96, records=2
    )
    student = _trained(tiny, tmp_path / "student", shape, max_dropped=1.0, fit=GENTLE)
    assert students.card(student).frame.before == (("[CLS]",) if form else ())
    engine.convert(student, tmp_path / "engine", quantisation="float32")
    stage = Extract(
        tmp_path / "engine", tiny.dataset.task, target="compact", threads=2, max_input=96,
        max_output=1,
    )  # fmt: skip
    texts = tiny.dataset.table("val")["text"].to_pylist()[:40]
    encoded = [one for one in stage.tokenizer.encode(texts) if len(one.ids) <= stage.limit]
    made = stage.generator(encoded)
    assert [one.tokens for one in made] == Extractor(student).tokens(encoded)
    assert all(one.score < 0 for one in made)
    alone = [stage.generator([one])[0].tokens for one in encoded]
    assert [one.tokens for one in made] == alone
    engine.convert(student, tmp_path / "int8")
    small = Pointers(tmp_path / "int8", threads=2, max_input=96)
    small = small.asked(tiny.dataset.task.name, stage.target)
    alone = [small([one])[0].tokens for one in encoded]
    monkeypatch.setattr(readers, "_TOGETHER", 100)  # chosen while others are still read
    for least in (1, 10**6):  # in batches of one length, and of several
        monkeypatch.setattr(engine, "LEAST", least)
        assert [one.tokens for one in small(encoded)] == alone
    said = stage.answers(texts)
    assert all(isinstance(one.answer, Answer) for one in said if one.score is not None)


def test_a_pointer_student_learns_to_point_in_a_minute(tiny: Tiny, tmp_path: Path) -> None:
    shape = Shape(kind=Kind.pointer, width=64, layers=2, heads=2, max_input=96, records=2)
    fit = {"steps": 150, "batch_tokens": 3000, "log_every": 50, "warmup": 20}
    student = _trained(tiny, tmp_path / "student", shape, max_dropped=1.0, fit=fit)
    rows = tiny.dataset.table("val").slice(0, 200)
    texts = rows["text"].to_pylist()
    truths = [tiny.dataset.task.parse(one) for one in rows["answer"].to_pylist()]
    hits = [a == b for a, b in zip(Extractor(student).answers(texts), truths, strict=True)]
    assert np.mean(hits) > 0.6


def test_a_pointer_student_of_choices_alone_points_at_nothing() -> None:
    kind = TASKS["query_kind"]
    texts = ["How many notes?", "Which notes?", "What were sales?"]
    tokenizer = Tokenizer.learn(texts, [], vocabulary=300)
    target = kind.target("compact", positions=8, spell=tokenizer.spell, unspell=tokenizer.unspell)
    places = in_turn({kind.name: target}, 3)
    shape = Shape(kind=Kind.pointer, width=16, layers=1, heads=2, max_input=32)
    student = untrained(shape, tokenizer, places, seed=0)
    rows = [{"text": text, "answer": '{"kind":"list"}'} for text in texts]
    frame = scratch(POINTER)
    examples = pointing(
        pa.Table.from_pylist(rows), kind, target, tokenizer, places=places, max_input=32,
        frame=frame,
    )  # fmt: skip
    learner = PointingLearner(student, examples, tokenizer, places, frame)
    fit(learner, FitConfig(**FIT | {"steps": 30, "adamw_rate": 0.02}))
    asked = Pointed(student, tokenizer, frame, places[kind.name], 32)
    assert asked.tokens(tokenizer.encode(texts)) == [["<kind=list>"]] * 3


def test_a_pointer_student_checkpoints_its_gradients(tiny: Tiny, tmp_path: Path) -> None:
    shape = Shape(kind=Kind.pointer, width=32, layers=1, heads=2, max_input=96)
    fit = {"gradient_checkpointing": True}
    assert (
        _trained(tiny, tmp_path / "s", shape, max_dropped=1.0, fit=fit) / "config.json"
    ).exists()


@pytest.mark.parametrize("wrong", [{"target": "json"}, {"lora": LoraConfig(rank=4)}])
def test_a_pointer_student_writes_nothing(tiny: Tiny, tmp_path: Path, wrong: dict) -> None:
    base = _base(tiny, tmp_path / "base", "bert")
    shape = Shape(kind=Kind.pointer, base=base, max_input=96)
    with pytest.raises(SetupError, match=r"target=compact|lora\.rank=0"):
        _trained(tiny, tmp_path / "student", shape, **wrong)


@pytest.mark.parametrize("target", ["literal", "json"])
def test_a_decoder_writes_every_target(tiny: Tiny, tmp_path: Path, target: str) -> None:
    base = _base(tiny, tmp_path / "base", "llama")
    shape = Shape(kind=Kind.decoder, base=base, prompt=True, max_input=900, max_output=30)
    student = _trained(
        tiny, tmp_path / "student", shape, max_dropped=1.0, target=target, fit=GENTLE
    )
    assert len(students.card(student).frame.before) > 50
    _answers_as_its_master(tiny, student, tmp_path)


def test_a_base_of_another_form_is_refused_with_the_forms_that_can(
    tiny: Tiny, tmp_path: Path
) -> None:
    base = _base(tiny, tmp_path / "base", "gpt2")
    for kind, named in ((Kind.decoder, "qwen2"), (Kind.seq2seq, "t5"), (Kind.encoder, "bert")):
        with pytest.raises(SetupError, match=f"of form 'gpt2'(.|\n)*{named}"):
            _trained(tiny, tmp_path / "student", Shape(kind=kind, base=base))
    with pytest.raises(SetupError, match="cannot be read"):
        _trained(tiny, tmp_path / "student", Shape(kind=Kind.decoder, base=str(tmp_path / "no")))


def _learner(pack: int) -> DecoderLearner:
    texts = [f"notes of {i} dollars" + " and more" * (i % 5) for i in range(40)]
    tokenizer = Tokenizer.learn(texts, [], vocabulary=300)
    inputs = [tokenizer.batch_ids([text])[0] for text in texts]
    examples = Examples(
        Ragged.of(inputs), Ragged.of([one[-3 - at % 4 :] for at, one in enumerate(inputs)]), 0
    )
    shape = Shape(kind=Kind.decoder, depth=1, max_input=64, max_output=16)
    return DecoderLearner(
        model(shape, tokenizer), examples, tokenizer, frame=scratch(DECODER), pack=pack
    )


@pytest.mark.parametrize("pack", [0, 50, 200])
def test_a_batch_has_the_loss_of_its_rows_alone_packed_or_not(pack: int) -> None:
    learner = _learner(pack)
    cpu = torch.device("cpu")
    rows = np.arange(12)
    together, tokens = learner.loss(learner.model, rows, cpu)
    lengths = learner.examples.labels.lengths[rows]
    alone = [learner.loss(learner.model, [row], cpu)[0].item() for row in rows]
    assert together.item() == pytest.approx(np.average(alone, weights=lengths), rel=1e-5)
    assert tokens == learner.examples.costs[rows].sum()


def test_the_loss_is_on_the_answer_only() -> None:
    learner = _learner(0)
    logits = []
    learner.model.register_forward_hook(lambda _, __, out: logits.append(out.logits))
    learner.loss(learner.model, [3], torch.device("cpu"))
    assert logits[0].shape[1] == learner.examples.labels.lengths[3]
    assert learner.examples.masked == pytest.approx(
        learner.examples.inputs.lengths.sum() / learner.examples.costs.sum()
    )


def test_packing_is_for_decoders(tiny: Tiny, tmp_path: Path) -> None:
    shape = Shape(kind=Kind.encoder, width=16, layers=1, heads=2, max_input=96)
    with pytest.raises(SetupError, match="pack=64 for a student of kind encoder"):
        _trained(tiny, tmp_path / "student", shape, fit={"pack": 64})


@pytest.mark.parametrize("pack", [0, 60])
def test_a_resumed_decoder_repeats_the_losses_of_an_undisturbed_one(
    tmp_path: Path, pack: int
) -> None:
    torch.set_num_threads(1)
    config = FitConfig(**FIT | {"steps": 8, "batch_tokens": 150, "accumulate": 2})

    def losses(resume: Path | None, first: int) -> list[float]:
        out: list[float] = []

        def report(line, write):
            out.append(line.loss)
            if line.step == 3 and resume is None:
                write(tmp_path)

        fit(_learner(pack), replace(config, checkpoint_every=3), report=report, resume=resume)
        return out[first:]

    assert losses(None, 3) == losses(tmp_path, 0)
