"""Ray Data's way into a source that is read in parts: one read task for each of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.data.context import DataContext

Part = TypeVar("Part")


class Parts(Datasource, Generic[Part]):
    """Parts, and the function that reads one; it travels to the read tasks, so it is picklable.

    The list is passed in: Ray asks for read tasks many times a run. A task that is run again reads
    its part whole.
    """

    def __init__(
        self, name: str, parts: Sequence[Part], read: Callable[[Part], Iterable[pa.Table]]
    ) -> None:
        super().__init__()
        self.name, self.parts, self.read = name, list(parts), read

    def get_name(self) -> str:
        return self.name

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """One task a part, whatever `parallelism` is wished."""
        return [self._task(part) for part in self.parts]

    def _task(self, part: Part) -> ReadTask:
        read = self.read
        unknown = BlockMetadata(
            num_rows=None, size_bytes=None, task_exec_stats=None, exec_stats=None
        )
        return ReadTask(lambda: read(part), unknown)
