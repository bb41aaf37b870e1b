"""One master in every form: converted, written as GGUF, measured side by side, gated."""

import importlib.util
from pathlib import Path

import pytest

from raydistill import gguf_form, publish, release, train
from raydistill.errors import SetupError
from raydistill.proof import formats
from raydistill.student.fit import FitConfig
from raydistill.student.folder import card
from raydistill.student.masters import Extractor
from raydistill.student.shape import Kind, Shape
from tests.fix_tiny import Tiny

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None, reason="the extra gguf is not installed"
)


@pytest.fixture(scope="module")
def decoder(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder that has learned at least when to say that there is no event."""
    out = tmp_path_factory.mktemp("decoder") / "student"
    return train.run(
        train.Config(
            dataset=str(tiny.dataset.folder), out=str(out), workers=0, threads=1, max_dropped=0.5,
            student=Shape(kind=Kind.decoder, depth=1, max_input=96, max_output=40),
            fit=FitConfig(steps=60, batch_tokens=2000, bf16=False, warmup=5),
        )
    )  # fmt: skip


def _publish(tiny: Tiny, decoder: Path, out: Path, **settings) -> publish.Config:
    return publish.Config(
        dataset=str(tiny.dataset.folder), skip=str(tiny.folder / "skip"), extractor=str(decoder),
        out=str(out), threads=1, parity_rows=40, validation_rows=60, **settings,
    )  # fmt: skip


def test_every_format_is_measured_and_the_gate_names_the_fastest_that_passes(
    tiny: Tiny, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["int8", "int8_float32", "float32", "safetensors", "gguf_q4_0"]
    config = _publish(
        tiny, decoder, tmp_path / "release", quantisation="auto", formats=wanted, parity=0.1
    )
    made = publish.run(config)
    rows = {row["format"]: row for row in made.manifest.metrics["formats"]}
    assert list(rows) == wanted
    assert rows["safetensors"]["master"] == 1.0
    assert rows["float32"]["master"] >= 0.95
    assert rows["int8"]["mib"] < 0.8 * rows["float32"]["mib"]
    assert all(0 <= rows[name]["teacher"] <= 1 for name in wanted[:-1])
    chosen = rows[made.manifest.quantisation]
    assert chosen["master"] >= 0.9
    others = [row for name, row in rows.items() if name in wanted[:3] and row["master"] >= 0.9]
    assert chosen["sentences_per_second"] == max(row["sentences_per_second"] for row in others)
    assert "sentences/s" in capsys.readouterr().out
    assert release.verify(tmp_path / "release").name == made.name
    assert (tmp_path / "release.formats/safetensors/model.safetensors").is_file()


def test_a_gate_that_nothing_passes_says_what_differs(
    tiny: Tiny, decoder: Path, tmp_path: Path
) -> None:
    said = [formats.Row("int8", 1.0, 10.0, 0.5, 0.5), formats.Row("gguf_q8_0", 1.0, 9.0, 1.0, 0.9)]
    with pytest.raises(SetupError, match=r"int8 50\.00%"):
        formats.fastest(said, 0.01)
    with pytest.raises(SetupError, match=r"formats=int3"):
        publish.run(_publish(tiny, decoder, tmp_path / "release", formats=["int3"]))


def test_a_gguf_file_holds_the_decoder_its_tokens_and_a_modelfile(
    decoder: Path, tmp_path: Path
) -> None:
    import gguf

    file = gguf_form.write(decoder, tmp_path / "q8", "gguf_q8_0")
    read = gguf.GGUFReader(file)
    tensors = {one.name: one for one in read.tensors}
    assert {"token_embd.weight", "output.weight", "blk.0.attn_q.weight"} <= set(tensors)
    assert tensors["blk.0.ffn_up.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0
    tokens = read.get_field("tokenizer.ggml.tokens").contents()
    tokenizer = Extractor(decoder).tokenizer
    assert tokens[tokenizer.id("<none>")] == "<none>"
    assert len(tokens) == len(tokenizer)
    modelfile = (tmp_path / "q8/Modelfile").read_text()
    assert 'TEMPLATE """{{ .Prompt }}<s>"""' in modelfile
    assert 'stop "</s>"' in modelfile
    smaller = gguf_form.write(decoder, tmp_path / "q4", "gguf_q4_0")
    assert smaller.stat().st_size < file.stat().st_size


@pytest.mark.filterwarnings("ignore")  # its bindings' own
def test_llama_cpp_answers_as_the_master_does(tiny: Tiny, decoder: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "llama_cpp", reason="llama-cpp-python (extra gguf) is not installed", exc_type=ImportError
    )
    gguf_form.write(decoder, tmp_path / "q8", "gguf_q8_0")
    shape = card(decoder).shape
    asked = gguf_form.GgufGenerator(
        tmp_path / "q8", threads=1, max_input=shape["max_input"], max_output=shape["max_output"]
    )
    texts = tiny.dataset.table("val")["text"].to_pylist()[:30]
    master = Extractor(decoder)
    encoded = master.tokenizer.encode(texts)
    same = [
        one.tokens == tokens
        for one, tokens in zip(asked(encoded), master.tokens(encoded), strict=True)
    ]
    assert sum(same) >= 0.8 * len(same)


def test_a_student_that_is_no_decoder_is_not_written_as_gguf(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="a seq2seq of form bart"):
        gguf_form.write(tiny.folder / "extractor", tmp_path / "gguf", "gguf_q8_0")
