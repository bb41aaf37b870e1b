"""The registry: which releases there are, which one is in production, and who moved it there.

`raydistill.releases` has a row a release, `raydistill.release_moves` a row a move; a move and its
effect commit together. A release goes candidate -> canary -> production, through gates; the one it
replaces is retired, and `rollback` brings it back.
"""

import getpass
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from raydistill import postgres, release
from raydistill.errors import SetupError
from raydistill.progress import table
from raydistill.proof import model_card
from raydistill.proof.gates import Gates, refusals
from raydistill.proof.report import replaced
from raydistill.release import Release
from raydistill.source import SourceConfig, dsn

STAGES = ("candidate", "canary", "production", "retired")
_TABLES = (
    postgres.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS raydistill.releases (
    name text PRIMARY KEY, label text NOT NULL, stage text NOT NULL
        CHECK (stage IN ('candidate', 'canary', 'production', 'retired')),
    folder text NOT NULL, manifest jsonb NOT NULL, report jsonb,
    published_at timestamptz NOT NULL DEFAULT now(), moved_at timestamptz NOT NULL DEFAULT now());
CREATE UNIQUE INDEX IF NOT EXISTS releases_production
    ON raydistill.releases (label) WHERE stage = 'production';
CREATE TABLE IF NOT EXISTS raydistill.release_moves (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, label text NOT NULL,
    from_stage text NOT NULL, to_stage text NOT NULL, replaced text, reason text NOT NULL,
    moved_by text NOT NULL, moved_at timestamptz NOT NULL DEFAULT now());
"""
)


class Action(Enum):
    """What a job does with the registry."""

    list = "list"
    publish = "publish"
    diff = "diff"
    promote = "promote"
    rollback = "rollback"


@dataclass(kw_only=True, slots=True)
class Config:
    """An action and what it needs: `release` (a folder) to publish, `name` to promote, `name` and
    `other` to compare, `label` to list or roll back. `link` is a symbolic link to the production
    folder, kept right by every move, so that other jobs can say release=LINK."""

    root: str = "runs"
    source: SourceConfig
    action: Action = Action.list
    release: str | None = None
    report: str | None = None
    name: str | None = None
    other: str | None = None
    label: str | None = None
    to: str | None = None
    reason: str = ""
    link: str | None = None
    gates: Gates = field(default_factory=Gates)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the registry."""

    name: str
    label: str
    stage: str
    folder: Path
    manifest: dict[str, Any]
    report: dict[str, Any] | None
    published_at: str


def run(config: Config) -> Any:
    """Does the action of `config` and prints what came of it."""
    database = dsn(config.source)
    prepare(database)
    if config.action is Action.publish:
        folder = Path(_given(config.release, "release=FOLDER"))
        made = publish(database, folder, _report(config.report))
        card = model_card.markdown(made.manifest, entry(database, made.name).report)
        replaced(folder.with_name(f"{folder.name}.card.md"), card)
        print(f"published {made.name} as candidate; its card: {folder.name}.card.md")
        return made
    if config.action is Action.diff:
        names = _given(config.name, "name=NAME"), _given(config.other, "other=NAME")
        found = diff(*(entry(database, name) for name in names))
        print(table([(k, str(a), str(b)) for k, a, b in found], ("what", *names)))
        return found
    if config.action is Action.promote:
        moved = promote(
            database, _given(config.name, "name=NAME"), config.gates,
            to=config.to, reason=config.reason, link=config.link,
        )  # fmt: skip
        print(f"{moved.name} is now {moved.stage}")
        return moved
    if config.action is Action.rollback:
        back = rollback(
            database, _given(config.label, "label=LABEL"), reason=config.reason, link=config.link
        )
        print(f"production of {back.label} is {back.name} again ({back.folder})")
        return back
    found = entries(database, config.label)
    rows = [(e.name, e.label, e.stage, e.published_at, _quality(e), str(e.folder)) for e in found]
    print(table(rows, ("release", "label", "stage", "published", "agreement", "folder")))
    return found


def _given(value: str | None, key: str) -> str:
    if value is None:
        raise SetupError(f"this action needs {key}", todo=f"add {key}")
    return value


def _report(file: str | None) -> dict[str, Any] | None:
    if file is None:
        return None
    if not Path(file).is_file():
        raise SetupError(f"no report at {file}", expected="report.json", todo="run evaluate")
    return json.loads(Path(file).read_text())


def _quality(one: Entry) -> str:
    part = (one.report or {}).get("extractor", {}).get("all")
    return f"{part['f1']:.1%}" if part else "not evaluated"


def prepare(database: str) -> None:
    """Makes the registry's tables where they are missing."""
    with postgres.connect(database) as connection:
        postgres.script(connection, _TABLES)


def publish(database: str, folder: Path, report: Mapping[str, Any] | None) -> Release:
    """Enters a verified release as a candidate; again with a report: replaces the report.

    Raises SetupError where the folder does not verify, or where the report is of another release.
    """
    opened = release.verify(folder)
    if report is not None and report.get("release") != opened.name:
        raise SetupError(
            f"the report is of {report.get('release')}",
            expected=f"of {opened.name}",
            todo="run evaluate on this release",
        )
    with postgres.connect(database) as connection:
        postgres.fetch(
            connection,
            "INSERT INTO raydistill.releases (name, label, stage, folder, manifest, report)"
            " VALUES (%s, %s, 'candidate', %s, %s::jsonb, %s::jsonb) ON CONFLICT (name) DO UPDATE"
            " SET report = coalesce(excluded.report, releases.report), folder = excluded.folder"
            " RETURNING name",
            [
                opened.name,
                opened.manifest.label,
                str(folder.absolute()),
                json.dumps(asdict(opened.manifest)),
                None if report is None else json.dumps(report),
            ],
        )
    return opened


_COLUMNS = "name, label, stage, folder, manifest, report, published_at::text"


def entries(database: str, label: str | None = None) -> list[Entry]:
    """Every release, newest first; of one label where it is given."""
    rows = postgres.fetch(
        database,
        f"SELECT {_COLUMNS} FROM raydistill.releases WHERE %s::text IS NULL OR label = %s"
        " ORDER BY published_at DESC, name",
        [label, label],
    )
    return [_entry(row) for row in rows]


def entry(database: str, name: str) -> Entry:
    """One release. Raises SetupError where the registry has no such name."""
    for one in entries(database):
        if one.name == name:
            return one
    known = ", ".join(one.name for one in entries(database)[:5]) or "none yet"
    raise SetupError(f"no release {name}", expected=known, todo="publish it, or correct name=")


def production(database: str, label: str) -> Entry | None:
    """The release in production, or None."""
    return next((one for one in entries(database, label) if one.stage == "production"), None)


def _entry(row: Any) -> Entry:
    name, label, stage, folder, manifest, report, published_at = row
    return Entry(name, label, stage, Path(folder), manifest, report, published_at[:19])


def promote(
    database: str,
    name: str,
    gates: Gates,
    *,
    to: str | None = None,
    reason: str = "",
    link: str | None = None,
) -> Entry:
    """Moves a release one stage on (or `to` one), if every gate lets it; production is replaced.

    Raises SetupError with the reason of each gate that refuses.
    """
    one = entry(database, name)
    if one.stage == "production":
        raise SetupError(f"{name} is in production already", todo="nothing, or rollback")
    target = to or ("production" if one.stage == "canary" else "canary")
    if target not in ("canary", "production"):
        raise SetupError(f"to={target}", expected="canary | production")
    if target == "production" and one.stage != "canary" and gates.canary_first:
        raise SetupError(
            f"{name} is {one.stage}", expected="a canary", todo="promote it to canary first"
        )
    opened = release.verify(one.folder)
    _refuse_other(one, opened)
    current = production(database, one.label)
    if current is not None and current.manifest["task_shape"] != one.manifest["task_shape"]:
        raise SetupError(
            f"{name} answers task {one.manifest['task']} ({one.manifest['task_shape']})",
            expected=f"that of production ({current.manifest['task_shape']})",
            todo="publish it under another label",
        )
    reasons = refusals(opened, one.report, current.report if current else None, gates)
    if reasons:
        raise SetupError(
            f"{name} may not become {target}:\n  - " + "\n  - ".join(reasons),
            todo="train on, evaluate again, or change gates.* with good reason",
        )
    _move(database, one, target, reason or "promoted")
    return _linked(database, name, link)


def _refuse_other(one: Entry, opened: Release) -> None:
    if opened.name != one.name:
        raise SetupError(
            f"{one.folder} holds {opened.name}",
            expected=one.name,
            todo="copy the release back, or publish this one",
        )


def rollback(database: str, label: str, *, reason: str = "", link: str | None = None) -> Entry:
    """Brings back what production replaced last. Raises SetupError where there is nothing."""
    current = production(database, label)
    moves = postgres.fetch(
        database,
        "SELECT replaced FROM raydistill.release_moves WHERE name = %s AND to_stage = 'production'"
        " ORDER BY id DESC LIMIT 1",
        [current.name if current else ""],
    )
    if not moves or moves[0][0] is None:
        raise SetupError(
            f"nothing to roll back: {current.name if current else 'no release'} is the first of"
            f" {label} in production"
        )
    former = entry(database, moves[0][0])
    _refuse_other(former, release.verify(former.folder))
    _move(database, former, "production", reason or "rolled back", remembers=False)
    return _linked(database, former.name, link)


def _move(database: str, one: Entry, to: str, reason: str, *, remembers: bool = True) -> None:
    """One transaction: production of the label is retired, the release moves, the move is written.

    A rollback does not remember what it replaces: a second one goes further back.
    """
    with postgres.connect(database) as connection, connection.transaction():
        # Two who promote at once take turns.
        postgres.fetch(connection, "SELECT pg_advisory_xact_lock(hashtext(%s))::text", [one.label])
        former: str | None = None
        if to == "production":
            retired = postgres.fetch(
                connection,
                "UPDATE raydistill.releases SET stage = 'retired', moved_at = now()"
                " WHERE label = %s AND stage = 'production' AND name <> %s RETURNING name",
                [one.label, one.name],
            )
            former = retired[0][0] if retired else None
        moved = postgres.fetch(
            connection,
            "UPDATE raydistill.releases SET stage = %s, moved_at = now()"
            " WHERE name = %s AND stage = %s RETURNING name",
            [to, one.name, one.stage],
        )
        if not moved:
            raise SetupError(f"{one.name} was moved by somebody else", todo="list, and try again")
        if remembers:
            postgres.fetch(
                connection,
                "INSERT INTO raydistill.release_moves"
                " (name, label, from_stage, to_stage, replaced, reason, moved_by)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
                [one.name, one.label, one.stage, to, former, reason, getpass.getuser()],
            )
        else:
            _remember_rollback(connection, one, to, reason)


def _remember_rollback(connection: Any, one: Entry, to: str, reason: str) -> None:
    """Writes the rollback with what its release had replaced when it was promoted itself."""
    postgres.fetch(
        connection,
        "INSERT INTO raydistill.release_moves"
        " (name, label, from_stage, to_stage, replaced, reason, moved_by)"
        " SELECT %s, %s, %s, %s, (SELECT replaced FROM raydistill.release_moves WHERE name = %s"
        " AND to_stage = 'production' ORDER BY id DESC LIMIT 1), %s, %s RETURNING id",
        [one.name, one.label, one.stage, to, one.name, reason, getpass.getuser()],
    )


def _linked(database: str, name: str, link: str | None) -> Entry:
    """The entry as it is now; `link` points to its folder when it is in production."""
    one = entry(database, name)
    if link is not None and one.stage == "production":
        place = Path(link)
        temporary = place.with_name(place.name + ".tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(one.folder)
        temporary.rename(place)  # a reader sees the old release or the new one
    return one


def diff(one: Entry, other: Entry) -> list[tuple[str, Any, Any]]:
    """What differs between two releases: data, thresholds, shapes, licences and metrics."""
    sides: list[dict[str, Any]] = []
    for each in (one, other):
        kept = {
            key: value
            for key, value in each.manifest.items()
            if key not in ("files", "created_at", "metrics", "name", "extra")
        }
        extra = dict(each.manifest.get("extra") or {})
        map_ = extra.pop("calibration", None) or {}
        sure = {"kind": map_.get("kind"), "ece": map_.get("judged", {}).get("ece")}
        measured = each.manifest["metrics"]
        made = each.report or {}
        part = made.get("extractor", {}).get("all", {})
        metrics = {key: part.get(key) for key in ("f1", "agreement_low", "precision", "recall")}
        metrics["invented_per_1000"] = made.get("invented_per_1000")
        facts = {
            "extra": extra,
            "data": measured.get("data", {}),
            "metrics": metrics,
            "parity": measured.get("parity", {}),
            "validation": measured.get("recall", {}),
            "calibration": sure,
        }
        sides.append(_flat(kept) | _flat(facts))
    keys = list(dict.fromkeys([*sides[0], *sides[1]]))
    return [
        (key, sides[0].get(key), sides[1].get(key))
        for key in keys
        if sides[0].get(key) != sides[1].get(key)
    ]


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, one in value.items():
        if isinstance(one, dict):
            out |= _flat(one, f"{prefix}{key}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            out[prefix + key] = one
    return out
