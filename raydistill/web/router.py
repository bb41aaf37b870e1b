"""Routes of the page: its own files at `/` and `/page`, the review queue and quality as JSON.

The files are open and hold nothing; everything under `/v1` belongs behind the service's tokens.
All text reaches the browser as JSON and is put there as text: a strict Content-Security-Policy
with Trusted Types makes the browser refuse anything else.
"""

import hashlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from raydistill.errors import AnswerError, DataError, RaydistillError
from raydistill.fields import Text
from raydistill.task import Task
from raydistill.web.review import Queue

SUGGESTIONS = 400  # values of an open field that an editor offers
MEDIA = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
NAMES = (
    "theme.js",
    "page.css",
    "page.js",
    "extract.js",
    "review.js",
    "quality.js",
    "dom.js",
    "icon.svg",
)
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}
STATUS = {"not_found": 404, "decided": 409, "no_answer": 422}
Quality = Callable[[int], dict[str, Any]]


class Decision(BaseModel):
    """What a person says of a row. `answer` goes with `corrected`, in the task's JSON form."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["teacher", "student", "corrected", "dismissed", "open"]
    reviewer: Annotated[
        str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f]$")
    ]
    answer: dict[str, Any] | None = None


def pages() -> APIRouter:
    """The page and its files. No token is asked for: there is nothing in them."""
    router = APIRouter(include_in_schema=False)
    held = {name: _file(name) for name in ("page.html", *NAMES)}

    def page(request: Request) -> Response:
        return _sent(request, *held["page.html"], MEDIA["html"])

    def part(request: Request, name: str) -> Response:
        if name not in NAMES:
            raise HTTPException(404, f"the page has no file {name!r}")
        return _sent(request, *held[name], MEDIA[name.rpartition(".")[2]])

    router.add_api_route("/", page, methods=["GET", "HEAD"])
    router.add_api_route("/page/{name}", part, methods=["GET", "HEAD"])
    return router


def _file(name: str) -> tuple[bytes, str]:
    content = (files("raydistill.web") / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:20]}"'


def _sent(request: Request, content: bytes, tag: str, media: str) -> Response:
    headers = {**HEADERS, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media)


def reviews(queue: Queue | None) -> APIRouter:
    """The review queue under `/v1/review`; 404 where the service has no database."""
    router = APIRouter(prefix="/v1/review", tags=["review"])
    prepared = False

    def there() -> Queue:
        nonlocal prepared
        if queue is None:
            raise HTTPException(404, "review needs a database, and the service has none")
        if not prepared:  # nobody may have written into it yet
            queue.prepare()
            prepared = True
        return queue

    def listed(
        state: Literal["open", "teacher", "student", "corrected", "dismissed"] = "open",
        reason: Literal["abstained", "disagreement"] | None = None,
        after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> dict[str, Any]:
        """Rows of the queue, how many are in each state, and the fields of an answer."""
        with _answered():
            held = there()
            rows = held.listed(state=state, reason=reason, after=after, limit=limit)
            return {"task": form(held.task), "counts": held.counts(), "rows": rows}

    def decide(id: Annotated[int, Path(ge=1, lt=2**63)], said: Decision) -> dict[str, Any]:
        """Records a decision; gives the row as it now stands."""
        with _answered():
            return there().decide(id, said.verdict, reviewer=said.reviewer, answer=said.answer)

    def labels() -> Response:
        """The human labels as the signed CSV sheet that `build corrections=` reads."""
        with _answered():
            text = there().sheet()
        return Response(
            text.encode(),
            media_type="text/csv; charset=utf-8",
            headers={
                "Content-Disposition": 'attachment; filename="labels.csv"',
                "X-Content-Type-Options": "nosniff",
            },
        )

    router.add_api_route("", listed, methods=["GET"])
    router.add_api_route("/labels.csv", labels, methods=["GET"], response_class=Response)
    router.add_api_route("/{id}", decide, methods=["POST"])
    return router


def quality(measured: Quality | None) -> APIRouter:
    """Agreement, skip rate and drift by day under `/v1/quality`; 404 without a database."""
    router = APIRouter(prefix="/v1/quality", tags=["quality"])

    def read(days: Annotated[int, Query(ge=1, le=365)] = 30) -> dict[str, Any]:
        """What the service measured of its own answers in the last `days`."""
        with _answered():
            if measured is None:
                raise HTTPException(404, "quality needs a database, and the service has none")
            return measured(days)

    router.add_api_route("", read, methods=["GET"])
    return router


def form(task: Task) -> dict[str, Any]:
    """The fields of a task as an editor needs them; of open vocabularies the first values."""
    shown: list[dict[str, Any]] = []
    for one, spec in zip(task.fields, task.spec()["fields"], strict=True):
        spec = {name: spec[name] for name in spec if name not in ("vocabulary", "weight")}
        if isinstance(one, Text):
            spec["suggestions"] = list(one.vocabulary[:SUGGESTIONS])
        shown.append(spec)
    return {"name": task.name, "key": task.key, "single": task.single, "fields": shown}


@contextmanager
def _answered() -> Generator[None, None, None]:
    """Our errors as HTTP's: what the caller got wrong is 4xx, a database that is away 503."""
    try:
        yield
    except AnswerError as problem:
        raise HTTPException(422, f"answer: {problem}") from None
    except DataError as problem:
        raise HTTPException(STATUS.get(problem.code, 422), str(problem)) from None
    except RaydistillError:  # its text may name hosts and roles: not for a browser
        raise HTTPException(
            503, "the database does not answer", headers={"Retry-After": "5"}
        ) from None
