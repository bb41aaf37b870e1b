"""Pretrained bases, by folder or hub name: their own tokenizer, the target's tokens added to it.

Encoders (BERT form), causal models and sequence-to-sequence ones; safetensors only, no code of
theirs is run. What CTranslate2 cannot convert is refused before any training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertModel,
    GenerationConfig,
)

from raydistill.errors import SetupError
from raydistill.frame import DECODER, SEQ2SEQ, Frame
from raydistill.slots import Slots
from raydistill.student.meanings import begin_at_meanings, words
from raydistill.student.pointer import headed
from raydistill.student.shape import Classifier, Kind, Shape, no_bars, plain_attention
from raydistill.tokenizer import Tokenizer

FORMS = {
    Kind.encoder: ("bert",),
    Kind.pointer: ("bert",),
    Kind.decoder: (
        *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3"),
    ),
    Kind.seq2seq: ("t5", "bart", "mbart"),
}
_POINTERS = ("bart", "mbart")  # absolute positions, which an answer can point at
_ANSWER = "\nAnswer:"


def base(shape: Shape) -> tuple[Any, Tokenizer, Frame]:
    """The config, tokenizer and frame of `shape.base`. Raises SetupError where it is no base."""
    config = _opened(AutoConfig, shape)
    forms = FORMS[shape.kind]
    if config.model_type not in forms:
        fitting = [kind.value for kind, some in FORMS.items() if config.model_type in some]
        raise SetupError(
            f"student.base={shape.base} is of form {config.model_type!r}",
            expected=f"for student.kind={shape.kind.value}: {' | '.join(forms)}",
            todo=f"set student.kind={fitting[0]}" if fitting else "choose another base",
        )
    if getattr(config, "use_sliding_window", False):
        config.use_sliding_window = False  # sentences are far shorter than the window
    theirs = _opened(AutoTokenizer, shape)
    if not getattr(theirs, "is_fast", False):
        raise SetupError(
            f"student.base={shape.base} has no tokenizer.json",
            expected="a fast tokenizer",
            todo="convert its tokenizer, or choose another base",
        )
    tokenizer = Tokenizer(theirs.backend_tokenizer)
    return config, tokenizer, _frame(shape, config.model_type, theirs, tokenizer)


def _opened(kind: Any, shape: Shape) -> Any:
    try:
        return kind.from_pretrained(shape.base, trust_remote_code=False)
    except (OSError, ValueError) as problem:
        raise SetupError(
            f"student.base={shape.base} cannot be read: {str(problem).splitlines()[0]}",
            expected="a hub name, or a folder with config.json, model.safetensors, tokenizer.json",
            todo="correct student.base, or download the model first",
        ) from None


def _frame(shape: Shape, form: str, theirs: Any, tokenizer: Tokenizer) -> Frame:
    reads = shape.kind in (Kind.encoder, Kind.pointer)  # and writes nothing
    end = theirs.sep_token if reads else theirs.eos_token
    if end is None:
        raise SetupError(
            f"student.base={shape.base} names no token for the end of a text",
            todo="add eos_token to its tokenizer_config.json",
        )
    pad = theirs.pad_token or end
    if reads:
        kind = shape.kind.value
        return Frame(kind=kind, before=(theirs.cls_token,), after=(end,), end=end, pad=pad)
    if shape.kind is Kind.seq2seq:
        before = (str(theirs.bos_token),) if form == "bart" else ()
        made = Frame(kind=SEQ2SEQ, before=before, after=(end,), end=end, pad=pad)
        return replace(made, positions=None if form in _POINTERS else 0)
    begins = theirs("a").input_ids[0] == theirs.bos_token_id and theirs.bos_token is not None
    return Frame(
        kind=DECODER,
        before=(str(theirs.bos_token),) if begins else (),
        after=tuple(tokenizer.spell(_ANSWER)),
        end=end,
        pad=pad,
        positions=0,
    )


def instructed(frame: Frame, tokenizer: Tokenizer, instruction: str) -> Frame:
    """The frame with the task's instruction before each sentence."""
    told = tokenizer.spell(f"{instruction}\n\nText: ")
    return replace(frame, before=(*frame.before, *told))


def pretrained(
    shape: Shape,
    config: Any,
    tokenizer: Tokenizer,
    added: Sequence[str],
    *,
    frame: Frame,
    seed: int,
    classes: int = 2,
    places: Mapping[str, Slots] | None = None,
    **load: Any,
) -> nn.Module:
    """The base's model with `added` tokens in its tokenizer and at the end of its embeddings.

    A classifier has `classes`, a pointer student `places`, whose classes begin at their meanings.
    """
    torch.manual_seed(seed)
    no_bars()
    _export_fields(config)
    if shape.kind is Kind.encoder:
        return Classifier(_weights(BertModel, shape, config, load), classes)
    if places is not None:
        made = headed(_weights(BertModel, shape, config, load), places)
        begin_at_meanings(made, tokenizer, frame, places)
        return made
    kind = AutoModelForCausalLM if shape.kind is Kind.decoder else AutoModelForSeq2SeqLM
    model = _weights(kind, shape, config, load)
    plain_attention(model)
    # Greedy, whatever the base's makers recommend.
    generation: Any = GenerationConfig
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    known = {name: getattr(config, name, None) for name in names}
    model.generation_config = generation(**{k: v for k, v in known.items() if v is not None})
    add_tokens(model, tokenizer, added)
    return model


def _weights(kind: Any, shape: Shape, config: Any, load: dict[str, Any]) -> Any:
    load = {"dtype": torch.float32} | load
    try:
        return kind.from_pretrained(shape.base, config=config, use_safetensors=True, **load)
    except OSError as problem:
        raise SetupError(
            f"the weights of student.base={shape.base} cannot be read:"
            f" {str(problem).splitlines()[0]}",
            expected="model.safetensors: pickled weights can run code and are not read",
            todo="convert the base to safetensors, or choose another",
        ) from None


def _export_fields(config: Any) -> None:
    """States what CTranslate2's converters read and transformers 5 leaves out."""
    if config.model_type == "bert":
        config.position_embedding_type = "absolute"
    if config.model_type in _POINTERS:
        config.normalize_before = config.model_type == "mbart"
        config.normalize_embedding = True
        config.forced_eos_token_id = None
        config.forced_bos_token_id = None


def add_tokens(model: Any, tokenizer: Tokenizer, added: Sequence[str]) -> list[int]:
    """Adds tokens and begins each at the mean of the pieces that its name is spelled with.

    Gives the ids of all of them.
    """
    names = list(dict.fromkeys(added))
    pieces = {
        name: tokenizer.ids(tokenizer.spell(words(name)))
        for name in names
        if tokenizer.raw.token_to_id(name) is None
    }
    tokenizer.raw.add_special_tokens(list(pieces))
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    with torch.no_grad():
        for weight in {id(one.weight): one.weight for one in tables}.values():
            for name, some in pieces.items():
                if some:
                    weight[tokenizer.id(name)] = weight[some].mean(0)
    return [tokenizer.id(name) for name in names]
