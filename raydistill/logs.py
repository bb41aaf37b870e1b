"""Structured logs: with RAYDISTILL_LOG=json every line of a verb is one JSON object.

What people read and what machines read is the same text; a line's object adds when it was said, the
verb, the run and Ray's job. A chunk's facts are lines of their own, which people are spared.
"""

import io
import json
import os
import sys
from datetime import datetime, timezone
from typing import Any, TextIO

ASKED = "RAYDISTILL_LOG"  # the one setting that is not in conf: it must hold before conf is read


class JsonLines(io.TextIOBase):
    """A stream whose lines come out of another as JSON objects with `about` in each."""

    def __init__(self, out: TextIO, **about: str) -> None:
        self.out, self.about, self.pending = out, about, ""

    def write(self, s: str) -> int:
        self.pending += s
        *lines, self.pending = self.pending.split("\n")
        for line in lines:
            if line.strip():
                self.put(text=line)
        return len(s)

    def put(self, **facts: Any) -> None:
        """One object of these facts."""
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        object_ = {"at": at, **self.about, **facts}
        self.out.write(json.dumps(object_, ensure_ascii=False, default=str) + "\n")
        self.out.flush()

    def flush(self) -> None:
        self.out.flush()


def begin(verb: str) -> None:
    """Turns this process's lines into objects, if RAYDISTILL_LOG=json asks for it."""
    if os.environ.get(ASKED) != "json" or isinstance(sys.stdout, JsonLines):
        return
    job = os.environ.get("RAY_JOB_SUBMISSION_ID", "")
    about = {"verb": verb} | ({"job": job} if job else {})
    sys.stdout = JsonLines(sys.stdout, **about, stream="out")
    sys.stderr = JsonLines(sys.stderr, **about, stream="err")


def chunk(**facts: Any) -> None:
    """A committed chunk as an object; nothing where logs are for people."""
    if isinstance(sys.stdout, JsonLines):
        sys.stdout.put(chunk_committed=facts)
