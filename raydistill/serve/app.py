"""The application: routes over a service. The one home of FastAPI beside the page's routes."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

import raydistill
from raydistill.errors import FilingError, SetupError
from raydistill.release import verify
from raydistill.serve import bodies
from raydistill.serve import limits as bounds
from raydistill.serve.answerers import told, where
from raydistill.serve.bodies import PROBLEM, RESULTS, SENTENCE
from raydistill.serve.filing import Reading, Streamed, result
from raydistill.serve.front import Doors, Front
from raydistill.serve.limits import Limits, Places, Usage
from raydistill.serve.metrics import CONTENT_TYPE
from raydistill.serve.problems import MEDIA_TYPE, Problem, busy
from raydistill.serve.rollout import LADDER
from raydistill.serve.service import Answered, Service
from raydistill.serve.tokens import Token

_FILES = ("text/plain", "text/html", "application/octet-stream")
_PROBLEMS = ("400", "401", "403", "408", "413", "415", "422", "429", "503")


def create(
    service: Service,
    *,
    limits: Limits | None = None,
    doors: Doors | None = None,
    routers: Sequence[APIRouter] = (),
    log_text: bool = False,
    folders: dict[str, str] | None = None,
    main: str | None = None,
) -> FastAPI:
    """The application of a service.

    `main` is the task of /v1/extract (the first where it is None), `folders` the releases' paths by
    task, looked at again by /v1/release; `log_text` lets sentences into the log.
    """
    made = doors or Doors()
    first = main or next(iter(service.releases))
    routes = _Routes(service, limits or Limits(), made.usage, log_text, folders or {}, first)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        routes.ready = True
        yield
        routes.ready = False
        await service.close()

    app = FastAPI(
        title="raydistill",
        version=raydistill.__version__,
        description="Events in sentences of SEC filings, by a small model taught by a large one.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(Front, doors=made, metrics=service.metrics, tell_id=not made.behind_proxy)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    _add(app, routes)
    for router in routers:
        app.include_router(router)
    return app


@dataclass(slots=True)
class _Routes:
    """What the routes share."""

    service: Service
    limits: Limits
    usage: Usage
    log_text: bool
    folders: dict[str, str]
    main: str
    ready: bool = False
    waiting: Places = field(init=False)
    filings: Places = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = Places(self.limits.waiting, "requests")
        self.filings = Places(self.limits.filings, "filings")

    async def extract(self, request: Request) -> Response:
        """Events of sentences as JSON, or of one filing as a stream of NDJSON lines."""
        kind = _content_type(request)
        if kind in _FILES:
            only = request.query_params.get("only_records", "false").lower()
            if only not in ("true", "false", "1", "0"):
                raise Problem(422, "invalid_request", "true or false", field="only_records")
            content = await bounds.body(request, self.limits)
            return await self._filing(request, content, only_records=only in ("true", "1"))
        asked: bodies.Extract = await self._json(request, bodies.Extract)
        given = [n for n in ("sentences", "text", "html") if getattr(asked, n) is not None]
        if len(given) != 1:
            told = f"exactly one of sentences, text and html, not {', '.join(given) or 'none'}"
            raise Problem(422, "invalid_request", told, field=given[-1] if given else "sentences")
        if asked.sentences is not None:
            return await self._sentences(request, self.main, asked.sentences, asked.key)
        content = (asked.text or asked.html or "").encode()
        return await self._filing(request, content, only_records=asked.only_records, key=asked.key)

    async def texts(self, request: Request, task: str) -> Response:
        """The answers of one task to texts."""
        self.service.task(task)
        asked: bodies.Texts = await self._json(request, bodies.Texts)
        return await self._sentences(request, task, asked.sentences, asked.key)

    async def _json(self, request: Request, kind: type[Any]) -> Any:
        if (found := _content_type(request)) != "application/json":
            expected = f"application/json, or a filing as {', '.join(_FILES)}"
            raise Problem(415, "wrong_content_type", f"Content-Type {found!r}: {expected}")
        return bodies.parsed(kind, await bounds.body(request, self.limits))

    async def _sentences(
        self, request: Request, task: str, texts: list[str], key: str | None
    ) -> Response:
        began = time.perf_counter()
        if len(texts) > self.limits.sentences:
            detail = f"{len(texts)} sentences, at most {self.limits.sentences}"
            raise Problem(413, "too_many_sentences", detail, field="sentences")
        state = request.state
        self.usage.sentences(state.token, len(texts))
        with self.waiting.place():
            work = self.service.answer(
                task, texts, key=_key(key, state), request_id=state.request_id
            )
            try:
                answered = await asyncio.wait_for(work, self.limits.request_s)
            except (TimeoutError, asyncio.TimeoutError):
                late = f"no answer within {self.limits.request_s:g} s"
                raise busy(late, code="timeout") from None
        state.note |= {"task": task, "sentences": len(texts), "mode": answered.mode}
        if self.log_text:
            state.note["text"] = texts
        return _answer(self.service, task, answered, state.request_id, began)

    async def _filing(
        self, request: Request, content: bytes, *, only_records: bool, key: str | None = None
    ) -> Response:
        state = request.state
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.filings.place())
            began = time.perf_counter()
            try:
                split = await self.service.student.split(f"request-{state.request_id}", content)
            except FilingError as problem:
                raise Problem(400, "unreadable_filing", problem.code) from None
            if len(split.spans) > self.limits.filing_sentences:
                raise Problem(413, "too_many_sentences", f"{len(split.spans):,} sentences")
            self.usage.sentences(state.token, len(split.spans))
            reading = Reading(
                self.service, self.limits, self.service.task(self.main), split,
                _key(key, state), state.request_id, only_records, began,
            )  # fmt: skip
            await reading.start()
            state.note |= {"task": self.main, "sentences": len(split.spans), "filing": True}
            return Streamed(reading.lines(), stack.pop_all().close)

    async def release(self) -> Response:
        """The releases that answer, their tasks, and the mode."""
        for task, folder in self.folders.items():
            now = Path(folder).resolve()
            if now != self.service.releases[task].folder and where(now)[1]:
                with contextlib.suppress(SetupError):
                    self.service.releases[task] = await asyncio.to_thread(verify, now)
        state = self.service.rollout.state
        releases = self.service.releases
        main = told(releases, self.main)
        main |= {"mode": state.mode.value, "teacher": self.service.teacher is not None}
        main["tasks"] = {name: told(releases, name) for name in releases}
        return _json(main)

    async def rollout(self) -> Response:
        """The mode, its shares, and what the gate has seen in this process."""
        return _json(self.service.rollout.state.told() | {"gate": self.service.gate()})

    async def change(self, request: Request) -> Response:
        """Changes the mode or its shares, for every process, without a restart."""
        asked: bodies.Change = await self._json(request, bodies.Change)
        names = ("mode", "share", "mirror", "confidence")
        changes = {n: v for n in names if (v := getattr(asked, n)) is not None}
        try:
            if asked.mode is not None:
                self.service.allowed(asked.mode)
        except SetupError as problem:
            raise Problem(422, "invalid_request", problem.found, field="mode") from None
        token: Token | None = request.state.token
        by = token.name if token else "a local caller"
        self.service.rollout.change(reason=asked.reason or f"changed by {by}", **changes)
        return await self.rollout()

    async def health(self) -> Response:
        """200 while this process answers."""
        if not self.ready:
            raise busy("not ready", code="starting")
        return _json({"status": "ok"})

    async def measured(self) -> Response:
        """Metrics of this process in Prometheus' format."""
        mode = self.service.rollout.state.mode
        for one in LADDER:
            self.service.metrics.mode.labels(one.value).set(one is mode)
        return Response(self.service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _add(app: FastAPI, routes: _Routes) -> None:
    """The routes with their descriptions."""
    answers = {"200": _described("The answers", RESULTS)} | _problems()
    lines = {"application/x-ndjson": {"schema": {"type": "string"}}}
    both = {"200": {**answers["200"], "content": {**answers["200"]["content"], **lines}}}
    extract_body = bodies.described(
        bodies.Extract, sentences={"sentences": [SENTENCE]},
        text={"text": f"{SENTENCE} See Item 7.", "only_records": True},
        html={"html": f"<p>{SENTENCE}</p>"},
    )  # fmt: skip
    extract_body["content"] |= {kind: {"schema": {"type": "string"}} for kind in _FILES}
    only = {"name": "only_records", "in": "query", "schema": {"type": "boolean"}}
    app.add_api_route(
        "/v1/extract", routes.extract, methods=["POST"], tags=["extract"],
        openapi_extra={
            "requestBody": extract_body, "responses": answers | both, "parameters": [only]
        },
    )  # fmt: skip
    app.add_api_route(
        "/v1/tasks/{task}", routes.texts, methods=["POST"], tags=["extract"],
        openapi_extra={
            "requestBody": bodies.described(bodies.Texts, texts={"sentences": [SENTENCE]}),
            "responses": answers | {"404": _described("No such task", PROBLEM, MEDIA_TYPE)},
        },
    )  # fmt: skip
    plain = {"type": "object"}
    for path, route, method, extra in (
        ("/v1/release", routes.release, "GET", {}),
        ("/v1/rollout", routes.rollout, "GET", {}),
        ("/v1/rollout", routes.change, "PUT", {
            "requestBody": bodies.described(
                bodies.Change, canary={"mode": "canary", "share": 0.05, "reason": "first users"}
            )
        }),
        ("/healthz", routes.health, "GET", {}),
    ):  # fmt: skip
        responses = {"200": _described("As it is", plain)} | _problems()
        app.add_api_route(
            path, route, methods=[method], tags=["service"],
            openapi_extra={"responses": responses, **extra},
        )  # fmt: skip
    text = {"200": {"description": "Metrics", "content": {"text/plain": {}}}} | _problems()
    app.add_api_route(
        "/metrics", routes.measured, methods=["GET"], tags=["service"],
        openapi_extra={"responses": text},
    )  # fmt: skip


def _described(what: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": what, "content": {kind: {"schema": schema}}}


def _problems() -> dict[str, Any]:
    return {status: _described("A problem", PROBLEM, MEDIA_TYPE) for status in _PROBLEMS}


def _answer(
    service: Service, task: str, answered: Answered, request_id: str, began: float
) -> Response:
    owner = service.task(task)
    rows = [result(owner, at, row) for at, row in enumerate(answered.decisions)]
    latency = round(1000 * (time.perf_counter() - began), 3)
    return _json(
        {
            "request_id": request_id,
            "release": answered.release,
            "mode": answered.mode,
            "latency_ms": latency,
            "results": rows,
        }
    )


def _json(value: Any) -> Response:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, media_type="application/json")


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _key(key: str | None, state: Any) -> str:
    """What keeps a caller's requests together in a canary."""
    token: Token | None = state.token
    return key or (token.name if token else state.request_id)


def _problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    request.state.note["code"] = problem.code
    return problem.response(request.state.request_id)


def _http(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    codes = {404: "no_such_path", 405: "wrong_method"}
    code = codes.get(problem.status_code, "invalid_request")
    headers = dict(problem.headers or {})
    made = Problem(problem.status_code, code, str(problem.detail), headers=headers)
    return _problem(request, made)


def _validation(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, RequestValidationError)
    first = problem.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return _problem(
        request, Problem(422, "invalid_request", f"{where}: {first['msg']}", field=where or None)
    )
