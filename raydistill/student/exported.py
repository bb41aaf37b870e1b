"""Exported: the model that is saved, in a form that CTranslate2 and llama.cpp read."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from raydistill.errors import SetupError
from raydistill.student.lora import ADAPTER, is_adapted, merged


def exported(model: nn.Module, folder: Path) -> nn.Module:
    """The model with its adapters merged (they go to `folder`), a Phi-3 as the Llama it is."""
    if is_adapted(model):
        model = merged(model, folder / ADAPTER)
    form = getattr(getattr(model, "config", None), "model_type", "")
    if form == "phi3":
        return _as_llama(model)
    return _scaled(model) if form == "t5" else model


def _scaled(t5: Any) -> nn.Module:
    """A T5 1.1 (flan) as the first T5: its last norm takes in what the first divides outputs by.

    Converters cannot tell the two apart any more, and would write wrong scores for the newer one.
    """
    if not t5.config.scale_decoder_outputs:
        with torch.no_grad():
            t5.decoder.final_layer_norm.weight *= t5.config.d_model**0.5
        t5.config.scale_decoder_outputs = True
    return t5


def _as_llama(phi: Any) -> nn.Module:
    """A Phi-3 with its fused matrices taken apart: the same model, in a form all engines know."""
    config = phi.config
    rope = dict(getattr(config, "rope_parameters", None) or {"rope_type": "default"})
    part = rope.pop("partial_rotary_factor", 1.0)
    if rope.get("rope_type", "default") != "default" or part != 1:
        raise SetupError(
            f"a phi3 with rope {rope}",
            expected="the short-context form (for example Phi-3-mini-4k)",
            todo="choose another student.base",
        )
    llama: Any = LlamaConfig
    names = (
        *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "intermediate_size", "max_position_embeddings", "rms_norm_eps"),
        *("pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings", "hidden_act"),
    )
    made = LlamaForCausalLM(
        llama(**{name: getattr(config, name) for name in names}, rope_parameters=rope)
    )
    made.load_state_dict(_taken_apart(phi.state_dict(), made.config))
    return made.to(phi.dtype)


def _taken_apart(state: dict[str, torch.Tensor], config: Any) -> dict[str, torch.Tensor]:
    head = config.hidden_size // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    out: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if "qkv_proj" in name:
            for letter, part in zip("qkv", value.split([queries, keys, keys]), strict=True):
                out[name.replace("qkv_proj", f"{letter}_proj")] = part.clone()
        elif "gate_up_proj" in name:
            for which, part in zip(("gate", "up"), value.chunk(2), strict=True):
                out[name.replace("gate_up_proj", f"{which}_proj")] = part.clone()
        else:
            out[name] = value
    return out
