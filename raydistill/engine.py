"""The engine: a student folder becomes CTranslate2 files, and those answer on CPUs.

Threads are always said aloud: Ray sets OMP_NUM_THREADS for its workers, which the default reads.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from raydistill.batching import evened, runs
from raydistill.errors import SetupError
from raydistill.frame import DECODER, Frame, of_folder
from raydistill.tokenizer import Encoded, Tokenizer

QUANTISATIONS = ("int8", "int8_float32", "int8_bfloat16", "int16", "float32")
_BATCH_TOKENS = 2048  # 32-64 sentences of filings; larger batches were no faster
# The padding of a batch changes a sentence's figures in their last bits, which decide where two
# tokens are as likely. So that an answer is a function of its sentence alone, one less likely than
# this is written again, beside others of its length only, which gives what it gives by itself. In
# those that are more likely no second token ever had more than 0.4.
_SURE = math.log(0.6)
_NEAR = 0.05  # and likewise a skip score as near as this to the threshold
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


def _open(kind: Any, folder: Path, threads: int, **options: Any) -> Any:
    if not (folder / "model.bin").is_file():
        raise SetupError(
            f"{folder}/model.bin is missing", expected="a published release", todo="run publish"
        )
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
        if self.frame.kind == DECODER:
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
        order = np.argsort(lengths, kind="stable")
        cuts = np.flatnonzero(np.diff(lengths[order])) + 1
        waiting: list[tuple[int, Any]] = []
        for same in np.split(order, cuts):
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


class SkipScorer:
    """An int8 skip classifier: token strings to the probability that a sentence holds an event."""

    def __init__(self, folder: Path, *, threads: int, max_input: int, threshold: float) -> None:
        import ctranslate2

        self.threshold = threshold
        self.encoder = _open(ctranslate2.Encoder, folder, threads)
        frame = of_folder(folder)
        self.threads, self.limit = threads, max_input - frame.width
        head = load_file(str(folder / "head.safetensors"))
        self.weight: NDArray[np.float32] = head["weight"]
        self.bias: NDArray[np.float32] = head["bias"]
        tokenizer = Tokenizer.load(folder)
        self.pad = tokenizer.id(frame.pad)
        self.before, self.after = tokenizer.ids(frame.before), tokenizer.ids(frame.after)

    def __call__(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Probabilities (sentences,) of token ids; long sentences are cut to fit.

        On which side of the threshold a sentence lies does not depend on those beside it.
        """
        if self.before or self.after:
            ids = [[*self.before, *row[: self.limit], *self.after] for row in ids]
        longest = self.limit + len(self.before) + len(self.after)
        lengths = np.fromiter((min(len(row), longest) for row in ids), np.int32, len(ids))
        out = np.zeros(len(ids), np.float32)
        order = np.argsort(lengths, kind="stable")
        budget = evened(int(lengths.sum()), self.threads, _BATCH_TOKENS)
        self._fill(out, ids, runs(order, lengths, budget), lengths)
        near = np.flatnonzero(np.abs(out - self.threshold) < _NEAR) if len(ids) > 1 else []
        self._fill(out, ids, [np.array([row]) for row in near], lengths)
        return out

    def _fill(
        self,
        out: NDArray[np.float32],
        ids: Sequence[Sequence[int]],
        batches: Sequence[NDArray[np.int64]],
        lengths: NDArray[np.int32],
    ) -> None:
        """Writes the scores of each batch's rows to `out`, on as many threads as there are."""
        if self.threads == 1 or len(batches) < 2:
            for rows in batches:
                out[rows] = self._scores(ids, rows, lengths)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self.threads) as pool:
            scored = pool.map(lambda rows: self._scores(ids, rows, lengths), batches)
            for rows, values in zip(batches, scored, strict=True):
                out[rows] = values

    def _scores(
        self, ids: Sequence[Sequence[int]], rows: NDArray[np.int64], lengths: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        return self._shares(ids, rows, lengths)[:, 1:].sum(1)

    def _shares(
        self, ids: Sequence[Sequence[int]], rows: NDArray[np.int64], lengths: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        import ctranslate2

        sizes = np.maximum(lengths[rows], 1)
        padded = np.full((len(rows), int(sizes.max())), self.pad, np.int32)
        for at, row in enumerate(rows):
            padded[at, : lengths[row]] = ids[row][: lengths[row]]
        view = ctranslate2.StorageView.from_array
        output = self.encoder.forward_batch(view(padded), lengths=view(sizes.astype(np.int32)))
        hidden = np.asarray(output.last_hidden_state, np.float32)
        mask = (np.arange(hidden.shape[1]) < sizes[:, None]).astype(np.float32)
        mean = np.einsum("rtw,rt->rw", hidden, mask) / sizes[:, None]
        logits = mean @ self.weight.T + self.bias
        logits -= logits.max(1, keepdims=True)
        shares = np.exp(logits)
        return shares / shares.sum(1, keepdims=True)

    @property
    def classes(self) -> int:
        """How many classes it tells apart; the first is nothing."""
        return len(self.bias)

    def shares(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Probabilities (sentences, classes) of token ids, each sentence read by itself."""
        from concurrent.futures import ThreadPoolExecutor

        rows = [[*self.before, *row[: self.limit], *self.after] for row in ids]
        lengths = np.fromiter(map(len, rows), np.int32, len(rows))
        with ThreadPoolExecutor(self.threads) as pool:
            one = pool.map(lambda at: self._shares(rows, np.array([at]), lengths), range(len(rows)))
            return np.array(list(one), np.float32).reshape(len(rows), self.classes)
