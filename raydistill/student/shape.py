"""Shapes: the sizes a student comes in, and the untrained model of each.

A student is an encoder (skip), a sequence-to-sequence model with a deep encoder and a shallow
decoder (extract: every output token costs one pass through the decoder alone), or a decoder of
Llama form by one dial, its depth (extract, where other engines are to read it).
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MBartConfig,
    MBartForConditionalGeneration,
)

from raydistill.errors import SetupError
from raydistill.frame import DECODER, ENCODER, POINTER, SEQ2SEQ
from raydistill.tokenizer import BOS, EOS, PAD, Tokenizer


class Kind(Enum):
    """What a student does: `encoder` classifies (skip), the others answer (extract).

    `seq2seq` and `decoder` write their answers, `pointer` gives them in one pass (pointer.py).
    """

    encoder = ENCODER
    seq2seq = SEQ2SEQ
    decoder = DECODER
    pointer = POINTER


_HEAD = 64  # dimensions of a decoder's attention head
_LONGEST_WAVE = 256  # positions; the shortest is 2


@dataclass(kw_only=True, slots=True)
class Shape:
    """The size of a student; `width` in dimensions, layers and heads as counts.

    `depth` sets a decoder's layers and heads to itself and its width to 64 times that. `base` is a
    pretrained model's folder or hub name, which has its own size; `prompt` puts the task's
    instruction before each sentence, which a student that is trained on one task does without;
    `records` is how many a pointer student has places for.
    """

    kind: Kind
    depth: int = 0
    base: str = ""
    prompt: bool = False
    width: int = 192
    layers: int = 3
    decoder_layers: int = 1
    heads: int = 6
    max_input: int = 256
    max_output: int = 160
    pre_norm: bool = False
    records: int = 3

    def __post_init__(self) -> None:
        if self.depth:
            self.width, self.layers, self.heads = _HEAD * self.depth, self.depth, self.depth
        if self.width % self.heads:
            raise SetupError(
                f"student.width={self.width} with student.heads={self.heads}",
                expected="a width that the heads divide",
                todo="change student.width or student.heads",
            )


def model(shape: Shape, tokenizer: Tokenizer, *, classes: int = 2, seed: int = 0) -> nn.Module:
    """An untrained student of this shape, the same one for the same seed."""
    torch.manual_seed(seed)
    if shape.kind is Kind.encoder:
        return Classifier(encoder(shape, tokenizer), classes)
    if shape.kind is Kind.decoder:
        made = _decoder(shape, tokenizer)
        plain_attention(made)
        return made
    writer: Any = _seq2seq(shape, tokenizer)
    plain_attention(writer)
    for part in (writer.get_encoder(), writer.get_decoder()):
        begin_as_waves(part.embed_positions)
    _tie_positions(writer, tokenizer)
    return writer


def begin_as_waves(places: Any) -> None:
    """Begins half the dimensions of learned positions as sines and cosines (Vaswani et al. 2017).

    Neighbours are then a rotation apart at every place, so that what lies next to what (the digits
    of an amount) is learned once instead of at each position; the other half tells places apart.
    """
    count, width = places.weight.shape
    offset = getattr(places, "offset", 0)
    half = width // 4 * 2
    with torch.no_grad():
        size = 2**0.5 * places.weight[offset:].std()
        waves = torch.logspace(math.log2(2), math.log2(_LONGEST_WAVE), half // 2, base=2)
        turns = torch.arange(count)[:, None] * (2 * math.pi / waves)
        places.weight[:, :half] = size * torch.cat([turns.sin(), turns.cos()], 1)


def _tie_positions(model: Any, tokenizer: Tokenizer) -> None:
    """Begins each position token at the embedding of the input position that it points at.

    What cross-attention reads from input i then scores `<pi>` highest from the first step on; from
    independent beginnings a student spends half its training on finding out which is which.
    """
    places = model.get_encoder().embed_positions
    tokens = model.get_input_embeddings().weight
    with torch.no_grad():
        for at in range(places.weight.shape[0] - places.offset):
            id = tokenizer.raw.token_to_id(f"<p{at}>")
            if id is not None:
                tokens[id] = places.weight[at + places.offset]


def no_bars() -> None:
    """Keeps transformers' progress bars, a line for every file, out of our own output."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def plain_attention(model: Any) -> None:
    """Attention as plain matrix products: on CPUs and short sentences, twice the fused speed."""
    if not torch.cuda.is_available():
        model.set_attn_implementation("eager")


def encoder(shape: Shape, tokenizer: Tokenizer) -> BertModel:
    """An untrained encoder of BERT form."""
    bert: Any = BertConfig
    config = bert(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        max_position_embeddings=shape.max_input,
        hidden_act="relu",  # GELU took a sixth of what reading a sentence costs
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.id(PAD),
        # CTranslate2 4.8 reads this attribute, which transformers 5 no longer has.
        position_embedding_type="absolute",
    )
    return BertModel(config)


def _seq2seq(shape: Shape, tokenizer: Tokenizer) -> nn.Module:
    kind: Any = BartForConditionalGeneration
    config: Any = BartConfig
    if shape.pre_norm:
        kind, config = MBartForConditionalGeneration, MBartConfig
    eos = tokenizer.id(EOS)
    made = config(
        vocab_size=len(tokenizer),
        d_model=shape.width,
        encoder_layers=shape.layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.width,
        decoder_ffn_dim=4 * shape.width,
        max_position_embeddings=max(shape.max_input, shape.max_output) + 2,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        pad_token_id=tokenizer.id(PAD),
        bos_token_id=tokenizer.id(BOS),
        eos_token_id=eos,
        decoder_start_token_id=eos,
        forced_eos_token_id=None,
        # CTranslate2 4.8 reads these three, which transformers 5 no longer has.
        normalize_before=shape.pre_norm,
        normalize_embedding=True,
        tokenizer_class="PreTrainedTokenizerFast",
    )
    return kind(made)


def _decoder(shape: Shape, tokenizer: Tokenizer) -> nn.Module:
    """Twelve times width squared a layer: SwiGLU of 8/3 the width, in whole multiples of 64."""
    config: Any = LlamaConfig
    inner = -(-8 * shape.width // (3 * 64)) * 64
    made = config(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=inner,
        max_position_embeddings=shape.max_input + shape.max_output,
        tie_word_embeddings=False,
        attention_dropout=0.0,
        pad_token_id=tokenizer.id(PAD),
        bos_token_id=tokenizer.id(BOS),
        eos_token_id=tokenizer.id(EOS),
    )
    return LlamaForCausalLM(made)


class Classifier(nn.Module):
    """An encoder, the mean of its hidden states, and one linear head over it."""

    def __init__(self, encoder: BertModel, classes: int) -> None:
        super().__init__()
        plain_attention(encoder)
        self.encoder = encoder
        pooler: Any = encoder.pooler
        pooler.requires_grad_(False)  # kept for the converter, used by nothing
        self.head = nn.Linear(encoder.config.hidden_size, classes)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits (rows, classes) of token ids (rows, tokens)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return self.head(mean)
