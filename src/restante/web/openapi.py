"""The OpenAPI 3.1 document, made from the operations and from the structs that judge and answer; nothing is said twice.

Served at /openapi.json, and as a page at /docs (web/pages). Its schemas say what is posted and answered at HTTP 200;
what a path outside of them gets (§12.15) stands among the responses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

import restante
from restante.core.allowance import UNLIMITED, Allowance
from restante.core.errors import CREATED_CODE, OK_CODE, InternalError, NotFound, RateExceeded, Refusal, Unauthorized
from restante.web import examples, wire
from restante.web.operation import Operation

Json = dict[str, Any]

_SCHEMAS: Final = "#/components/schemas/"
_OUR_SECTIONS: Final = re.compile(r"\s*\([^()]*§[^()]*\)")  # docstrings cite what clients do not have
_ABOUT: Final = f"""\
Prompts in as tasks, answers held until you call for them. Clients of DataForSEO's "LLM Responses" API work when only
the host changes.

HTTP answers 200 even when tasks fail: look at the `status_code` of the envelope and of each of its tasks, of which
{OK_CODE} and {CREATED_CODE} are successes. In what you post, null means "not sent".

`.ai` behind a path gives a flat answer without empty fields, `.xml` gives XML. Requests may be sent with
`Content-Encoding: gzip`; answers are compressed where the client accepts it. A path that does not exist is answered
with HTTP 404, within `/v3/ai_optimization` and `/v3/appendix` with HTTP 200 and a task that says so."""


def document(operations: Sequence[Operation], allowance: Allowance) -> Json:
    """The document of these operations. `allowance`: the installation's rates; UNLIMITED where nothing is counted."""
    named = {kind for one in operations for kind in (one.request, one.result, *one.answers.values()) if kind}
    schemas = _schemas([*sorted(named, key=lambda kind: kind.__name__), wire.Envelope])
    envelope, entry = schemas.pop("Envelope"), schemas.pop("TaskEntry")
    paths: Json = {}
    structs = dict(schemas)
    for one in operations:
        schemas |= _own_schemas(one, allowance, envelope, entry, structs)
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, allowance)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "restante",
            "version": restante.__version__,
            "summary": "LLM Responses, self-hosted",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"basic": []}],
        "tags": [{"name": name} for name in dict.fromkeys(one.group for one in operations)],
        "paths": paths,
        "components": {
            "schemas": schemas | _refused_schemas(envelope),
            "responses": _responses(),
            "headers": _HEADERS,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "The account's login and API password."}
            },
        },
    }


def _schemas(kinds: Sequence[type]) -> Json:
    _, components = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS + "{name}")
    return {name: _tidy(schema) for name, schema in components.items()}


def _tidy(schema: Any) -> Any:
    """A schema as people write it: one that admits null is one schema, not two, and null is no default."""
    if isinstance(schema, list):
        return [_tidy(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _tidy(inner) for name, inner in schema.items() if not (name == "default" and inner is None)}
    if isinstance(kept.get("description"), str):
        kept["description"] = _OUR_SECTIONS.sub("", kept["description"])
    if "enum" in kept and all(isinstance(value, str) for value in kept["enum"]):
        kept["type"] = "string"
    match kept.get("anyOf"):
        case [{"type": "integer"}, {"type": "number"}]:
            del kept["anyOf"]
            return {"type": "number"} | kept
        case [{"type": str(kind)} as inner, {"type": "null"}]:
            del kept["anyOf"]
            return {**inner, **kept, "type": [kind, "null"]}
    return kept


def _own_schemas(one: Operation, allowance: Allowance, envelope: Json, entry: Json, structs: Json) -> Json:
    """What only this operation posts and answers: its tasks, its envelope."""
    own: Json = {}
    if one.request is not None:
        own[_request_name(one)] = _request_schema(one, structs[one.request.__name__])
    if not one.answers:
        name = _camel(one.name)
        rows = {"type": ["array", "null"], "items": {"$ref": _SCHEMAS + one.result.__name__}} if one.result else None
        result = {"description": "Null unless the task succeeded."} | (rows or {"type": "null"})
        codes = [code for code, _ in _codes(one, allowance)]
        own[f"{name}Task"] = _with(entry, f"{name}Task", status_code={"enum": codes}, data=_data_of(one), result=result)
        tops = [OK_CODE, RateExceeded.code] if allowance != UNLIMITED and one.rate else [OK_CODE]
        tasks = {"type": "array", "minItems": 1, "items": {"$ref": f"{_SCHEMAS}{name}Task"}}
        own[f"{name}Answer"] = _with(envelope, f"{name}Answer", status_code={"enum": tops}, tasks=tasks)
    return own


def _with(schema: Json, title: str, **changed: Json) -> Json:
    """A schema with some of its properties said more precisely."""
    properties = dict(schema["properties"])
    for name, more in changed.items():
        properties[name] = {**properties[name], **more} if "enum" in more else more
    return {**schema, "title": title, "properties": properties}


def _request_name(one: Operation) -> str:
    """A request that lacks some of its struct's fields has a name of its own."""
    assert one.request is not None
    return f"{_camel(one.name)}{one.request.__name__}" if one.omits else one.request.__name__


def _request_schema(one: Operation, schema: Json) -> Json:
    """Fields without which every task is refused are required, and null, which means "not sent", is none for them."""
    properties = {name: field for name, field in schema["properties"].items() if name not in one.omits}
    for name in one.requires:
        properties[name] = {**properties[name], "type": properties[name]["type"][0]}
    made = {**schema, "title": _request_name(one), "properties": properties}
    made["required"] = [*dict.fromkeys((*schema.get("required", ()), *one.requires))]
    return {**made, "additionalProperties": True} if one.ignores_unknown else made


def _data_of(one: Operation) -> Json:
    origins = [one.origin] if one.other_origin is None else [one.origin, one.other_origin]
    made = [_data(origin) for origin in origins]
    return made[0] if len(made) == 1 else {"anyOf": made}


def _data(origin: bytes) -> Json:
    """The echo: where it came from, then what was posted, be it right or wrong."""
    fixed = {name: {"const": value} for name, value in msgspec.json.decode(origin).items()}
    return {
        "type": ["object", "null"],
        "description": "What was posted, behind these fields; null when the path was wrong.",
        "properties": fixed,
        "required": list(fixed),
        "additionalProperties": True,
    }


def _codes(one: Operation, allowance: Allowance) -> list[tuple[int, str]]:
    """The codes that a task of this operation may have, and their words."""
    limited: tuple[type[Refusal], ...] = (RateExceeded,) if allowance != UNLIMITED and one.rate else ()
    refusals = {refusal.code: refusal.template.format("…") for refusal in (*limited, *one.refusals)}
    return [one.success, *sorted(refusals.items())]


def _operation(one: Operation, allowance: Allowance) -> Json:
    made: Json = {
        "operationId": one.name,
        "tags": [one.group],
        "summary": one.summary,
        "description": _description(one, allowance),
        "parameters": list(one.parameters),
        "responses": _answers(one, allowance),
    }
    if one.request is not None:
        schema: Json = {"$ref": _SCHEMAS + _request_name(one)}
        if not one.answers:
            schema = {"type": "array", "minItems": 1, "maxItems": one.tasks, "items": schema}
        sent = one.sent if one.answers else [one.sent]
        content = {"schema": schema} | ({"example": sent} if one.sent is not None else {})
        made["requestBody"] = {"required": True, "content": {"application/json": content}}
    return made


def _description(one: Operation, allowance: Allowance) -> str:
    """What it does, how often it may be called, and the codes of its tasks: Markdown."""
    said = [one.description]
    if one.rate and (rate := allowance.rate(one.rate)):
        said.append(f"Up to {rate:,} calls a minute, unless your account has a limit of its own.")
    if not one.answers:
        rows = [f"| `{code}` | {message} |" for code, message in _codes(one, allowance)]
        said.append("\n".join(("| Task's code | Message |", "| --- | --- |", *rows)))
    return "\n\n".join(said)


def _answers(one: Operation, allowance: Allowance) -> Json:
    refused = {str(status): {"$ref": f"#/components/responses/{name}"} for status, name in _REFUSED.items()}
    if one.answers:
        made = {}
        for status, kind in one.answers.items():
            rows = [row for row in one.rows or () if isinstance(row, kind)]
            content: Json = {"schema": {"$ref": _SCHEMAS + kind.__name__}}
            content |= {"example": msgspec.to_builtins(rows[0])} if rows else {}
            words = HTTPStatus(status).phrase
            made[str(status)] = {"description": words, "content": {"application/json": content}}
        return made | refused
    answer = {"schema": {"$ref": f"{_SCHEMAS}{_camel(one.name)}Answer"}, "example": _example(one)}
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}
    limited = {"headers": headers} if one.rate and allowance != UNLIMITED else {}
    words = "The call was answered; each task in it tells its own fate."
    return {"200": {"description": words, **limited, "content": {"application/json": answer}}} | refused


def _example(one: Operation) -> Any:
    """An answer as the server itself would make it."""
    path = [examples.TASK_ID if part.startswith("{") else part for part in one.path.strip("/").split("/")]
    code, message = one.success
    entry = wire.entry(
        examples.TASK_ID,
        path,
        elapsed=0.0061,
        code=code,
        message=message,
        cost=one.cost,
        request=None if one.sent is None else msgspec.json.encode(one.sent),
        origin=one.origin,
        result=None if one.rows is None else msgspec.json.encode(one.rows),
        result_count=len(one.rows or ()),
    )
    return msgspec.json.decode(wire.envelope([entry], elapsed=0.0934, cost=one.cost))


_REFUSED: Final = {401: "Unauthorized", 500: "InternalError"}
_HEADERS: Final[Json] = {
    "X-RateLimit-Limit": {
        "description": "Calls a minute that your account may make here. Absent where there is no limit.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "X-RateLimit-Remaining": {
        "description": "What is left of them in this calendar minute.",
        "schema": {"type": "integer", "minimum": 0},
    },
}


def _refused_schemas(envelope: Json) -> Json:
    """The calls that never came to tasks; a 401 has no version, as in the original."""
    none: Json = {"tasks_count": {"const": 0}, "tasks_error": {"const": 0}, "cost": {"const": 0}}
    made = {}
    for name, refusal in (("Unauthorized", Unauthorized), ("NotFound", NotFound), ("InternalError", InternalError)):
        said: Json = {"status_code": {"const": refusal.code}, "status_message": {"const": refusal.template}}
        made[name] = _with(envelope, name, **none, **said, tasks={"type": "null"})
    made["Unauthorized"]["properties"]["tasks"] = {"type": "array", "maxItems": 0}
    made["Unauthorized"]["properties"] = {k: v for k, v in made["Unauthorized"]["properties"].items() if k != "version"}
    made["Unauthorized"]["required"] = [name for name in envelope["required"] if name != "version"]
    return made


def _responses() -> Json:
    unauthorized = _refusal_response(
        "The login or the API password is wrong or missing.", wire.UNAUTHORIZED_BODY, "Unauthorized"
    )
    unauthorized["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return {
        "Unauthorized": unauthorized,
        "NotFound": _refusal_response("No such path.", wire.refused_call(NotFound()), "NotFound"),
        "InternalError": _refusal_response(
            "restante or its database failed; nothing is known to have happened.",
            wire.refused_call(InternalError()),
            "InternalError",
        ),
    }


def _refusal_response(words: str, body: bytes, schema: str) -> Json:
    content: Mapping[str, Any] = {"schema": {"$ref": _SCHEMAS + schema}, "example": msgspec.json.decode(body)}
    return {"description": words, "content": {"application/json": content}}


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
