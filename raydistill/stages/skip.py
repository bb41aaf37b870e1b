"""Skip: the small classifier that decides which candidates are worth an extractor's time."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from raydistill.engine import Floats
from raydistill.readers import SkipScorer
from raydistill.stages.recent import Recent
from raydistill.tokenizer import Tokenizer


class Skip:
    """Adds `skip_score`, the probability of an event, and drops rows below `threshold`.

    Rows without text (markers, rows that already failed) pass with a null score. A row that comes
    with a score is not scored: the glance was sure of it. Nor is, again, a sentence that was scored
    lately.
    """

    def __init__(self, folder: Path, *, threshold: float, threads: int, max_input: int) -> None:
        self.threshold = threshold
        self.tokenizer = Tokenizer.load(folder)
        self.recent: Recent[float] = Recent()
        self.scorer = SkipScorer(folder, threads=threads, max_input=max_input, threshold=threshold)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows worth extracting, in order."""
        table = self.scored(batch)
        return table.filter(self.keep(table))

    def keep(self, scored: pa.Table) -> pa.Array:
        """Which rows of a scored table are worth extracting."""
        column = scored.column("skip_score").to_numpy(zero_copy_only=False)
        return pa.array(np.isnan(column) | (column >= self.threshold))

    def scored(self, batch: pa.Table) -> pa.Table:
        """Every row, with its `skip_score`."""
        texts = batch.column("text").to_pylist()
        column, batch = _sure(batch)
        rows = [at for at in np.flatnonzero(np.isnan(column)) if texts[at] is not None]
        column[rows] = self.recent([texts[at] for at in rows], self._scores)
        mask = np.isnan(column)
        return batch.append_column("skip_score", pa.array(column, pa.float32(), mask=mask))

    def _scores(self, texts: list[str]) -> list[float]:
        return self.scorer(self.tokenizer.batch_ids(texts)).tolist()


def _sure(batch: pa.Table) -> tuple[Floats, pa.Table]:
    """The scores that rows come with (NaN where there is none), and the batch without them."""
    if "skip_score" not in batch.column_names:
        return np.full(len(batch), np.nan, np.float32), batch
    column = batch.column("skip_score").to_numpy(zero_copy_only=False).astype(np.float32)
    return column, batch.drop_columns(["skip_score"])
