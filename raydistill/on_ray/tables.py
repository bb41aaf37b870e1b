"""Ray Data's way into a table: block ranges under one snapshot, one read task a range.

The driver holds the snapshot open (`pgread.snapshot`) while tasks read. A task that is retried
reads its range whole, in the same snapshot: the rows are the same, none twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from raydistill import pgread
from raydistill.on_ray.parts import Parts
from raydistill.pgread import BlockRange

if TYPE_CHECKING:
    from ray.data import Dataset

RANGE_ROWS = 50_000  # a block of some 40 MB: at twice that a worker's peak passed 600 MiB
_BATCH_MIB = 8


def table_ranges(
    dsn: str,
    table: str,
    columns: Mapping[str, str],
    ranges: Sequence[BlockRange],
    *,
    snapshot: str,
    where: str | None = None,
) -> Parts[BlockRange]:
    """The ranges of a table as parts; making them asks no server."""

    def read(one: BlockRange) -> Iterator[pa.Table]:
        batches = pgread.read_range(
            dsn, table, columns, one, snapshot=snapshot, where=where, batch_mib=_BATCH_MIB
        )
        for batch in batches:
            yield pa.Table.from_batches([batch])

    return Parts("TableRanges", ranges, read)


def table_dataset(
    dsn: str,
    table: str,
    columns: Mapping[str, str],
    *,
    snapshot: str,
    where: str | None = None,
    connections: int = 2,
) -> "Dataset":
    """The rows of a table as a Ray dataset, read by `connections` tasks at a time at most.

    `snapshot` must stay open until the dataset has been read. Ray must be running.
    """
    import ray.data

    ranges = pgread.ranges(dsn, table, RANGE_ROWS)
    source = table_ranges(dsn, table, columns, ranges, snapshot=snapshot, where=where)
    return ray.data.read_datasource(
        source, concurrency=min(connections, len(ranges)), override_num_blocks=len(ranges)
    )
