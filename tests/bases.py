"""Tiny pretrained models of every form, made on the spot: untrained weights, real files."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from raydistill.tokenizer import BOS, EOS, PAD, UNK, Tokenizer

_DECODER = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 1024, "attention_dropout": 0.0,
}  # fmt: skip
_T5 = {"d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 64, "num_layers": 2, "dropout_rate": 0.0}
FORMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", _DECODER),
    "mistral": ("MistralConfig", "MistralForCausalLM", _DECODER),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", _DECODER | {"tie_word_embeddings": True}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", _DECODER | {"resid_pdrop": 0.0}),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", _DECODER | {"head_dim": 8}),
    "t5": ("T5Config", "T5ForConditionalGeneration", _T5),
    "flan_t5": (
        "T5Config", "T5ForConditionalGeneration",
        _T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "bart": (
        "BartConfig", "BartForConditionalGeneration",
        {"d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
         "max_position_embeddings": 258, "dropout": 0.0},
    ),
    "bert": (
        "BertConfig", "BertModel",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 64, "max_position_embeddings": 256,
         "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    ),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 32, "n_layer": 1, "n_head": 2}),
}  # fmt: skip

# Marks as these forms name them; the others have ours.
MARKS = {
    "qwen2": {PAD: "<|pad|>", BOS: "<|begin|>", EOS: "<|endoftext|>", UNK: "<|unknown|>"},
    "bert": {PAD: "[PAD]", BOS: "[CLS]", EOS: "[SEP]", UNK: "[UNK]"},
}


def made(folder: Path, form: str, texts: list[str]) -> Path:
    """A folder with a model of `form` as a hub holds one; its tokenizer is learned from `texts`."""
    config, model, values = FORMS[form]
    tokenizer = Tokenizer.learn(texts, [], vocabulary=400)
    ids = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
    marks = {name: tokenizer.id(token) for name, token in ids.items()}
    start = {"t5": PAD, "flan_t5": PAD, "bart": BOS}.get(
        form
    )  # from EOS an untrained one ends at once
    if start:
        marks["decoder_start_token_id"] = tokenizer.id(start)
    # Larger tables than tokens, as hubs have them.
    settings = values | marks | {"vocab_size": len(tokenizer) + 5}
    torch.manual_seed(0)
    one = getattr(transformers, model)(getattr(transformers, config)(**settings))
    with torch.no_grad():
        for parameter in one.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.1)
    one.save_pretrained(folder)
    tokenizer.save(folder)
    _rename(folder, MARKS.get(form, {}))
    if form == "bert":
        file = folder / "tokenizer_config.json"
        values = json.loads(file.read_text()) | {"cls_token": "[CLS]", "sep_token": "[SEP]"}
        file.write_text(json.dumps(values))
    return folder


def _rename(folder: Path, marks: dict[str, str]) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / name).read_text()
        for ours, theirs in marks.items():
            text = text.replace(json.dumps(ours), json.dumps(theirs))
        (folder / name).write_text(text)
