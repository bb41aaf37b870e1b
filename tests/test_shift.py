"""Shifted lessons: other positions, the same answer."""

import numpy as np
import pytest
import torch

from raydistill.errors import SetupError
from raydistill.student.examples import extraction
from raydistill.student.folder import ExtractionLearner
from raydistill.student.shape import Kind, Shape, model
from raydistill.student.shift import Shift
from raydistill.tokenizer import PAD, Tokenizer

FAR = np.full(10, 96)  # so that every row has room
ROWS = np.array([0, 1, 2, 3], np.int32)


@pytest.fixture
def made(tiny):
    tokenizer = tiny.dataset.tokenizer()
    shape = Shape(kind=Kind.seq2seq, width=32, layers=1, heads=2, max_input=96, max_output=96)
    return model(shape, tokenizer).eval(), tokenizer


def _examples(tiny, tokenizer):
    rows = tiny.dataset.table("train")
    rows = rows.filter(rows["keep"]).slice(0, 4)
    spelling = {"spell": tokenizer.spell, "unspell": tokenizer.unspell}
    target = tiny.dataset.task.target("compact", positions=96, **spelling)
    return extraction(rows, tiny.dataset.task, target, tokenizer, max_input=96, max_output=96)


def test_a_row_that_moves_takes_its_pointers_along_and_its_loss_is_that_of_its_new_place(
    tiny, made
):
    student, tokenizer = made
    examples = _examples(tiny, tokenizer)
    pad = tokenizer.id(PAD)
    inputs = torch.from_numpy(examples.inputs.batch(ROWS, pad))
    labels = torch.from_numpy(examples.labels.batch(ROWS, -100))
    shift = Shift(student, tokenizer, FAR, 1.0)
    moved = shift(ROWS, inputs, labels, pad)
    by = shift.by
    assert by is not None
    assert len(set(by[:, 0].tolist())) > 1
    first = tokenizer.id("<p0>")
    pointers = (labels >= first) & (labels < first + shift.count)
    assert pointers.any()
    assert torch.equal((moved - labels)[pointers], by.expand_as(labels)[pointers])
    assert torch.equal(moved[~pointers], labels[~pointers])
    mask = (inputs != pad).long()
    with torch.inference_mode():
        elsewhere = student(input_ids=inputs, attention_mask=mask, labels=labels).logits
        again = student(input_ids=inputs, attention_mask=mask, labels=labels).logits
        # By hand: the row moved to its place behind so much padding.
        row, far = 0, int(by[0])
        words = inputs[row][inputs[row] != pad]
        filled = torch.cat([torch.full((far,), pad), words])[None]
        seen = torch.cat([torch.zeros(far, dtype=torch.long), torch.ones(len(words)).long()])[None]
        wished = student(input_ids=filled, attention_mask=seen, labels=labels[:1]).logits
    assert torch.allclose(elsewhere[row], wished[0], atol=1e-4)
    assert not torch.allclose(elsewhere, again)  # the next pass stands where it stood


def test_the_same_rows_move_alike_and_none_leave_the_positions(tiny, made):
    student, tokenizer = made
    examples = _examples(tiny, tokenizer)
    pad = tokenizer.id(PAD)
    inputs = torch.from_numpy(examples.inputs.batch(ROWS, pad))
    labels = torch.from_numpy(examples.labels.batch(ROWS, -100))
    shift = Shift(student, tokenizer, FAR, 0.5)
    one, two = (shift(ROWS, inputs, labels, pad) for _ in range(2))
    assert torch.equal(one, two)
    for seed in range(50):
        shift(ROWS + seed, inputs, labels, pad)
        assert int((shift.by[:, 0] + (inputs != pad).sum(1)).max()) <= shift.count
    near = Shift(student, tokenizer, examples.inputs.lengths, 1.0)
    near(ROWS, inputs, labels, pad)
    assert int((near.by[:, 0] + (inputs != pad).sum(1)).max()) <= examples.inputs.longest
    learner = ExtractionLearner(student, examples, tokenizer, shift=0.5)
    losses = {learner.loss(student, ROWS, torch.device("cpu"))[0].item() for _ in range(2)}
    assert len(losses) == 1


def test_a_student_without_pointers_is_refused():
    tokenizer = Tokenizer.learn(["a few words"], [], vocabulary=300)
    student = model(Shape(kind=Kind.seq2seq, width=32, layers=1, heads=2), tokenizer)
    with pytest.raises(SetupError, match="shift"):
        Shift(student, tokenizer, FAR, 0.5)
