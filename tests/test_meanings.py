"""A pretrained pointer student begins with what its base knows of the values' names."""

import numpy as np
import pytest
import torch

from raydistill.fields import Choice, Span, Text
from raydistill.frame import Frame
from raydistill.slots import in_turn
from raydistill.student.meanings import begin_at_meanings, words
from raydistill.student.pointer import Pointed, headed
from raydistill.task import Task
from raydistill.tokenizer import Tokenizer
from tests import bases

KINDS = tuple(f"{verb}_{thing}" for verb in ("sold", "opened", "closed", "moved")
              for thing in ("plant", "office", "mine", "shop", "lab"))  # fmt: skip


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    from transformers import BertModel

    folder = tmp_path_factory.mktemp("base")
    bases.made(folder, "bert", [kind.replace("_", " ") for kind in KINDS] * 3)
    tokenizer = Tokenizer.load(folder)
    task = Task(
        name="moves", key="moves", instruction="",
        fields=(Text(name="kind", vocabulary=KINDS), Span(name="what"),
                Choice(name="when", choices=("past", "future"))),
    )  # fmt: skip
    target = task.target("compact", positions=40, spell=tokenizer.spell, unspell=tokenizer.unspell)
    places = in_turn({"moves": target}, 2)
    frame = Frame(kind="pointer", before=("[CLS]",), after=("[SEP]",), end="[SEP]", pad="[PAD]")
    torch.manual_seed(0)
    model = headed(BertModel.from_pretrained(folder), places)
    before = model.head_classes.weight.detach().clone()
    count = begin_at_meanings(model, tokenizer, frame, places)
    return model, tokenizer, frame, places["moves"], before, count


def test_classes_of_names_begin_there_and_others_where_they_were(begun):
    model, _, _, slots, before, count = begun
    assert count == len(KINDS)
    kind, *others = slots.heads
    after = model.head_classes.weight.detach()
    named = slice(kind.start, kind.start + len(KINDS))
    assert torch.allclose(after[named].norm(dim=1), torch.ones(len(KINDS)), atol=1e-5)
    for head in others:
        rest = slice(head.start, head.start + len(head.tokens))
        assert torch.equal(after[rest], before[rest])


def test_a_name_read_as_a_sentence_is_told_from_all_other_names(begun):
    model, tokenizer, frame, slots, *_ = begun
    pointed = Pointed(model.eval(), tokenizer, frame, slots, 40)
    texts = [kind.replace("_", " ") for kind in KINDS]
    head = slots.heads[0]
    rows = [
        [tokenizer.id("[CLS]"), *one, tokenizer.id("[SEP]")] for one in tokenizer.batch_ids(texts)
    ]
    said = []
    for row in rows:
        ids = torch.tensor([row])
        with torch.inference_mode():
            classes, _ = pointed.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        said.append(int(classes[0, 0, head.start : head.start + len(KINDS)].argmax()))
    assert np.mean(np.array(said) == np.arange(len(KINDS))) > 0.9


def test_a_short_list_of_values_has_no_names_worth_reading(begun):
    model, tokenizer, frame, *_ = begun
    task = Task(
        name="few", key="few", instruction="", fields=(Text(name="x", vocabulary=("a", "b")),)
    )
    target = task.target("compact", positions=40, spell=tokenizer.spell, unspell=tokenizer.unspell)
    places = in_turn({"few": target}, 1)
    made = headed(model.encoder, places)
    mix = made.mix.weight.detach().clone()
    assert begin_at_meanings(made, tokenizer, frame, places) == 0
    assert torch.equal(made.mix.weight, mix)


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("<event_type=dismissed_auditor>", "dismissed auditor"),
        ("<y2024>", "2024"),
        ("<none>", "none"),
    ],
)
def test_a_token_stands_for_words(token, said):
    assert words(token) == said
