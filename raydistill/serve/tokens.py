"""Bearer tokens: hashed in a file, with scopes, rate and quota each; revoked without a restart.

A token is `rd_NAME_SECRET` with a secret of 256 random bits, so one SHA-256 is a safe hash: there
is nothing to guess. The file is JSON lines, readable by its owner alone; it holds hashes only.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from raydistill.errors import SetupError
from raydistill.serve.problems import Problem

EXTRACT, REVIEW, ADMIN = "extract", "review", "admin"
SCOPES = (EXTRACT, REVIEW, ADMIN)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_TOKEN = re.compile(r"rd_([a-z0-9][a-z0-9-]{0,39})_([A-Za-z0-9_-]{20,100})")
_ASK = {"WWW-Authenticate": 'Bearer realm="raydistill"'}


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept: `rate_per_s` bounds requests, `quota` the sentences of a day (UTC)."""

    name: str
    hash: str
    scopes: tuple[str, ...] = (EXTRACT,)
    rate_per_s: float | None = None
    quota: int | None = None
    created_at: str = ""
    revoked_at: str | None = None


def create(
    file: Path,
    name: str,
    *,
    scopes: tuple[str, ...] = (EXTRACT,),
    rate_per_s: float | None = None,
    quota: int | None = None,
) -> str:
    """A new token in `file`; what is returned is shown once and kept nowhere."""
    if not _NAME.fullmatch(name):
        raise SetupError(f"name={name!r}", expected="1 to 40 of a-z, 0-9 and -")
    if unknown := set(scopes) - set(SCOPES):
        raise SetupError(f"scopes {sorted(unknown)}", expected=f"some of {', '.join(SCOPES)}")
    known = read(file) if file.exists() else {}
    if name in known and known[name].revoked_at is None:
        raise SetupError(f"there is a token {name!r}", todo="revoke it first, or take another name")
    secret = secrets.token_urlsafe(32)
    made = Token(name, _hash(secret), tuple(scopes), rate_per_s, quota, _now())
    _write(file, known | {name: made})
    return f"rd_{name}_{secret}"


def revoke(file: Path, name: str) -> None:
    """Ends a token: from then on it gets 403."""
    known = read(file)
    if name not in known:
        raise SetupError(f"no token {name!r}", expected=" | ".join(known) or "a token that exists")
    _write(file, known | {name: replace(known[name], revoked_at=_now())})


def read(file: Path) -> dict[str, Token]:
    """The tokens of a file by name. Raises SetupError where it is no such file."""
    try:
        rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        return {row["name"]: Token(**row | {"scopes": tuple(row["scopes"])}) for row in rows}
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise SetupError(
            f"tokens file {file}: {problem}",
            expected="a file that action=token wrote",
            todo="python jobs/serve.py action=token name=NAME",
        ) from None


def _write(file: Path, tokens: dict[str, Token]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(asdict(one)) + "\n" for one in tokens.values())
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mode 0600
    with os.fdopen(handle, "w") as stream:
        stream.write(lines)
    Path(temporary).replace(file)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Tokens:
    """The tokens of a file, read again when it changes. Without a file everybody is let in."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.known: dict[str, Token] = read(file) if file else {}
        self._stamp = _stamp(file)

    def check(self, authorization: str | None, scope: str) -> Token | None:
        """The token of a request's Authorization header; None where no tokens are asked for.

        Raises Problem: 401 for none or a wrong one, 403 for a revoked one or a missing scope.
        """
        if self.file is None:
            return None
        self._refresh()
        presented = _presented(authorization)
        if presented is None:
            raise Problem(401, "no_token", "send Authorization: Bearer TOKEN", headers=_ASK)
        found = _TOKEN.fullmatch(presented)
        token = self.known.get(found[1]) if found else None
        right = hmac.compare_digest(
            _hash(found[2] if found else ""), token.hash if token else "0" * 64
        )
        if token is None or not right:
            raise Problem(401, "wrong_token", "this token is not known", headers=_ASK)
        if token.revoked_at is not None:
            raise Problem(403, "revoked_token", f"this token was revoked at {token.revoked_at}")
        if scope not in token.scopes and ADMIN not in token.scopes:
            raise Problem(403, "wrong_scope", f"this token may not {scope}")
        return token

    def _refresh(self) -> None:
        stamp = _stamp(self.file)
        if stamp != self._stamp and self.file is not None:
            try:
                self.known = read(self.file)
            except SetupError:  # gone or broken: nobody is let in until it is mended
                self.known = {}
            self._stamp = stamp


def _stamp(file: Path | None) -> Any:
    try:
        found = file.stat() if file else None
    except OSError:
        return "gone"
    return found and (found.st_mtime_ns, found.st_size, found.st_ino)


def _presented(authorization: str | None) -> str | None:
    """The token in `Bearer TOKEN`; None where there is no such header."""
    kind, _, value = (authorization or "").strip().partition(" ")
    return value.strip() if kind.lower() == "bearer" else None
