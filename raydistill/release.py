"""Releases: the folder that is served, what it says of itself, and the check before it is used.

release.json      written last: task, thresholds, metrics, SHA-256 of every other file
task.json         the task with its frozen vocabularies
keywords.txt      the prefilter
glance.safetensors   words' weights of the glance, where there is one
skip/ extractor/  quantised models, each with its tokenizer and card
specialists/NAME/ in the place of extractor/, where the manifest's `extra.specialists` names several
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import raydistill
from raydistill.digest import sha256
from raydistill.errors import SetupError
from raydistill.task import HasTasks, Task, fingerprint_of, shape_of, specs, tasks

MANIFEST = "release.json"
# Formats that can run code when loaded never get into or out of a release.
UNSAFE = frozenset(
    {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".npy", ".npz", ".joblib", ".h5", ".keras", ".py"}
    | {".pyc", ".sh", ".so", ".dylib", ".dll", ".exe"}
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What release.json says. `name` is `label` and the first digits of the content's hash."""

    name: str
    label: str
    created_at: str
    code: str
    task: str
    task_fingerprint: str
    task_shape: str
    dataset: str
    base: str | None
    adapter: str | None
    quantisation: str
    shapes: dict[str, Any]
    thresholds: dict[str, float]
    metrics: dict[str, Any]
    files: dict[str, str]
    licence: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Release(HasTasks):
    """A verified release folder. One that answers several `tasks` has more than its first."""

    folder: Path
    manifest: Manifest
    task: Task
    others: tuple[Task, ...] = ()

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def figures(self) -> dict[str, Any]:
        """What was measured of it."""
        return self.manifest.metrics

    @property
    def keywords(self) -> Path:
        return self.folder / "keywords.txt"


def write(
    folder: Path,
    fill: Callable[[Path], dict[str, Any]],
    *,
    task: Task,
    label: str,
    others: tuple[Task, ...] = (),
    **facts: Any,
) -> Release:
    """Writes a release: `fill` puts the files into a temporary folder and gives the metrics.

    The manifest comes last. `others` are further tasks of the same extractor, `facts` the
    Manifest's remaining fields. The name holds a hash of
    every file, the task and the thresholds, so equal names mean equal answers.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    metrics = fill(temporary)
    spec = specs((task, *others))
    (temporary / "task.json").write_text(json.dumps(spec, indent=2, ensure_ascii=False))
    files = {name: sha256(temporary / name) for name in _names(temporary)}
    for name in files:
        _refuse_unsafe(temporary, name)
    content = json.dumps([files, facts["thresholds"]], sort_keys=True)
    manifest = Manifest(
        name=f"{label}-{hashlib.sha256(content.encode()).hexdigest()[:10]}",
        label=label,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        code=raydistill.__version__,
        task="+".join(one.name for one in (task, *others)),
        task_fingerprint=fingerprint_of((task, *others)),
        task_shape=shape_of((task, *others)),
        files=files,
        metrics=metrics,
        **facts,
    )
    (temporary / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2, ensure_ascii=False))
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
    return verify(folder)


def verify(folder: Path, *, expected: Task | None = None) -> Release:
    """The release in `folder`, every file's hash checked. Raises SetupError on anything amiss.

    `expected` is the task the caller means to serve: another task, or other fields, is refused.
    """
    manifest = _manifest(folder)
    found = set(_names(folder))
    for name in sorted(found | set(manifest.files)):
        _refuse_unsafe(folder, name)
        if name not in manifest.files:
            raise SetupError(f"{folder}/{name} is not in {MANIFEST}", todo="publish again")
        if name not in found:
            raise SetupError(f"{folder}/{name} is missing", todo="copy the release again")
        if sha256(folder / name) != manifest.files[name]:
            raise SetupError(
                f"{folder}/{name} was changed after publishing",
                expected=f"SHA-256 {manifest.files[name][:16]}…",
                todo="copy or publish the release again",
            )
    loaded, *others = tasks(json.loads((folder / "task.json").read_text()))
    found_fingerprint = fingerprint_of((loaded, *others))
    if found_fingerprint != manifest.task_fingerprint:
        raise SetupError(
            f"{folder}: task.json has fingerprint {found_fingerprint}",
            expected=manifest.task_fingerprint,
            todo="publish again",
        )
    if expected is not None and expected.shape not in [one.shape for one in (loaded, *others)]:
        raise SetupError(
            f"the release {manifest.name} answers task {manifest.task} ({loaded.shape})",
            expected=f"task {expected.name} ({expected.shape})",
            todo="choose another release= or task=",
        )
    return Release(folder, manifest, loaded, tuple(others))


def _refuse_unsafe(folder: Path, name: str) -> None:
    """Refuses a file by its name, and a pickle or an archive (it may hold one) by its content."""
    file = folder / name
    unsafe = Path(name).suffix.lower() in UNSAFE or file.is_symlink()
    if not unsafe and file.is_file():
        with file.open("rb") as stream:
            start = stream.read(4)
        # Protocols 2 to 5 begin so; torch and numpy write zip archives of pickles.
        pickled = start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5")
        unsafe = pickled or start == b"PK\3\4"
    if unsafe:
        raise SetupError(
            f"{folder}/{name} is of an unsafe format",
            expected="safetensors, CTranslate2 models, JSON and text",
            todo="take the file out and publish again",
        )


def task_of(folder: Path) -> Task:
    """The (first) task of a release that was verified before."""
    return tasks(json.loads((folder / "task.json").read_text()))[0]


def _manifest(folder: Path) -> Manifest:
    file = folder / MANIFEST
    if not file.is_file():
        raise SetupError(
            f"no release at {folder} ({MANIFEST} is missing)",
            expected="a folder written by publish",
            todo="run publish, or set release=",
        )
    try:
        return Manifest(**json.loads(file.read_text()))
    except (ValueError, TypeError) as problem:
        raise SetupError(f"{file} cannot be read: {problem}", todo="publish again") from None


def _names(folder: Path) -> list[str]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST)
    return sorted(file.relative_to(folder).as_posix() for file in files)
