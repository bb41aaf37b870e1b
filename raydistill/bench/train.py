"""Training: tokens a second of each shape, and how much of the machine's matrix speed is used."""

from pathlib import Path
from typing import Any

from raydistill import train
from raydistill.bench import lessons
from raydistill.config import compose
from raydistill.student.examples import classification, extraction
from raydistill.student.pointer import pointing
from raydistill.student.speed import device_of, matmul_peak, pace, use_threads
from raydistill.student.start import learner, start

CPU = ("skip_s", "pointer_s", "seq2seq_s", "seq2seq_m", "decoder_xs")
GPU = ("seq2seq_l", "decoder_d8", "decoder_d12", "decoder_d20")


def run(root: Path, *, steps: int = 6, threads: int = 2) -> dict[str, Any]:
    """`peak_tflops` of a bf16 matrix product, `rows` by shape, and the largest shape's figures."""
    data = lessons.made(root / "lessons")
    use_threads(threads)
    device = device_of()
    peaks = {kind: matmul_peak(device, bf16=kind == "bf16") for kind in ("bf16", "float32")}
    print(f"matrix product: {', '.join(f'{k} {v / 1e12:.2f} TFLOP/s' for k, v in peaks.items())}")
    rows: list[dict[str, Any]] = []
    for name in CPU if device.type == "cpu" else GPU:
        settings = [f"student={name}", f"root={root}"]
        config = compose("train", train.Config, settings)
        shape = config.student
        shape.max_input = min(shape.max_input, int(data.manifest["positions"]))
        begun = start(
            shape, data.tasks, data.tokenizer(), target="compact", positions=shape.max_input, seed=0
        )
        some = data.table("train").slice(0, 6000)
        if begun.target is None:
            examples = classification(some, begun.tokenizer, max_input=shape.max_input)
        elif begun.places is not None:
            examples = pointing(
                some, data.task, begun.target, begun.tokenizer, places=begun.places,
                max_input=shape.max_input, frame=begun.frame,
            )  # fmt: skip
        else:
            examples = extraction(
                some, data.task, begun.target, begun.tokenizer, max_input=shape.max_input,
                max_output=shape.max_output, frame=begun.frame,
            )  # fmt: skip
        peak = peaks["bf16" if config.fit.bf16 else "float32"]
        found = pace(learner(begun, examples), config.fit, device, steps=steps, peak=peak)
        rows.append({"student": name} | found.spec())
        print(
            f"{name:12}{found.parameters / 1e6:8.1f} M{found.tokens_per_second:12,.0f} tokens/s"
            f"{found.tflops:8.3f} TFLOP/s{found.mfu:8.1%} of the peak"
        )
    return {
        "device": str(device),
        "peak_tflops": {kind: value / 1e12 for kind, value in peaks.items()},
        "tokens_per_second": rows[-1]["tokens_per_second"],
        "mfu": rows[-1]["mfu"],
        "rows": rows,
    }
