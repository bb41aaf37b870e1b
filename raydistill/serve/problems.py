"""Problems: what is wrong with a request, as problem+json (RFC 9457) with a code and a field."""

import json
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from raydistill.errors import RaydistillError

MEDIA_TYPE = "application/problem+json"


class Problem(RaydistillError):
    """A request that is not answered: an HTTP status, a short code, and what to say about it.

    `retry_after_s` is when to come again, where that helps; `headers` go onto the response.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code, self.detail, self.field = status, code, detail, field
        self.retry_after_s = retry_after_s
        self.headers = headers or {}

    def body(self, request_id: str) -> dict[str, Any]:
        """The members of the problem's JSON object."""
        made: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.field is not None:
            made["field"] = self.field
        return made | {"request_id": request_id}

    def response(self, request_id: str) -> Response:
        """The problem as an HTTP response."""
        headers = dict(self.headers)
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after_s + 0.499)))
        content = json.dumps(self.body(request_id)).encode()
        return Response(content, self.status, headers, MEDIA_TYPE)


def busy(detail: str, *, code: str = "busy", retry_after_s: float = 1.0) -> Problem:
    """503: come again in a while."""
    return Problem(503, code, detail, retry_after_s=retry_after_s)
