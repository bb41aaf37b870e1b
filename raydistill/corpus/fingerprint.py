"""What a run is made of. Rows of one run come from one release, code and source, or not at all."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import raydistill
from raydistill.digest import sha256
from raydistill.errors import SetupError
from raydistill.release import Release

# What decides an answer. A change elsewhere (a bench, a page) is no other run.
_DECIDING = (
    *("answer", "batching", "chunk", "engine", "events", "fields", "filings", "keywords"),
    *("pipeline", "sentences", "target", "task", "text_target", "tokenizer", "stages/*"),
)


def fingerprint(release: Release, source: str, *, abstain: float) -> dict[str, str]:
    """The parts of a run's fingerprint; `source` says which rows of the world are read."""
    return {
        "release": release.name,
        "task": release.manifest.task_fingerprint,
        "prefilter": sha256(release.keywords)[:16],
        "code": code(),
        "source": source,
        "abstain": f"{abstain:g}",
    }


@lru_cache(maxsize=1)
def code() -> str:
    """The version, and a hash of the files that decide an answer."""
    here = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for pattern in _DECIDING:
        for file in sorted(here.glob(f"{pattern}.py")):
            digest.update(file.read_bytes())
    return f"{raydistill.__version__}+{digest.hexdigest()[:8]}"


def short(parts: Mapping[str, str]) -> str:
    """The fingerprint in 16 digits, as it stands on every ledger row."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()[:16]


def refuse_mixing(run: str, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """SetupError where a run was begun with something else; it says with what."""
    differ = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    if not differ:
        return
    was = ", ".join(f"{name} {found.get(name)}" for name in differ)
    now = ", ".join(f"{name} {wanted.get(name)}" for name in differ)
    raise SetupError(
        f"run {run!r} was begun with {was}; this command has {now}",
        expected="one release, task, prefilter, code and source for all rows of a run",
        todo="set run=NEWNAME: it takes the filings this release has not done, and nothing twice",
    )
