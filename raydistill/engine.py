"""The engine: a student folder becomes CTranslate2 files, and those answer on CPUs.

Threads are always said aloud: Ray sets OMP_NUM_THREADS for its workers, which the default reads.
"""

import ctypes
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from raydistill.batching import LEAST, alike, evened, runs
from raydistill.errors import SetupError
from raydistill.frame import DECODER, Frame, of_folder
from raydistill.tokenizer import Encoded, Tokenizer

Floats: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[np.int64]
QUANTISATIONS = ("int8", "int8_float32", "int8_bfloat16", "int16", "float32")
_BATCH_TOKENS = 2048  # 32-64 sentences of filings; larger batches were no faster
# Of a reader's batch: what a layer makes of it stays in a core's cache (1.4 times as fast as 2048).
_READ_TOKENS = 512
# The padding of a batch changes a sentence's figures in their last bits, which decide where two
# tokens are as likely. So that an answer is a function of its sentence alone, one less likely than
# this is written again, beside others of its length only, which gives what it gives by itself. In
# those that are more likely no second token ever had more than 0.48: 0.08 apart in log-probability,
# hundreds of times what padding changes.
_SURE = math.log(0.52)
# Sentences of each length, from which batches of one length are faster than all written once and
# the unsure ones again (2 threads: 0.8 of the time at 4 to 8, 0.7 at 12).
_MANY = 4
_EXTRA = ("tokenizer.json", "head.safetensors", "student.json")


def convert(student: Path, out: Path, *, quantisation: str = "int8") -> None:
    """Writes the CTranslate2 model of a student folder to `out`, with its tokenizer and card."""
    if quantisation not in QUANTISATIONS:
        raise SetupError(
            f"quantisation {quantisation!r}",
            expected=" | ".join(QUANTISATIONS),
            todo="set publish.quantisation=int8",
        )
    from ctranslate2.converters import TransformersConverter

    temporary = out.with_name(out.name + ".tmp")
    converter = TransformersConverter(str(student))
    try:
        converter.convert(str(temporary), quantization=quantisation, force=True)
    except (ValueError, NotImplementedError) as problem:
        raise SetupError(
            f"{student} cannot be converted for CTranslate2: {str(problem).splitlines()[0][:200]}",
            expected="a student of a form named in docs/students.md",
            todo="train on another student.base, or serve formats=[safetensors] elsewhere",
        ) from None
    for name in _EXTRA:
        if (student / name).exists():
            shutil.copyfile(student / name, temporary / name)
    if out.exists():
        shutil.rmtree(out)
    temporary.rename(out)


# What CTranslate2 asks of a processor for its AVX-512 kernels, and its word for them.
_AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_ISA = "CT2_FORCE_CPU_ISA"


def use_widest() -> None:
    """Lets CTranslate2 use AVX-512, which it leaves off unless told: 1.2 times the speed here.

    Before its first model is opened; whoever has set the variable is not overruled.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return
    line = next((line for line in flags.splitlines() if line.startswith("flags")), "")
    if set(line.split()) >= _AVX512:
        os.environ.setdefault(_ISA, "AVX512")


_TRIM, _MMAP = -1, -3  # glibc's names for mallopt: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_KEPT, _LARGE = 256 << 20, 32 << 20  # bytes; 32 MB is the most that glibc takes for the second


@cache
def keep_memory() -> None:
    """Lets the C library keep what it frees, up to 256 MB, for the next allocation.

    Otherwise what a layer makes of a batch (a megabyte or so) goes back to the system and comes as
    fresh pages, batch after batch: that took a third of the time in which a sentence is read.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    mallopt = getattr(library, "mallopt", None)
    if mallopt is not None:  # glibc; others have ways of their own
        mallopt(_TRIM, _KEPT)
        mallopt(_MMAP, _LARGE)


def _open(kind: Any, folder: Path, threads: int, **options: Any) -> Any:
    if not (folder / "model.bin").is_file():
        raise SetupError(
            f"{folder}/model.bin is missing", expected="a published release", todo="run publish"
        )
    use_widest()
    keep_memory()
    try:
        return kind(str(folder), inter_threads=threads, intra_threads=1, **options)
    except (RuntimeError, ValueError) as problem:
        raise SetupError(f"{folder} cannot be loaded: {problem}", todo="publish it again") from None


@dataclass(frozen=True, slots=True)
class Generated:
    """Output tokens of one sentence and the log-probability of the whole sequence."""

    tokens: list[str]
    score: float


class Generator:
    """A quantised extractor, sequence-to-sequence or decoder.

    One sentence per thread: `threads` x 1 beat 1 x `threads` by 3-5 times. `min_output` tokens are
    written in any case, which measures speed alone.
    """

    def __init__(
        self, folder: Path, *, threads: int, max_input: int, max_output: int, min_output: int = 0
    ) -> None:
        import ctranslate2

        self.frame = of_folder(folder)
        kind = ctranslate2.Generator if self.frame.kind == DECODER else ctranslate2.Translator
        self.model = _open(kind, folder, threads)
        self.limit, self.max_output = max_input - self.frame.width, max_output
        self.min_output, self.threads = min_output, threads

    def __call__(self, sources: Sequence[Encoded], frame: Frame | None = None) -> list[Generated]:
        """The output of each sentence, in order, whatever sentences stand beside it.

        Batches are cut by tokens, sorted by length. `frame` asks in another frame than the
        student's own: one of a mixture's tasks.
        """
        if not sources:
            return []
        frame = frame or self.frame
        limit = self.limit + self.frame.width - frame.width
        framed = [frame.tokens(one.tokens[:limit]) for one in sources]
        many = len(framed) >= _MANY * len({len(one) for one in framed})
        if self.frame.kind == DECODER or many:
            return [one[0] for one in self._of_one_length(framed)]
        budget = evened(sum(map(len, framed)), self.threads, _BATCH_TOKENS)
        out = [_made(one)[0] for one in self._translated(framed, budget=budget)]
        alone = len(out) < 2 or self.min_output > 0
        unsure = [at for at, one in enumerate(out) if one.score < _SURE and not alone]
        again = self._of_one_length([framed[at] for at in unsure])
        for at, one in zip(unsure, again, strict=True):
            out[at] = one[0]
        return out

    def alternatives(
        self, sources: Sequence[Encoded], count: int, frame: Frame | None = None
    ) -> list[list[Generated]]:
        """The `count` likeliest outputs of each sentence that a beam as wide finds, best first."""
        framed = [(frame or self.frame).tokens(one.tokens) for one in sources]
        return self._of_one_length(framed, count)

    def _of_one_length(self, framed: Sequence[list[str]], beams: int = 1) -> list[list[Generated]]:
        """Written in batches of one length, where no row is padded.

        For decoders always: CTranslate2 reads in one pass only as many tokens as the shortest
        prompt of a batch has, and feeds the rest of the others token by token.
        """
        write = self._continued if self.frame.kind == DECODER else self._translated
        lengths = np.fromiter((len(one) for one in framed), np.int64, len(framed))
        waiting: list[tuple[int, Any]] = []
        for same in alike(lengths):
            for rows in runs(same, lengths, max(1, _BATCH_TOKENS // beams)):
                pending = write([framed[row] for row in rows], beams, asynchronous=True)
                waiting += zip(rows.tolist(), pending, strict=True)
        out: list[list[Generated]] = [[]] * len(framed)
        for row, pending in waiting:
            out[row] = _made(pending.result())
        return out

    def _translated(
        self, framed: Sequence[list[str]], beams: int = 1, budget: int = 0, **how: Any
    ) -> Sequence[Any]:
        """What follows from each sentence, in batches of `budget` tokens, 0 for one batch."""
        return self.model.translate_batch(
            framed,
            max_batch_size=budget,
            batch_type="tokens",
            beam_size=beams,
            num_hypotheses=beams,
            length_penalty=0,
            return_scores=True,
            max_input_length=0,
            max_decoding_length=self.max_output,
            min_decoding_length=self.min_output,  # as the master, which may end at once
            **how,
        )

    def _continued(self, prompts: Sequence[list[str]], beams: int, **how: Any) -> Sequence[Any]:
        """What follows each prompt of a batch."""
        return self.model.generate_batch(
            prompts,
            max_length=self.max_output,
            min_length=self.min_output,
            beam_size=beams,
            num_hypotheses=beams,
            sampling_topk=1,
            length_penalty=0,
            return_scores=True,
            include_prompt_in_result=False,
            end_token=self.frame.end,
            **how,
        )


def _made(result: Any) -> list[Generated]:
    """What a result of CTranslate2's Translator or of its Generator holds, best first."""
    tokens = result.sequences if hasattr(result, "sequences") else result.hypotheses
    return [Generated(*one) for one in zip(tokens, result.scores, strict=True)]


class Encoder:
    """A quantised encoder: token ids to hidden states, a batch a thread."""

    def __init__(self, folder: Path, *, threads: int, max_input: int) -> None:
        import ctranslate2

        self.model = _open(ctranslate2.Encoder, folder, threads)
        self.frame, self.tokenizer = of_folder(folder), Tokenizer.load(folder)
        self.threads, self.max_input = threads, max_input
        self.pad = self.tokenizer.id(self.frame.pad)
        self.blas = ThreadpoolController()

    def framed(self, ids: Sequence[Sequence[int]], frame: Frame | None = None) -> list[list[int]]:
        """Sentences as they are read: long ones cut, each in its frame or that of a task."""
        frame = frame or self.frame
        before, after = self.tokenizer.ids(frame.before), self.tokenizer.ids(frame.after)
        limit = self.max_input - frame.width
        return [[*before, *row[:limit], *after] for row in ids]

    def batches(self, rows: Sequence[Sequence[int]]) -> list[Rows]:
        """The numbers of rows that are best read together: sorted by length, cut by tokens.

        Those of one length where they fill batches: no row of them is padded.
        """
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        each = alike(lengths)
        if int(lengths.sum()) < LEAST * len(each):
            return runs(
                np.concatenate(each),
                lengths,
                evened(int(lengths.sum()), self.threads, _READ_TOKENS),
            )
        return [
            batch
            for same in each
            for batch in runs(
                same, lengths, evened(int(lengths[same].sum()), self.threads, _READ_TOKENS)
            )
        ]

    def read(
        self, rows: Sequence[Sequence[int]], batches: Sequence[Rows], use: Callable[..., None]
    ) -> None:
        """Calls `use(batch, hidden, sizes)` for each batch: hidden (rows, tokens, width), float32.

        What it gives a sentence that is read alone depends on nothing else. numpy's products in
        `use` get one thread each: two threads with two more of BLAS took twice as long.
        """

        def one(batch: Rows) -> None:
            use(batch, *self._hidden([rows[row] for row in batch]))

        from concurrent.futures import ThreadPoolExecutor

        with self.blas.limit(limits=1, user_api="blas"):
            if self.threads == 1 or len(batches) < 2:
                for batch in batches:
                    one(batch)
                return
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(one, batches))

    def _hidden(self, rows: Sequence[Sequence[int]]) -> tuple[Floats, NDArray[np.int32]]:
        import ctranslate2

        sizes = np.fromiter((max(1, len(row)) for row in rows), np.int32, len(rows))
        padded = np.full((len(rows), int(sizes.max())), self.pad, np.int32)
        for at, row in enumerate(rows):
            padded[at, : len(row)] = row
        view = ctranslate2.StorageView.from_array
        output = self.model.forward_batch(view(padded), lengths=view(sizes))
        return np.asarray(output.last_hidden_state, np.float32), sizes
