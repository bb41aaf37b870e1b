"""LoRA: adapters beside a frozen base, merged into it for export. The home of peft.

The target's own tokens are trained in any case: a base knows nothing of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raydistill.errors import SetupError

ADAPTER = "adapter"


@dataclass(kw_only=True, slots=True)
class LoraConfig:
    """Adapters of a pretrained student; `rank` 0 trains all weights.

    `alpha` 0 is twice the rank. `modules` are the names of the matrices that get an adapter; none
    named, all linear ones do. `quantised` loads the base in 4 bits (QLoRA), which needs a GPU.
    """

    rank: int = 0
    alpha: int = 0
    dropout: float = 0.0
    modules: list[str] = field(default_factory=list)
    quantised: bool = False

    def __post_init__(self) -> None:
        if self.rank < 0 or self.alpha < 0:
            raise SetupError(f"train.lora.rank={self.rank}, alpha={self.alpha}", expected=">= 0")
        if self.quantised and not self.rank:
            raise SetupError(
                "train.lora.quantised=true without adapters",
                expected="a rank: a base in 4 bits cannot be trained itself",
                todo="set lora.rank=16",
            )


def loading(config: LoraConfig) -> dict[str, Any]:
    """What `from_pretrained` is told beside the base for QLoRA; SetupError without a GPU."""
    if not config.quantised:
        return {}
    if not torch.cuda.is_available():
        raise SetupError(
            "train.lora.quantised=true (QLoRA) without a GPU",
            expected="a CUDA GPU on every worker",
            todo="set lora.quantised=false, or train where a GPU is (gpu=true)",
        )
    from transformers import BitsAndBytesConfig

    bits: Any = BitsAndBytesConfig
    four = bits(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": four, "device_map": {"": torch.cuda.current_device()}}


def adapted(model: Any, config: LoraConfig, added: Sequence[int]) -> nn.Module:
    """The model with adapters; its base is frozen but for the embeddings of the `added` tokens."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model, prepare_model_for_kbit_training

    if config.quantised:
        model = prepare_model_for_kbit_training(model)
    tables = {id(one.weight): name for name, one in _tables(model).items()}
    settings = PeftConfig(
        r=config.rank,
        lora_alpha=config.alpha or 2 * config.rank,
        lora_dropout=config.dropout,
        target_modules=config.modules or "all-linear",
        trainable_token_indices={name: list(added) for name in tables.values()} if added else None,
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as problem:
        raise SetupError(
            f"train.lora: {str(problem).splitlines()[0]}", todo="correct lora.modules"
        ) from None


def _tables(model: Any) -> dict[str, Any]:
    """Input and output embeddings by their own names; the output first, so that a tied one wins."""
    wanted = [model.get_output_embeddings(), model.get_input_embeddings()]
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    return {names[id(one)]: one for one in wanted}


def merged(model: Any, folder: Path) -> nn.Module:
    """The base with the adapters added in; the adapters themselves are written to `folder`."""
    model.save_pretrained(folder, save_embedding_layers=False)
    if getattr(model.get_base_model(), "is_loaded_in_4bit", False):
        model = on_fresh_base(model, folder)
    return model.merge_and_unload()


def on_fresh_base(model: Any, folder: Path) -> Any:
    """The saved adapters on their base as it was published: one in 4 bits cannot be exported."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    name = model.peft_config["default"].base_model_name_or_path
    base: Any = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    rows = model.get_base_model().config.vocab_size
    base.resize_token_embeddings(rows, mean_resizing=False)
    return PeftModel.from_pretrained(base, folder)


def is_adapted(model: nn.Module) -> bool:
    """Whether a model has adapters that are not merged yet."""
    return hasattr(model, "merge_and_unload")
