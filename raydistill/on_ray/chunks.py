"""Ray Data's way into a source: one read task, and one block, for each chunk."""

from collections.abc import Callable, Iterable

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.data.context import DataContext


class Chunks(Datasource):
    """Chunks of whole filings. The list is passed in: Ray asks for read tasks many times a run."""

    def __init__(self, chunks: list[list[str]], read: Callable[[list[str]], pa.Table]) -> None:
        super().__init__()
        self.chunks, self.read = chunks, read

    def get_name(self) -> str:
        return "Chunks"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """One task a chunk, whatever `parallelism` is wished."""
        return [self._task(chunk) for chunk in self.chunks]

    def _task(self, chunk: list[str]) -> ReadTask:
        of_chunk = self.read

        def read() -> Iterable[pa.Table]:
            yield of_chunk(chunk)

        unknown = BlockMetadata(
            num_rows=None, size_bytes=None, task_exec_stats=None, exec_stats=None
        )
        return ReadTask(read, unknown)
