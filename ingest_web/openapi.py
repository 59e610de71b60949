"""``GET /openapi.json``: the routes as an OpenAPI 3.1 document, put together from the code that answers them.

Paths and methods are those of the app, sentences those of its functions, scopes those of `ingest_web.access`, schemas
those of the types, errors those of `shared.errors`; `ingest_web.promises` says what belongs together.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from flask import Blueprint, Flask, Response, current_app
from pydantic import TypeAdapter
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from ingest_web import access, events, problems, refusals, services
from ingest_web.bodies import DETAILS, Problem
from ingest_web.promises import PROMISES, SCHEMAS_OF_IDS, Answer, Body, Field, Form, Keywords, Promise
from shared.access import Scope
from shared.errors import (
    Forbidden,
    IngestError,
    QuotaOfBytes,
    RateLimited,
    StoreUnavailable,
    TooManyDocuments,
    Unauthorized,
)

blueprint = Blueprint("openapi", __name__)

_KEPT = "ingest.openapi"

_ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>")

_REFERENCE = "#/components/schemas/{model}"

#: What any route may fail with, and what any may that looks at keys.
_ANYWHERE: tuple[type[IngestError | HTTPException], ...] = (IngestError, *refusals.KINDS)
_BEHIND_KEYS = (Unauthorized, Forbidden)
_OF_TENANTS = (RateLimited, StoreUnavailable)

_RETRY_AFTER = {"Retry-After": "In so many seconds the same request may succeed"}

_HEADERS_OF_ERRORS: Mapping[type[Exception], Mapping[str, str]] = {
    Unauthorized: {"WWW-Authenticate": "`Bearer`: which kind of key is asked for"},
    StoreUnavailable: _RETRY_AFTER,
    RateLimited: _RETRY_AFTER,
    QuotaOfBytes: _RETRY_AFTER,
    TooManyDocuments: _RETRY_AFTER,
}

_WAYS_IN: Mapping[str, Keywords] = {
    "key": {"type": "http", "scheme": "bearer", "bearerFormat": "ingest_..."},
    "token": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "Of a `stream_url`. Several open the stream of several documents.",
    },
}

_DESCRIPTION = """\
Takes documents in and says, over Server-Sent Events, how far they are.

Every error is `application/problem+json` with a stable `code`. HEAD is answered where GET is, without a body.
Of `text/event-stream` and `application/jsonl` the schema is that of each event and line, not of all of them together.
Answers to pages of allowed origins have the headers of CORS, but for those to what can't be read as a request."""


@blueprint.get("/openapi.json")
def document() -> Response:
    """This description."""
    if _KEPT not in current_app.extensions:
        current_app.extensions[_KEPT] = json.dumps(describe(current_app))
    return Response(current_app.extensions[_KEPT], content_type="application/json")


def describe(app: Flask) -> dict[str, Any]:
    """The description of an app with its settings: whether it asks for keys is part of it."""
    with_keys = not services.of(app).guard.is_open
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths[_path(rule)][method.lower()] = _operation(app, rule, with_keys)
    components: dict[str, Any] = {"schemas": _schemas(PROMISES.values())}
    if with_keys:
        components["securitySchemes"] = _WAYS_IN
    info = {"title": "ingest-live", "version": version("ingest-live"), "description": _DESCRIPTION}
    return {"openapi": "3.1.1", "info": info, "paths": paths, "components": components}


def _path(rule: Rule) -> str:
    return _ARGUMENT.sub(r"{\1}", rule.rule)


def _operation(app: Flask, rule: Rule, with_keys: bool) -> dict[str, Any]:
    promise = PROMISES[rule.endpoint]
    operation: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": _summary(app, rule.endpoint),
        "parameters": [*_parameters(rule, promise)],
        "responses": _responses(promise, rule.endpoint, with_keys),
    }
    if promise.form is not None:
        operation["requestBody"] = _request_body(promise.form)
    if promise.json is not None:
        reference = {"$ref": _REFERENCE.format(model=promise.json.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    scope = _scope(rule.endpoint)
    if with_keys and scope is not None:
        operation["security"] = [{"key": [scope]}, *([{"token": []}] if rule.endpoint in access.STREAMS else [])]
    return operation


def _summary(app: Flask, endpoint: str) -> str:
    if endpoint == "static":
        return "A file of the page, or a module for other pages."
    told = (app.view_functions[endpoint].__doc__ or "").partition("\n")[0]
    return told.replace("``", "`")


def _scope(endpoint: str) -> Scope | None:
    """What a key must be good for; None where none is asked for."""
    if endpoint in access.OPERATORS:
        return Scope.ADMIN
    return Scope.READ if endpoint in access.STREAMS else access.SCOPES.get(endpoint)


def _parameters(rule: Rule, promise: Promise) -> Iterable[dict[str, Any]]:
    for name in sorted(rule.arguments):
        schema = SCHEMAS_OF_IDS.get(name, {"type": "string"})
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for place, fields in (("query", promise.query), ("header", promise.headers)):
        yield from (_parameter(place, field) for field in fields)


def _parameter(place: str, field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "in": place,
        "description": field.meaning,
        "required": field.required,
        "schema": field.schema,
    }


def _request_body(form: Form) -> dict[str, Any]:
    properties = dict(form.fields)
    if form.file:
        properties["file"] = {"type": "string", "contentMediaType": "application/octet-stream"}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if form.file:
        schema["required"] = ["file"]
    if form.closed:
        schema["additionalProperties"] = False
    media_types = ["multipart/form-data"] if form.file else ["application/x-www-form-urlencoded", "multipart/form-data"]
    return {"required": form.file, "content": {media_type: {"schema": schema} for media_type in media_types}}


def _responses(promise: Promise, endpoint: str, with_keys: bool) -> dict[str, Any]:
    errors = [*promise.errors, *_ANYWHERE]
    if _scope(endpoint) is not None:
        errors += [*_BEHIND_KEYS, *_OF_TENANTS] if with_keys else [*_OF_TENANTS]
    by_status: dict[int, list[type[IngestError | HTTPException]]] = defaultdict(list)
    for error in dict.fromkeys(errors):
        by_status[problems.kind(error).status].append(error)
    told = {str(status): _answer(answer) for status, answer in promise.answers.items()}
    return told | {str(status): _failure(by_status[status]) for status in sorted(by_status)}


def _answer(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.meaning}
    if answer.bodies:
        told["content"] = {body.media_type: {"schema": _schema(body)} for body in answer.bodies}
    if answer.headers:
        told["headers"] = _headers(answer.headers)
    return told


def _schema(body: Body) -> Keywords:
    if not body.types:
        return {"type": "string"}
    if body.types == (dict,):
        return {"type": "object"}
    references = [{"$ref": _REFERENCE.format(model=of.__name__)} for of in body.types]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return _event(schema) if body.media_type == "text/event-stream" else schema


def _event(of_data: Keywords) -> Keywords:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": of_data}
    names = {"id": {"type": "string"}, "event": {"const": events.NAME.decode()}, "data": data}
    return {"type": "object", "properties": names, "required": list(names)}


def _adapters(types: Iterable[type], mode: str) -> list[Any]:
    adapters = [TypeAdapter[Any](of) for of in sorted(types, key=lambda of: of.__name__)]
    return [(adapter, mode, adapter) for adapter in adapters]


def _failure(errors: Iterable[type[IngestError | HTTPException]]) -> dict[str, Any]:
    kinds = [problems.kind(error) for error in errors]
    schema = {
        "allOf": [{"$ref": _REFERENCE.format(model=Problem.__name__)}],
        "properties": {
            "code": {"enum": [kind.code for kind in kinds]},
            "status": {"const": kinds[0].status},
        },
    }
    told: dict[str, Any] = {
        "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds),
        "content": {problems.MEDIA_TYPE: {"schema": schema}},
    }
    if headers := {name: meaning for error in errors for name, meaning in _HEADERS_OF_ERRORS.get(error, {}).items()}:
        told["headers"] = _headers(headers)
    return told


def _headers(headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"description": meaning, "required": True, "schema": {"type": "string"}}
        for name, meaning in headers.items()
    }


def _schemas(promises: Iterable[Promise]) -> dict[str, Any]:
    promises = list(promises)
    bodies = (body for promise in promises for answer in promise.answers.values() for body in answer.bodies)
    answered = {of for body in bodies for of in body.types} - {dict} | {Problem}
    taken = {promise.json for promise in promises if promise.json is not None}
    inputs = [*_adapters(answered, "serialization"), *_adapters(taken, "validation")]
    _, told = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE)
    schemas: dict[str, Any] = told["$defs"]
    for name, fields in DETAILS.items():
        for field, keywords in fields.items():
            schemas[name]["properties"][field].update(keywords)
    return schemas
