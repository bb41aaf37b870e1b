"""export: a dataset as files that other trainers load, with its card.

alpaca/  {"instruction", "input", "output"} a line   Axolotl `alpaca`, LLaMA-Factory, Unsloth
chat/    {"messages": [{"role", "content"}, ...]}    Axolotl `chat_template`, LLaMA-Factory, TRL
dataset_info.json    LLaMA-Factory's description of both
axolotl.yaml         the `datasets:` part of an Axolotl configuration
README.md, plots/    the dataset card
export.json          what was exported of which dataset; written last
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill import dataset
from raydistill.dataset import SPLITS, Dataset
from raydistill.errors import SetupError
from raydistill.lessons import card
from raydistill.progress import table
from raydistill.task import Task

Line = dict[str, Any]


def alpaca(task: Task, text: str, answer: str) -> Line:
    """One sentence as instruction, input and output."""
    return {"instruction": task.instruction, "input": text, "output": answer}


def chat(task: Task, text: str, answer: str) -> Line:
    """One sentence as a conversation: the task's own prompt, and the answer."""
    return {
        "messages": [
            {"role": "user", "content": task.prompt(text)},
            {"role": "assistant", "content": answer},
        ]
    }


FORMATS: dict[str, Callable[[Task, str, str], Line]] = {"alpaca": alpaca, "chat": chat}


@dataclass(kw_only=True, slots=True)
class Config:
    """Which dataset, in which formats. `licence` is written into the card as it is."""

    root: str = "runs"
    dataset: str
    out: str
    formats: list[str] = field(default_factory=lambda: list(FORMATS))
    splits: list[str] = field(default_factory=lambda: list(SPLITS))
    card: bool = True
    licence: str = ""

    def __post_init__(self) -> None:
        for name, given, known in (
            ("formats", self.formats, FORMATS),
            ("splits", self.splits, SPLITS),
        ):
            if not given or set(given) - set(known):
                raise SetupError(f"{name}={given}", expected=f"some of {', '.join(known)}")


def run(config: Config) -> dict[str, Any]:
    """Writes the export under a temporary name, then in place of an older one; prints counts."""
    made = dataset.open_(Path(config.dataset))
    if config.card and made.others:
        raise SetupError("a card of a dataset with several tasks", todo="set card=false")
    out = Path(config.out)
    if out.exists() and any(out.iterdir()) and not (out / "export.json").is_file():
        raise SetupError(
            f"{out} is a folder with other files",
            expected="a new folder, or one that export wrote before",
            todo="set out= to another folder",
        )
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    files, counts = _write(made, config, temporary)
    (temporary / "dataset_info.json").write_text(json.dumps(factory(made, files), indent=2))
    (temporary / "axolotl.yaml").write_text(axolotl(files))
    if config.card:
        card.write(made, temporary, licence=config.licence, data=files)
    manifest = {"dataset": made.fingerprint, "task": made.task.name, "rows": counts}
    manifest |= {"licence": config.licence, "files": files}
    (temporary / "export.json").write_text(json.dumps(manifest, indent=2))
    shutil.rmtree(out, ignore_errors=True)
    temporary.rename(out)
    rows = [(split, f"{count:,}") for split, count in counts.items()]
    print(table(rows, ("split", "sentences")))
    print(f"export: {out} ({', '.join(files)})")
    return manifest


def _write(
    made: Dataset, config: Config, folder: Path
) -> tuple[dict[str, dict[str, str]], dict[str, int]]:
    """Files by format and split, relative to the folder, and rows by split."""
    files: dict[str, dict[str, str]] = {}
    counts: dict[str, int] = {}
    for name in config.formats:
        (folder / name).mkdir()
        files[name] = {}
        for split in config.splits:
            file = folder / name / f"{split}.jsonl"
            count = 0
            with file.open("w", encoding="utf-8", newline="\n") as stream:
                for line in lines(made, split, name):
                    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                    count += 1
            files[name][split], counts[split] = f"{name}/{split}.jsonl", count
    return files, counts


def lines(made: Dataset, split: str, name: str) -> Iterator[Line]:
    """The rows of a split in a format of FORMATS."""
    form, tasks = FORMATS[name], {task.name: task for task in made.tasks}
    for batch in made.batches(split):
        columns = (batch.column(name).to_pylist() for name in ("task", "text", "answer"))
        for task, text, answer in zip(*columns, strict=True):
            yield form(tasks.get(task, made.task), text, answer)


def factory(made: Dataset, files: dict[str, dict[str, str]]) -> dict[str, Any]:
    """LLaMA-Factory's dataset_info.json: one entry a file, named TASK_FORMAT_SPLIT."""
    shapes: dict[str, dict[str, Any]] = {
        "alpaca": {
            "columns": {"prompt": "instruction", "query": "input", "response": "output"},
        },
        "chat": {
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
            },
        },
    }
    return {
        f"{made.task.name}_{name}_{split}": {"file_name": file, **shapes[name]}
        for name, one in files.items()
        for split, file in one.items()
    }


def axolotl(files: dict[str, dict[str, str]]) -> str:
    """The part of an Axolotl configuration that loads each format; one of them is to be kept."""
    out = ["# Keep one of these in your Axolotl configuration; paths are from this folder."]
    for name, one in files.items():
        kind = "alpaca" if name == "alpaca" else "chat_template"
        more = [] if name == "alpaca" else ["    field_messages: messages"]
        for key, split in (("datasets", "train"), ("test_datasets", "val")):
            if split in one:
                lines_ = [f"{key}:", f"  - path: {one[split]}", "    ds_type: json"]
                lines_ += [f"    type: {kind}", *more]
                lines_ += ["    split: train"] if key == "test_datasets" else []
                prefix = "" if name == next(iter(files)) else "# "
                out += [prefix + line for line in lines_]
    return "\n".join(out) + "\n"
