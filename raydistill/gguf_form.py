"""GGUF: a decoder student as one file for llama.cpp and Ollama. The home of gguf and llama_cpp.

The file is written by llama.cpp's own Python package from the student's safetensors. Its tokenizer
is the nearest that llama.cpp knows: who asks with token ids (as here) gets the student exactly,
who asks with text may see digits or spaces cut otherwise than in training.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from raydistill.engine import Generated
from raydistill.errors import SetupError
from raydistill.frame import DECODER, Frame, of_folder
from raydistill.tokenizer import Encoded, Tokenizer

FORMATS = ("gguf_q8_0", "gguf_q4_0")
FILE = "model.gguf"
_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}
_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_BLOCK = 32  # weights that share one scale in Q8_0 and Q4_0
_EXTRA = "install the extra: pip install 'raydistill[gguf]'"


def write(student: Path, folder: Path, form: str) -> Path:
    """Writes model.gguf, an Ollama Modelfile, tokenizer and card; gives the model's file."""
    try:
        import gguf  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise SetupError(f"publish.formats={form} without the package gguf", todo=_EXTRA) from None
    config = json.loads((student / "config.json").read_text())
    frame = of_folder(student)
    form_of = str(config["model_type"])
    if frame.kind != DECODER or form_of not in _ARCHITECTURES:
        raise SetupError(
            f"{student} is a {frame.kind} of form {form_of}, which is not written as GGUF",
            expected=f"a decoder of form {' | '.join(_ARCHITECTURES)} (Phi-3 is saved as llama)",
            todo=f"take {form} out of publish.formats",
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    writer = gguf.GGUFWriter(str(folder / FILE), _ARCHITECTURES[form_of])
    _describe(writer, config)
    weights: dict[str, NDArray[np.float32]] = load_file(str(student / "model.safetensors"))
    rows = len(weights["model.embed_tokens.weight"])
    _add_vocabulary(writer, json.loads((student / "tokenizer.json").read_text()), config, rows)
    kind = gguf.GGMLQuantizationType.Q8_0 if form == "gguf_q8_0" else gguf.GGMLQuantizationType.Q4_0
    for name, weight in _tensors(weights, config):
        if weight.ndim == 1 or weight.shape[-1] % _BLOCK:
            writer.add_tensor(name, weight.astype(np.float32))
            continue
        # The head decides between near-equal tokens: it stays at eight bits, as in llama.cpp.
        of_head = name.startswith(("output.", "token_embd."))
        one = gguf.GGMLQuantizationType.Q8_0 if of_head else kind
        data = gguf.quants.quantize(weight.astype(np.float32), one)
        writer.add_tensor(name, data, raw_dtype=one)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for name in ("tokenizer.json", "student.json"):
        shutil.copyfile(student / name, folder / name)
    (folder / "Modelfile").write_text(_modelfile(frame, Tokenizer.load(student)))
    return folder / FILE


def _describe(writer: Any, config: dict[str, Any]) -> None:
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or config["hidden_size"] // heads)
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise SetupError(
            f"rope of type {rope['rope_type']} is not written as GGUF",
            todo="take gguf out of publish.formats",
        )
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))


def _add_vocabulary(
    writer: Any, tokenizer: dict[str, Any], config: dict[str, Any], rows: int
) -> None:
    """The tokenizer as llama.cpp keeps it: tokens, their types, and merges or scores."""
    import gguf  # pyright: ignore[reportMissingImports]

    model = tokenizer["model"]
    if model["type"] != "BPE":
        raise SetupError(
            f"a tokenizer of type {model['type']} is not written as GGUF",
            expected="BPE",
            todo="take gguf out of publish.formats",
        )
    types = gguf.TokenType
    tokens = [f"[PAD{at}]" for at in range(rows)]
    kinds = [int(types.UNUSED)] * rows
    for token, id in model["vocab"].items():
        tokens[id], kinds[id] = token, int(types.NORMAL)
    stated = [config.get(f"{name}_token_id") for name in ("pad", "bos", "eos")]
    ends = {id for one in stated for id in (one if isinstance(one, list) else [one])}
    for one in tokenizer["added_tokens"]:
        tokens[one["id"]] = one["content"]
        # Control tokens are left out of the text that llama.cpp gives: the target's are an answer.
        control = one["id"] in ends or one["content"] == model.get("unk_token")
        kinds[one["id"]] = int(types.CONTROL if control else types.USER_DEFINED)
    if model.get("byte_fallback"):
        writer.add_tokenizer_model("llama")
        writer.add_token_scores([-float(id) for id in range(rows)])
        kinds = [
            int(types.BYTE) if len(t) == 6 and t.startswith("<0x") else kind
            for t, kind in zip(tokens, kinds, strict=True)
        ]
    else:
        merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2" if config["model_type"] == "qwen2" else "llama-bpe")
        writer.add_token_merges(merges)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    for name in ("pad", "bos", "eos"):
        id = config.get(f"{name}_token_id")
        if isinstance(id, int):
            getattr(writer, f"add_{name}_token_id")(id)
    writer.add_add_bos_token(False)  # the frame says what begins a prompt


def _tensors(
    weights: dict[str, NDArray[np.float32]], config: dict[str, Any]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    heads = int(config["num_attention_heads"])
    pairs = {"q": heads, "k": int(config.get("num_key_value_heads") or heads)}
    fixed = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    for name, weight in weights.items():
        if name in fixed:
            yield fixed[name], weight
            continue
        layer, _, rest = name.removeprefix("model.layers.").partition(".")
        part, _, which = rest.rpartition(".")
        if part not in _TENSORS:
            raise SetupError(f"tensor {name} is not written as GGUF", todo="drop gguf")
        letter = part[-6:-5]
        if config["model_type"] != "qwen2" and part.startswith("self_attn") and letter in pairs:
            weight = _interleaved(weight, pairs[letter])
        yield f"blk.{layer}.{_TENSORS[part]}.{which}", weight


def _interleaved(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows in llama.cpp's order: it rotates neighbours, transformers halves."""
    split = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape)


def _modelfile(frame: Frame, tokenizer: Tokenizer) -> str:
    before, after = tokenizer.unspell(frame.before), tokenizer.unspell(frame.after)
    return (
        f'FROM ./{FILE}\nTEMPLATE """{before}{{{{ .Prompt }}}}{after}"""\n'
        f'PARAMETER temperature 0\nPARAMETER top_k 1\nPARAMETER stop "{frame.end}"\n'
    )


class GgufGenerator:
    """A GGUF student asked by llama.cpp, one sentence after the other; greedy, without scores.

    `min_output` tokens are written in any case, which measures speed alone.
    """

    def __init__(
        self, folder: Path, *, threads: int, max_input: int, max_output: int, min_output: int = 0
    ) -> None:
        try:
            from llama_cpp import Llama  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise SetupError(f"{folder} without llama-cpp-python", todo=_EXTRA) from None
        self.frame, self.tokenizer = of_folder(folder), Tokenizer.load(folder)
        self.limit, self.max_output = max_input - self.frame.width, max_output
        self.min_output = min_output
        self.llama = Llama(
            str(folder / FILE),
            n_ctx=max_input + max_output,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )

    def __call__(self, sources: Sequence[Encoded], frame: Frame | None = None) -> list[Generated]:
        """The output of each sentence, in order; `frame` is that of one of several tasks."""
        return [Generated(self._answer(one, frame or self.frame), 0.0) for one in sources]

    def _answer(self, one: Encoded, frame: Frame) -> list[str]:
        limit = self.limit + self.frame.width - frame.width
        prompt = self.tokenizer.ids(frame.tokens(one.tokens[:limit]))
        end = self.tokenizer.id(self.frame.end)
        out: list[str] = []
        for id in self.llama.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0):
            if len(out) == self.max_output or (id == end and len(out) >= self.min_output):
                break
            out.append(self.tokenizer.token(id))
        return out
