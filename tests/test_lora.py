"""Adapters on a shared base: trained, resumed, merged, one release each."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from raydistill import teaching, train
from raydistill.errors import SetupError
from raydistill.proof.students import Students
from raydistill.student.fit import FitConfig, fit
from raydistill.student.lora import LoraConfig, merged, on_fresh_base
from raydistill.student.masters import Extractor
from raydistill.student.optimise import Optimiser
from raydistill.student.shape import Kind, Shape
from raydistill.student.start import learner, start
from tests import bases
from tests.fix_tiny import Tiny


def _config(tiny: Tiny, base: str, out: Path, seed: int = 0, **lora) -> train.Config:
    return train.Config(
        dataset=str(tiny.dataset.folder), out=str(out), workers=0, threads=1, max_dropped=1.0,
        student=Shape(kind=Kind.decoder, base=base, max_input=160, max_output=32),
        lora=LoraConfig(**{"rank": 4} | lora),
        fit=FitConfig(
            steps=3, batch_tokens=600, bf16=False, log_every=1, warmup=1,
            optimiser=Optimiser.adamw, adamw_rate=0.01, gradient_checkpointing=True,
            seed=seed,
        ),
        negatives=0.1,
    )  # fmt: skip


def _base(tiny: Tiny, folder: Path, form: str) -> str:
    return str(bases.made(folder, form, tiny.dataset.table("train")["text"].to_pylist()[:200]))


def _adapter(student: Path) -> str | None:
    return Students({"extractor": student}, {}, {}).adapter


@pytest.mark.parametrize("form", ["llama", "qwen2"])
def test_an_adapted_student_is_its_base_but_for_adapters_and_the_targets_tokens(
    tiny: Tiny, tmp_path: Path, form: str
) -> None:
    base = _base(tiny, tmp_path / "base", form)
    student = train.run(_config(tiny, base, tmp_path / "student", modules=["q_proj", "v_proj"]))
    old, new = load_file(f"{base}/model.safetensors"), load_file(student / "model.safetensors")
    for name in ("mlp.up_proj", "self_attn.k_proj", "input_layernorm"):
        key = f"model.layers.1.{name}.weight"
        assert torch.equal(old[key], new[key])
    key = "model.layers.1.self_attn.q_proj.weight"
    assert not torch.equal(old[key], new[key])
    tokens = "model.embed_tokens.weight"
    master = Extractor(student)
    none, word = master.tokenizer.id("<none>"), master.tokenizer.id("a")
    assert torch.equal(old[tokens][word], new[tokens][word])
    assert len(new[tokens]) > len(old[tokens])
    head = new.get("lm_head.weight", new[tokens])
    first = _untrained(tiny, base)["lm_head.weight"]
    assert not torch.allclose(head[none], first[none], atol=1e-4)
    assert _adapter(student) is not None


def _untrained(tiny: Tiny, base: str) -> dict[str, torch.Tensor]:
    shape = Shape(kind=Kind.decoder, base=base, max_input=160, max_output=32)
    begun = start(shape, tiny.dataset.tasks, tiny.dataset.tokenizer(), target="compact",
                  positions=96, seed=0)  # fmt: skip
    return begun.model.state_dict()


def test_two_adapters_on_one_base_are_two_students(tiny: Tiny, tmp_path: Path) -> None:
    base = _base(tiny, tmp_path / "base", "llama")
    before = (Path(base) / "model.safetensors").read_bytes()
    one = train.run(_config(tiny, base, tmp_path / "one"))
    two = train.run(_config(tiny, base, tmp_path / "two", seed=1))
    assert _adapter(one) != _adapter(two)
    assert (Path(base) / "model.safetensors").read_bytes() == before


def test_adapters_saved_and_put_on_a_fresh_base_are_the_student(tiny: Tiny, tmp_path: Path) -> None:
    base = _base(tiny, tmp_path / "base", "qwen2")
    config = _config(tiny, base, tmp_path / "student")
    begun = start(
        config.student, tiny.dataset.tasks, tiny.dataset.tokenizer(), target="compact",
        positions=96, seed=0, lora=config.lora,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in begun.model.parameters():
            if parameter.requires_grad:
                parameter += 0.01
    here = merged(begun.model, tmp_path / "adapter").state_dict()
    begun = start(
        config.student, tiny.dataset.tasks, tiny.dataset.tokenizer(), target="compact",
        positions=96, seed=0, lora=config.lora,
    )  # fmt: skip
    fresh = on_fresh_base(begun.model, tmp_path / "adapter").merge_and_unload().state_dict()
    assert here.keys() == fresh.keys()
    assert all(torch.allclose(here[name], fresh[name], atol=1e-6) for name in here)


def test_qlora_without_a_gpu_says_so_before_anything_is_loaded(tiny: Tiny, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    base = _base(tiny, tmp_path / "base", "llama")
    with pytest.raises(SetupError, match=r"QLoRA\) without a GPU"):
        train.run(_config(tiny, base, tmp_path / "student", quantised=True))


def test_adapters_need_a_base(tiny: Tiny, tmp_path: Path) -> None:
    config = _config(tiny, "", tmp_path / "student")
    with pytest.raises(SetupError, match="from scratch"):
        train.run(config)
    with pytest.raises(SetupError, match=r"lora\.rank=16"):
        LoraConfig(quantised=True)


def test_a_resumed_adapter_repeats_the_losses_of_an_undisturbed_one(
    tiny: Tiny, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    base = _base(tiny, tmp_path / "base", "llama")
    config = _config(tiny, base, tmp_path / "student", dropout=0.1)
    settings = replace(config.fit, steps=6, checkpoint_every=2)

    def losses(resume: Path | None) -> list[float]:
        out: list[float] = []

        def report(line, write):
            out.append(line.loss)
            if line.step == 2 and resume is None:
                write(tmp_path / "checkpoint")

        begun = train._begun(config, tiny.dataset)
        teaches = learner(begun, teaching.examples_of(config, tiny.dataset, begun, tell=False))
        fit(teaches, settings, report=report, resume=resume)
        return out

    whole = losses(None)
    state = torch.load(tmp_path / "checkpoint/state.pt", weights_only=True)["model"]
    assert any("lora_A" in name for name in state)
    assert not any("base_layer.weight" in name for name in state)  # the base is not in it
    assert losses(tmp_path / "checkpoint") == whole[2:]
