"""Ray Data's way into a table: block ranges under one snapshot, one read task a range.

The driver holds the snapshot open (`postgres.snapshot`) while tasks read. A task that is retried
reads its range whole, in the same snapshot: the rows are the same, none twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.data.context import DataContext

from raydistill import postgres
from raydistill.postgres import BlockRange

if TYPE_CHECKING:
    from ray.data import Dataset

RANGE_ROWS = 50_000  # a block of some 40 MB: at twice that a worker's peak passed 600 MiB
_BATCH_MIB = 8


class TableRanges(Datasource):
    """The ranges of a table. They are passed in: Ray asks for read tasks several times a run."""

    def __init__(
        self,
        dsn: str,
        table: str,
        columns: Mapping[str, str],
        ranges: Sequence[BlockRange],
        *,
        snapshot: str,
        where: str | None = None,
    ) -> None:
        super().__init__()
        self.dsn, self.table, self.columns = dsn, table, dict(columns)
        self.ranges, self.snapshot, self.where = list(ranges), snapshot, where

    def get_name(self) -> str:
        return "TableRanges"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """One task a range, whatever `parallelism` is wished."""
        return [self._task(one) for one in self.ranges]

    def _task(self, one: BlockRange) -> ReadTask:
        dsn, table, columns = self.dsn, self.table, self.columns
        snapshot, where = self.snapshot, self.where

        def read() -> Iterable[pa.Table]:
            batches = postgres.read_range(
                dsn, table, columns, one, snapshot=snapshot, where=where, batch_mib=_BATCH_MIB
            )
            for batch in batches:
                yield pa.Table.from_batches([batch])

        unknown = BlockMetadata(
            num_rows=None, size_bytes=None, task_exec_stats=None, exec_stats=None
        )
        return ReadTask(read, unknown)


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

    ranges = postgres.ranges(dsn, table, RANGE_ROWS)
    source = TableRanges(dsn, table, columns, ranges, snapshot=snapshot, where=where)
    return ray.data.read_datasource(
        source, concurrency=min(connections, len(ranges)), override_num_blocks=len(ranges)
    )
