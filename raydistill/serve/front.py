"""The front: what every request passes before a route sees it, and what is noted after it."""

import ipaddress
import json
import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raydistill.serve import tokens
from raydistill.serve.limits import Usage
from raydistill.serve.metrics import Metrics
from raydistill.serve.problems import Problem, busy
from raydistill.serve.tokens import Token, Tokens

log = logging.getLogger("raydistill.serve")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HERE = ("127.0.0.1", "localhost", "[::1]", "::1")


@dataclass(slots=True, kw_only=True)
class Doors:
    """Who is let in. Without tokens only callers who name this machine as their host are:

    a web page that resolves its own name to 127.0.0.1 is not.
    """

    tokens: Tokens = field(default_factory=lambda: Tokens(None))
    usage: Usage = field(default_factory=Usage)
    hosts: Sequence[str] = _HERE
    behind_proxy: bool = False
    draining: bool = False

    def enter(
        self, method: str, path: str, headers: Headers, client: str | None = None
    ) -> Token | None:
        """The token that a request came with. Raises Problem 401, 403, 429 or 503."""
        if self.tokens.file is None:
            if _host(headers) not in self.hosts:
                raise Problem(403, "wrong_host", f"it answers as {', '.join(self.hosts)}")
            if client is not None and not is_loopback(client):  # whoever opened the address wide
                raise Problem(403, "wrong_host", "without tokens it answers this machine alone")
        site = headers.get("sec-fetch-site", "none")
        if method not in ("GET", "HEAD") and site in ("cross-site", "same-site"):
            raise Problem(403, "cross_site", "other sites' pages may not call this service")
        if (scope := _scope(method, path)) is None:
            return None
        token = self.tokens.check(headers.get("authorization"), scope)
        if self.draining:
            raise busy("this process is going down", code="draining")
        self.usage.request(token)
        return token


def is_loopback(host: str) -> bool:
    """Whether an address, or `localhost`, is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host(headers: Headers) -> str:
    return re.sub(r":\d+$", "", headers.get("host", "")).lower()


def _scope(method: str, path: str) -> str | None:
    """What a token must be allowed for a path; None where none is asked for."""
    if path in ("/", "/healthz") or path.startswith("/page/"):
        return None
    if path.startswith("/v1/review"):
        return tokens.REVIEW
    return tokens.EXTRACT if method in ("GET", "HEAD") or path != "/v1/rollout" else tokens.ADMIN


class Front:
    """Middleware: request ids, doors, metrics, one line of log, and no bare 500.

    `tell_id` is False behind a proxy that adds X-Request-Id itself.
    """

    def __init__(self, app: ASGIApp, *, doors: Doors, metrics: Metrics, tell_id: bool) -> None:
        self.app, self.doors, self.metrics, self.tell_id = app, doors, metrics, tell_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["request_id"], state["note"], state["token"] = request_id, {}, None
        began = time.perf_counter()
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(scope=message)
                if self.tell_id:
                    sent["X-Request-Id"] = request_id
                sent.setdefault("X-Content-Type-Options", "nosniff")
                sent.setdefault("Cache-Control", "no-store")
            await send(message)

        self.metrics.waiting.inc()
        try:
            client = scope.get("client")
            state["token"] = self.doors.enter(
                scope["method"], scope["path"], headers, client[0] if client else None
            )
            await self.app(scope, receive, noted)
        except Problem as problem:
            state["note"]["code"] = problem.code
            await problem.response(request_id)(scope, receive, noted)
        except Exception:
            state["note"]["code"] = "internal"
            log.exception("request %s failed", request_id)
            if not status:
                problem = Problem(500, "internal", "see the log under this request's id")
                await problem.response(request_id)(scope, receive, noted)
        finally:
            self.metrics.waiting.dec()
            self._note(scope, status, time.perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        state = scope["state"]
        self.metrics.requests.labels(route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        if code := state["note"].get("code"):
            self.metrics.problems.labels(code).inc()
        if not log.isEnabledFor(logging.INFO):
            return
        token: Token | None = state["token"]
        line = {
            "event": "request",
            "id": state["request_id"],
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 2),
            "token": token.name if token else None,
        }
        log.info(json.dumps(line | state["note"]))
