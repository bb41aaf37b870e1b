"""Bodies: what a request may hold, and what the interface's description says of it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, ValidationError

from raydistill.serve.problems import Problem
from raydistill.serve.rollout import Mode

SENTENCE = "Acme Corp. acquired Widget LLC on May 3, 2021."
Key = Annotated[StrictStr, Field(min_length=1, max_length=200)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]


class Texts(BaseModel):
    """Texts of a task."""

    model_config = ConfigDict(extra="forbid")

    sentences: Annotated[list[StrictStr], Field(min_length=1)]
    key: Key | None = None


class Extract(BaseModel):
    """Sentences, or one filing as text or as HTML."""

    model_config = ConfigDict(extra="forbid")

    sentences: Annotated[list[StrictStr] | None, Field(min_length=1)] = None
    text: Annotated[StrictStr | None, Field(min_length=1)] = None
    html: Annotated[StrictStr | None, Field(min_length=1)] = None
    only_records: StrictBool = False
    key: Key | None = None


class Change(BaseModel):
    """A change of the rollout: what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    mode: Mode | None = None
    share: Share | None = None
    mirror: Share | None = None
    confidence: Share | None = None
    reason: Annotated[StrictStr, Field(max_length=500)] = ""


Body = Texts | Extract | Change


def parsed(kind: type[Any], content: bytes) -> Any:
    """The body as `kind`. Raises Problem: 400 for what is no JSON, 422 naming the field."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise Problem(400, "invalid_json", first["msg"]) from None
        where = ".".join(str(part) for part in first["loc"])[:200]
        detail = f"{where}: {first['msg']}" if where else first["msg"]
        raise Problem(422, "invalid_request", detail, field=where or None) from None


def described(kind: type[BaseModel], **examples: Any) -> dict[str, Any]:
    """The OpenAPI requestBody of a JSON body with examples."""
    shown = {name: {"value": value} for name, value in examples.items()}
    schema = kind.model_json_schema(ref_template=f"#/components/schemas/{kind.__name__}-{{model}}")
    defs = schema.pop("$defs", {})
    content = {"schema": _inlined(schema, defs, kind.__name__), "examples": shown}
    return {"required": True, "content": {"application/json": content}}


def _inlined(value: Any, defs: dict[str, Any], name: str) -> Any:
    """The schema with its references replaced by what they mean."""
    if isinstance(value, dict):
        if "$ref" in value:
            return _inlined(defs[value["$ref"].rpartition(f"{name}-")[2]], defs, name)
        return {key: _inlined(one, defs, name) for key, one in value.items()}
    return [_inlined(one, defs, name) for one in value] if isinstance(value, list) else value


RESULT: dict[str, Any] = {
    "type": "object",
    "required": [
        "index", "decision", "by", "skip_score", "confidence", "error", "records", "spans",
    ],
    "properties": {
        "index": {"type": "integer"},
        "decision": {"enum": ["keyword", "skip", "extract", "teacher", "error"]},
        "by": {"enum": ["student", "teacher"]},
        "skip_score": {"type": ["number", "null"]},
        "confidence": {"type": ["number", "null"]},
        "error": {"type": ["string", "null"]},
        "records": {"type": "array", "items": {"type": "object"}},
        "spans": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": "integer"}},
            },
        },
    },
}  # fmt: skip
RESULTS: dict[str, Any] = {
    "type": "object",
    "required": ["request_id", "release", "mode", "latency_ms", "results"],
    "properties": {
        "request_id": {"type": "string"},
        "release": {"type": "string"},
        "mode": {"enum": [one.value for one in Mode]},
        "latency_ms": {"type": "number"},
        "results": {"type": "array", "items": RESULT},
    },
}
PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "field": {"type": "string"},
        "request_id": {"type": "string"},
    },
}
