"""The documentation as it is served: the OpenAPI document and, made of it once at start, a page to read. No script."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.limits import DOCS_CACHE_SECONDS

Json = dict[str, Any]

_HERE: Final = Path(__file__).parent
_SCHEMAS: Final = "#/components/schemas/"
_BASE: Final = "http://127.0.0.1:8000"  # of the example calls
_SAFE: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Documentation:
    """`/openapi.json`, `/docs` and its style sheet, for everybody, without a password."""

    def __init__(self, document: Json) -> None:
        self._texts = (
            ("/openapi.json", "application/json", msgspec.json.encode(document)),
            ("/docs", "text/html", page(document).encode()),
            ("/docs/docs.css", "text/css", (_HERE / "static" / "docs.css").read_bytes()),
        )

    def routes(self) -> list[Route]:
        """What Starlette serves."""
        return [_static(path, media_type, body) for path, media_type, body in self._texts]


def _static(path: str, media_type: str, body: bytes) -> Route:
    tag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'  # weak: compressed or not, it means the same
    headers = {"ETag": tag, "Cache-Control": f"public, max-age={DOCS_CACHE_SECONDS}", **_SAFE}

    async def serve(request: Request) -> Response:
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=media_type)

    return Route(path, serve, methods=["GET"])


def page(document: Json) -> str:
    """The page at /docs, of the document alone."""
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "pretty": _pretty}
    schemas = document["components"]["schemas"]
    operations = [
        _view(path, method, operation, schemas)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    groups = {tag["name"]: [one for one in operations if one["group"] == tag["name"]] for tag in document["tags"]}
    # Every operation's envelope has the same fields; the first one's stands for all.
    first = next(name for name in schemas if name.endswith("Answer"))
    envelope = [_table(first, schemas[first]), _table("", schemas[first.removesuffix("Answer") + "Task"])]
    return environment.get_template("docs.html").render(
        info=document["info"], groups=groups, envelope=envelope, responses=document["components"]["responses"]
    )


def _view(path: str, method: str, operation: Json, schemas: Json) -> Json:
    """An operation as the page shows it."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    answers = {
        status: answer["content"]["application/json"]
        for status, answer in operation["responses"].items()
        if "content" in answer
    }
    answer = answers["200"]
    name = _target(answer["schema"])
    prose, bar, codes = operation["description"].partition("\n\n|")
    row = schemas.get(name.removesuffix("Answer") + "Task", {}).get("properties", {}).get("result")
    return {
        "id": operation["operationId"],
        "group": operation["tags"][0],
        "method": method.upper(),
        "path": path,
        "summary": operation["summary"],
        "description": prose,
        "codes": bar + codes,
        "parameters": [
            _field(one["name"], one["schema"] | one, one.get("required", False)) for one in operation["parameters"]
        ],
        "posted": list(_tables(body.get("schema", {}), schemas, posted=True)),
        "many": body.get("schema", {}).get("maxItems"),
        "answered": [
            table
            for schema in ([one["schema"] for one in answers.values()] if row is None else [row])
            for table in _tables(schema, schemas)
        ],
        "curl": _curl(path, method, operation, body.get("example")),
        "python": _python(path, method, operation, body.get("example")),
        "example": answer["example"],
        "statuses": list(operation["responses"]),
    }


def _tables(schema: Json, schemas: Json, *, posted: bool = False) -> Iterator[Json]:
    """A table of fields for each object in a schema, outermost first."""
    waiting, seen = list(_targets(schema)), set()
    while waiting:
        name = waiting.pop(0)
        if name not in seen:
            seen.add(name)
            if "properties" in schemas[name]:  # else it is a list of words, which its field describes
                yield _table(name, schemas[name], posted=posted)
            waiting += _targets(schemas[name].get("properties", {}))


def _table(name: str, schema: Json, *, posted: bool = False) -> Json:
    required = schema.get("required", ())
    fields = [_field(field, inner, field in required, posted=posted) for field, inner in schema["properties"].items()]
    return {"name": name, "description": schema.get("description", ""), "fields": fields}


def _field(name: str, schema: Json, required: bool, *, posted: bool = False) -> Json:
    """`posted`: that null is as good as nothing is said once for all such fields."""
    default = schema.get("default")
    return {
        "name": name,
        "type": _kind(schema).removesuffix(" or null") if posted else _kind(schema),
        "limits": _limits(schema),
        "default": None if default is None else json.dumps(default),
        "required": required,
        "description": schema.get("description", ""),
    }


def _kind(schema: Json) -> str:
    """A schema's type in words."""
    if "$ref" in schema:
        return _target(schema)
    if "anyOf" in schema:
        return " or ".join(_kind(inner) for inner in schema["anyOf"])
    if "const" in schema:
        return json.dumps(schema["const"])
    kinds = schema.get("type", "any")
    words = [kinds] if isinstance(kinds, str) else list(kinds)
    if "array" in words and "items" in schema:
        words[words.index("array")] = f"array of {_kind(schema['items'])}"
    return " or ".join(words)


def _limits(schema: Json) -> str:
    """A schema's bounds in words."""
    said = [_between(schema.get("minLength"), schema.get("maxLength"), " characters")]
    said.append(_between(schema.get("minItems"), schema.get("maxItems"), " members"))
    said.append(_between(schema.get("minimum"), schema.get("maximum"), ""))
    said.append(", ".join(str(value) for value in schema.get("enum", ())))
    return "; ".join(words for words in said if words)


def _between(least: float | None, most: float | None, unit: str) -> str:
    if most is None:
        return "" if least is None else f"≥ {least:,g}{unit}"
    return f"≤ {most:,.10g}{unit}" if least is None else f"{least:,.10g} – {most:,.10g}{unit}"


def _targets(schema: Any) -> Iterator[str]:
    """The names of the schemas that this one refers to, in order."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield _target(schema)
        for name, inner in schema.items():
            if name != "discriminator":
                yield from _targets(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _targets(inner)


def _target(schema: Json) -> str:
    name: str = schema["$ref"]
    return name.removeprefix(_SCHEMAS)


def _url(path: str, operation: Json) -> str:
    for one in operation["parameters"]:
        path = path.replace(f"{{{one['name']}}}", str(one.get("example", "")))
    return _BASE + path


def _curl(path: str, method: str, operation: Json, sent: Any) -> str:
    call = f'curl -u "$LOGIN:$PASSWORD" {_url(path, operation)}'
    if sent is None:
        return call if method == "get" else f"{call} -X {method.upper()}"
    text = json.dumps(sent, indent=2, ensure_ascii=False).replace("'", r"'\''")
    return f"{call} \\\n  -H 'Content-Type: application/json' \\\n  -d '{text}'"


def _python(path: str, method: str, operation: Json, sent: Any) -> str:
    lines = ["import requests", "", f"answer = requests.{method}("]
    lines += [f'    "{_url(path, operation)}",', "    auth=(login, password),"]
    if sent is not None:
        lines.append(f"    json={_literal(sent)},")
    return "\n".join([*lines, ").json()"])


def _literal(value: Any, indent: str = "    ") -> str:
    """A value as Python code, a member a line where it is long."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list):
        return repr(value)
    if len(repr(value)) < 60:
        return repr(value).replace("'", '"')  # the examples hold no quotation marks
    inner = indent + "    "
    if isinstance(value, list):
        return "[\n" + "".join(f"{inner}{_literal(one, inner)},\n" for one in value) + f"{indent}]"
    rows = (f"{inner}{json.dumps(name)}: {_literal(one, inner)},\n" for name, one in value.items())
    return "{\n" + "".join(rows) + f"{indent}}}"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _prose(text: str) -> Markup:
    """The little Markdown that the document's descriptions have: paragraphs, tables, `code`."""
    return Markup("").join(_block(block) for block in text.strip().split("\n\n"))


def _block(block: str) -> Markup:
    lines = block.splitlines()
    if not lines or not lines[0].startswith("|"):
        return Markup("<p>{}</p>\n").format(_inline(" ".join(lines)))
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return Markup('<div class="wide"><table class="codes"><thead>{}</thead><tbody>{}</tbody></table></div>\n').format(
        _row(head, "th"), Markup("").join(_row(row, "td") for row in rows)
    )


def _row(cells: Sequence[str], kind: str) -> Markup:
    cell = Markup("<th>{}</th>") if kind == "th" else Markup("<td>{}</td>")
    return Markup("<tr>{}</tr>").format(Markup("").join(cell.format(_inline(text)) for text in cells))


def _inline(text: str) -> Markup:
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(parts)
    )
