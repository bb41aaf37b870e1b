"""Meanings: what a pretrained pointer student knows of its classes before it learns any.

A base that reads sentences reads names, too: `dismissed auditor` lies near the sentences that say
so. A class that begins there is no stranger to the student, however few its examples are, where one
that begins anywhere is learned from these alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from raydistill.fields import Text
from raydistill.frame import Frame
from raydistill.slots import POINTED, Slots
from raydistill.student.examples import Ragged
from raydistill.student.pointer import Pointer
from raydistill.target import NULL
from raydistill.tokenizer import Tokenizer

_LEAST = 16  # values of a field below which its classes are learned as fast without
_SIZE = 1.0  # of a class's weights: its sentences are then some nats likelier than others
_AT_ONCE = 128  # names read together


def begin_at_meanings(
    model: Pointer, tokenizer: Tokenizer, frame: Frame, places: Mapping[str, Slots]
) -> int:
    """Sets the weights of each named value's class to what the encoder reads in its name.

    The heads then begin as a plain mean over the sentence, which is how such a base was taught to
    read. Gives how many classes were set.
    """
    names = _names(places)
    if not names:
        return 0
    with torch.no_grad():
        read = _read(model.encoder, tokenizer, frame, list(names.values()))
        common = read.mean(0)  # tells none of them apart, and is to be in no class's favour
        weight = _SIZE * nn.functional.normalize(read - common)
        model.head_classes.weight[list(names)] = weight
        model.head_classes.bias[list(names)] = -(weight @ common)
        model.mix.weight.zero_()
        model.mix.bias.zero_()
        model.head_slots.weight.mul_(0.1)
    return len(names)


def _names(places: Mapping[str, Slots]) -> dict[int, str]:
    """The class number of each value of an open vocabulary, and the value in words."""
    return {
        head.start + at: words(token)
        for slots in places.values()
        for head in slots.heads
        if isinstance(head.field, Text) and len(head.tokens) >= _LEAST
        for at, token in enumerate(head.tokens)
        if token not in (NULL, POINTED)
    }


def words(token: str) -> str:
    """What a target's token stands for, in words: "dismissed auditor", "2024", "none"."""
    inner = token.strip("</>")
    value = inner.partition("=")[2] or inner
    if value[:1] in "pymd" and value[1:].isdigit():
        value = value[1:]
    return value.replace("_", " ")


def _read(encoder: Any, tokenizer: Tokenizer, frame: Frame, names: Sequence[str]) -> torch.Tensor:
    """What the heads read of each name: the normalised mean of its hidden states (names, width)."""
    encoder.eval()
    pad = tokenizer.id(frame.pad)
    before, after = tokenizer.ids(frame.before), tokenizer.ids(frame.after)
    rows = Ragged.of([[*before, *one, *after] for one in tokenizer.batch_ids(list(names))])
    out: list[torch.Tensor] = []
    for start in range(0, len(names), _AT_ONCE):
        some = np.arange(start, min(start + _AT_ONCE, len(names)), dtype=np.int32)
        ids = torch.from_numpy(rows.batch(some, pad))
        mask = (ids != pad).long()
        hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        out.append(nn.functional.layer_norm(mean, mean.shape[1:]))
    return torch.cat(out)
