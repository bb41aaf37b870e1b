"""Columns of text in pieces that stay in a processor's cache while a stage passes over them."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import compute

pc: Any = compute  # pyarrow makes its functions at import, so a type checker cannot know them

ROWS = 16_384  # some 3 MB of text, and far below hyperscan's 4 GB a scan


def pieces(texts: "pa.Array | pa.ChunkedArray") -> Iterator[tuple[int, Any]]:
    """The number of its first row, and a piece of ROWS texts at most, without nulls."""
    first = 0
    for part in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        for start in range(0, len(part), ROWS):
            piece = pc.fill_null(part.slice(start, ROWS).cast(pa.large_string()), "")
            yield first + start, piece
        first += len(part)
