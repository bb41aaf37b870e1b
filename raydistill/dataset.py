"""Datasets: the folder that `build` writes and every student learns from.

train/ val/ test/   Parquet of SCHEMA
tokenizer.json      learned on train
task.json           the task with its vocabularies frozen; a list of them for a mixture
keywords.txt        the prefilter, to be edited by hand where needed
dataset.json        inputs, snapshot, counts, filters, seed, fingerprints; written last
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.digest import sha256
from raydistill.errors import SetupError
from raydistill.specialists import refuse_unknown
from raydistill.task import HasTasks, Task, specs, tasks
from raydistill.tokenizer import Tokenizer

MANIFEST = "dataset.json"
SPLITS = ("train", "val", "test")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("task", pa.string()),
        ("text", pa.string()),
        ("answer", pa.string()),
        ("weight", pa.float32()),
        ("keep", pa.bool_()),
        ("form", pa.string()),
        ("year", pa.int16()),
    ]
)


def share(key: str, seed: int) -> float:
    """A keyed hash of `key` as a number in 0..1, the same on every machine (blake2b)."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "big") / 2**64


def split_of(group: str, *, seed: int, val: float, test: float) -> str:
    """The split of a company: all its rows go to one."""
    at = share(group, seed)
    return "test" if at < test else "val" if at < test + val else "train"


@dataclass(frozen=True, slots=True)
class Dataset(HasTasks):
    """A finished dataset folder. A mixture has more `tasks` than its first, `task`.

    With `only` it is the dataset of a specialist: records whose first field has another value are
    not there, and rows with none left are rows without an event.
    """

    folder: Path
    manifest: dict[str, Any]
    task: Task
    others: tuple[Task, ...] = ()
    only: tuple[str, ...] = ()

    @property
    def figures(self) -> dict[str, Any]:
        """What was counted in it."""
        return {"counts": self.manifest.get("counts", {})}

    @property
    def fingerprint(self) -> str:
        """16 hex digits over everything the manifest says, times and paths apart, and `only`."""
        whole = str(self.manifest["fingerprint"])
        if not self.only:
            return whole
        return hashlib.sha256(json.dumps([whole, *self.only]).encode()).hexdigest()[:16]

    @property
    def keywords(self) -> Path:
        return self.folder / "keywords.txt"

    def tokenizer(self) -> Tokenizer:
        """The tokenizer learned on train."""
        return Tokenizer.load(self.folder)

    def table(self, split: str) -> pa.Table:
        """All rows of `train`, `val` or `test`."""
        files = sorted((self.folder / split).glob("*.parquet"))
        tables = [pq.read_table(file) for file in files]
        table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
        return narrowed(table, self.task, self.only) if self.only else table

    def batches(self, split: str, rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """The rows of a split in bounded memory."""
        for file in sorted((self.folder / split).glob("*.parquet")):
            yield from pq.ParquetFile(file).iter_batches(rows)


def write(
    folder: Path,
    fill: Callable[[Path], dict[str, Any]],
    *,
    task: Task,
    tokenizer: Tokenizer,
    others: tuple[Task, ...] = (),
) -> Dataset:
    """Writes a dataset under a temporary name; `fill` writes its parts and gives the manifest.

    `others` are the further tasks of a mixture.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    manifest = fill(temporary)
    tokenizer.save(temporary)
    spec = specs((task, *others))
    (temporary / "task.json").write_text(json.dumps(spec, indent=2, ensure_ascii=False))
    manifest["task"] = _facts(task)
    if others:
        manifest["tasks"] = [_facts(one) for one in (task, *others)]
    manifest["files"] = _hashes(temporary)
    stable = [manifest["files"], manifest["task"]]
    digest = hashlib.sha256(json.dumps(stable, sort_keys=True).encode())
    manifest["fingerprint"] = digest.hexdigest()[:16]
    text = json.dumps(manifest, indent=2, ensure_ascii=False, default=str)
    (temporary / MANIFEST).write_text(text)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
    return open_(folder)


def _facts(one: Task) -> dict[str, str]:
    return {"name": one.name, "fingerprint": one.fingerprint, "shape": one.shape}


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    return {file.relative_to(folder).as_posix(): sha256(file) for file in files}


def of_one_task(folder: Path) -> Dataset:
    """The dataset in `folder`; SetupError where it is a mixture of several tasks."""
    data = open_(folder)
    if data.others:
        raise SetupError(
            f"{folder} holds {len(data.tasks)} tasks",
            expected="a dataset of one task",
            todo="build one for each task, or use train, publish, evaluate and export",
        )
    return data


def narrowed(rows: pa.Table, task: Task, only: Sequence[str]) -> pa.Table:
    """The rows (SCHEMA), and of their records those alone whose first field is one of `only`."""
    first, wanted = task.fields[0].name, frozenset(only)
    keep: list[bool] = rows["keep"].to_pylist()
    answers: list[str] = rows["answer"].to_pylist()
    for at, answer in enumerate(answers):
        if keep[at]:
            left = [one for one in task.parse(answer).records if one[first] in wanted]
            keep[at], answers[at] = bool(left), task.render(task.answer(left))
    for name, column in (("answer", answers), ("keep", keep)):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), pa.array(column))
    return rows


def open_(folder: Path, *, only: Sequence[str] = ()) -> Dataset:
    """The dataset in `folder`, or the part of a specialist in `only` some event types.

    Raises SetupError where `build` has not finished one, or it has no such types.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise SetupError(
            f"no dataset at {folder} ({MANIFEST} is missing)",
            expected="a folder written by build",
            todo="run build, or set dataset=",
        )
    first, *others = tasks(json.loads((folder / "task.json").read_text()))
    if only and others:
        raise SetupError("only= of a dataset with several tasks", todo="leave only= out")
    refuse_unknown(first, only, "only")
    return Dataset(
        folder, json.loads(file.read_text()), first, tuple(others), tuple(sorted(set(only)))
    )
