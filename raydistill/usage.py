"""What `--help` of a verb says: its one sentence, examples, groups, and its settings with remarks.

The YAML of a verb is its reference: the comment at its top holds examples, each setting has its
remark beside it, so help and configuration cannot drift.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_FOOT = """\
Every setting is an override: KEY=VALUE, nested keys with dots, lists as KEY=a,b or 'KEY=[a,b]'.
--cfg job              prints the configuration that would run, and stops
--config-dir=FOLDER    adds a folder of your own YAML: FOLDER/source/mine.yaml is source=mine
--multirun KEY=a,b     runs the verb once for each value"""


def text(verb: str, sentence: str, conf: Path, more: Mapping[str, Any]) -> str:
    """The help of a verb. `more` is settings that its YAML leaves to their defaults."""
    head, body = split((conf / f"{verb}.yaml").read_text())
    parts = [sentence.strip()]
    if head:
        parts.append(_indented(head))
    if found := groups(conf, body):
        parts.append("Groups (GROUP=NAME):\n" + _indented("\n".join(found)))
    parts.append("Settings:\n" + _indented(_without_defaults(body)))
    if more:
        lines = "\n".join(f"{key}: {value}" for key, value in more.items())
        parts.append("Further settings (unless set here or by a group):\n" + _indented(lines))
    return "\n\n".join([*parts, _FOOT])


def split(source: str) -> tuple[str, str]:
    """A YAML file's comment at the top without its marks, and what follows it."""
    lines = source.splitlines()
    at = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    head = [line.removeprefix("#").removeprefix(" ") for line in lines[:at]]
    told = "\n".join(line for line in head if not line.startswith("@package"))
    return told, "\n".join(lines[at:])


def groups(conf: Path, body: str) -> list[str]:
    """A line for each choice of each group in the verb's defaults; the one taken has a star."""
    out: list[str] = []
    for entry in (yaml.safe_load(body) or {}).get("defaults", []):
        if not isinstance(entry, dict):
            continue
        for group, chosen in entry.items():  # pyright: ignore[reportUnknownVariableType]
            folder = conf / str(group)
            for file in sorted(folder.glob("*.yaml")):
                mark = "*" if file.stem == chosen else " "
                said = " ".join(split(file.read_text())[0].split()).split(". ")[0]
                out.append(f"{mark} {group}={file.stem:<12} {said}".rstrip())
    return out


def _without_defaults(body: str) -> str:
    """The settings: the YAML after its list of defaults."""
    lines = body.strip("\n").splitlines()
    if lines and lines[0].startswith("defaults:"):
        at = next((n for n, line in enumerate(lines[1:], 1) if not line.startswith("  -")), None)
        lines = lines[at:] if at is not None else []
    return "\n".join(lines).strip("\n")


def _indented(block: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in block.splitlines())
