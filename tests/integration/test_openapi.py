"""The description of the routes: valid, complete, and true of whatever is sent to them."""

from __future__ import annotations

import itertools
import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import negative_data_rejection
from sqlalchemy import insert, update

from ingest_web import ids, openapi, partial, services, webhooks
from ingest_web.app import create_app
from shared import errors
from shared.access import ALL_SCOPES
from shared.config import Settings
from shared.deliveries import Deliveries, Delivery, DeliveryState, Fault
from shared.documents import Chunk, fields, to_json
from shared.endpoints import BY_OWNER, Endpoints
from shared.jobs import Status
from shared.keyring import KeyRing
from shared.store import Store
from shared.webhook_tables import ATTEMPTS, DELIVERIES, WebhookDatabase
from shared.webhooks import of_test
from tests.records import SOURCE, finish

#: Requests of each kind to each operation, beside those that its description suggests.
EXAMPLES = 25

AT_LENGTH = settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

CONFIG = schemathesis.Config.from_dict(
    {
        "seed": 1,
        # Most bytes are no document, which is not for a description to say.
        "checks": {"positive_data_acceptance": {"enabled": False}},
    }
)

#: The routes don't depend on the settings, but for whether they ask for keys.
DESCRIBED = schemathesis.openapi.from_dict(
    openapi.describe(create_app(Settings.from_environment({"INGEST_AUTH": "keys"}))), config=CONFIG
)


class Door:
    """Where requests are sent that are made from the description; `app` is behind it while tests run."""

    app: Flask

    def __call__(self, environ, start_response):
        answer = self.app.wsgi_app(environ, start_response)
        try:
            return list(answer)
        finally:
            answer.close()  # the client that sends them does not, and a request is in hand until then


DOOR = DESCRIBED.app = Door()

#: Raised by what workers write; routes translate those that they may meet.
OF_THE_INSIDE = {errors.SettingsError, errors.Refused, *errors.Refused.__subclasses__()}


@pytest.fixture(scope="module")
def app(tmp_path_factory, valkey_url):
    """One that asks for keys."""
    var = tmp_path_factory.mktemp("described") / "var"
    environment = {"INGEST_VAR": str(var), "INGEST_REDIS_URL": valkey_url, "INGEST_AUTH": "keys"}
    DOOR.app = app = create_app(Settings.from_environment(environment))
    yield app
    services.of(app).close()


@pytest.fixture(scope="module")
def key(app) -> dict[str, str]:
    """A key that is good for everything."""
    with closing(KeyRing.from_settings(services.of(app).settings)) as ring:
        return {"Authorization": f"Bearer {ring.create('default', ALL_SCOPES)[1]}"}


@pytest.fixture(scope="module")
def description(app):
    """What the app says of itself."""
    return app.test_client().get("/openapi.json").json


def test_the_description_is_a_valid_openapi_document(description):
    """Of version 3.1."""
    assert description["openapi"].startswith("3.1")
    validate(description, cls=OpenAPIV31SpecValidator)


def test_every_route_is_described_and_no_other(app, description):
    """Paths, methods and arguments are those of the app."""
    routes = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for path, methods in description["paths"].items() for method in methods} == routes


def test_every_code_of_an_error_is_described(description):
    """Those of requests with their status, those of documents in the state."""
    told = json.dumps(description["paths"])
    for error in set(kinds_of(errors)) - OF_THE_INSIDE - {errors.RequestError, errors.DocumentError}:
        if issubclass(error, errors.DocumentError):
            assert error.code in description["components"]["schemas"]["Failure"]["properties"]["code"]["enum"]
        else:
            assert f'"{error.code}"' in told, error


def test_every_code_that_is_described_stands_in_the_readme(description):
    """The list that people read is complete, too."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    told = [
        code
        for codes in re.findall(r'"code": {"enum": (\[.*?\])', json.dumps(description))
        for code in json.loads(codes)
    ]
    assert "invalid_option" in told
    assert [code for code in told if f"`{code}`" not in readme] == []


def test_where_no_key_is_asked_for_none_is_described(make_app):
    """The description is of the service as it runs."""
    told = make_app().test_client().get("/openapi.json").json
    assert "securitySchemes" not in told["components"]
    for methods in told["paths"].values():
        for operation in methods.values():
            assert "security" not in operation
            assert not {"401", "403"} & operation["responses"].keys()


def test_lines_of_a_result_are_as_described(description):
    """Whole ones and those of a document on its way."""
    chunk = Chunk("c1", 0, "a | b", 1, 2, 0, 5, ((("a", None),),))
    lines = {"Chunk": json.loads(to_json(chunk)), "PartialChunk": json.loads(partial.placed(fields(chunk), 3, 10, 1))}
    for name, line in lines.items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": description["components"]}
        OAS31Validator(schema).validate(line)
        assert line.keys() == description["components"]["schemas"][name]["properties"].keys()


@AT_LENGTH
@DESCRIBED.parametrize()
def test_nothing_is_answered_that_the_description_does_not_allow(case, app, key):
    """Whatever is sent, right and wrong: statuses, types, bodies and headers are those described, and none is a 5xx."""
    validated(case, key)


@AT_LENGTH
@DESCRIBED.include(path_regex="document_id").parametrize()
def test_nor_of_documents_that_are_there(case, app, key, document):
    """In whatever state: the same."""
    if ids.DOCUMENT_ID.fullmatch(str(case.path_parameters.get("document_id"))):
        case.path_parameters["document_id"] = document("stream" in case.path)
    validated(case, key)


@AT_LENGTH
@DESCRIBED.include(path_regex="endpoint_id").parametrize()
def test_nor_of_webhooks_that_are_there(case, app, key, delivery):
    """With deliveries in whatever state: the same."""
    named = case.path_parameters
    if webhooks.ENDPOINT_ID.fullmatch(str(named.get("endpoint_id"))):
        named["endpoint_id"], delivery_id = delivery()
        if webhooks.DELIVERY_ID.fullmatch(str(named.get("delivery_id"))):
            named["delivery_id"] = delivery_id
    validated(case, key)


@AT_LENGTH
@DESCRIBED.parametrize()
def test_nor_without_a_key(case, app):
    """What is asked for a key tells nothing without one."""
    answer = case.call_and_validate()
    if case.operation.definition.raw.get("security") and answer.request.method != "OPTIONS":
        assert answer.status_code in {401, 404, 405}, answer.request


def validated(case, key):
    # A wrong key in the place of which the right one is sent makes no wrong request.
    is_mended = case.meta.is_negative_at(ParameterLocation.HEADER)
    answer = case.call_and_validate(headers=key, excluded_checks=[negative_data_rejection] if is_mended else [])
    assert answer.status_code != 429  # else nothing of the rest was looked at


@pytest.fixture
def document(app):
    """Makes documents, in one state after the other."""
    store = services.of(app).store
    makers = itertools.cycle([failed, cancelled, completed, new])
    makers_of_final = itertools.cycle([failed, cancelled, completed])
    return lambda is_final: next(makers_of_final if is_final else makers)(store)


def new(store: Store) -> str:
    document_id = ids.new_id()
    store.create(document_id, replace(SOURCE, tenant="default"))
    return document_id


def failed(store: Store) -> str:
    document_id = new(store)
    finish(store, document_id)
    return document_id


def cancelled(store: Store) -> str:
    document_id = new(store)
    store.record(document_id, 1, Status.CANCELLED, "Cancelled")
    return document_id


def completed(store: Store) -> str:
    document_id = new(store)
    for status in (Status.PARSING, Status.CHUNKING, Status.LOADING, Status.COMPLETED):
        store.record(document_id, 1, status, "On its way")
    return document_id


@pytest.fixture
def delivery(app, monkeypatch):
    """Makes deliveries to an endpoint, in one state after the other, the last when it is disabled; gives both ids."""
    monkeypatch.setattr(webhooks, "TEST_SECONDS", 0.0)
    current = services.of(app)
    endpoints, deliveries = Endpoints(current.webhooks), Deliveries(current.webhooks)
    numbers = itertools.count()

    def make() -> tuple[str, str]:
        number = next(numbers)
        endpoint = endpoints.of_upload("default", "https://93.184.216.34/", lambda: current.seal.close("whsec_"))
        deliveries.enable(endpoint.id)
        message = of_test(f"msg_{ids.new_id()}", endpoint.id, "default", "2026-11-25T00:00:00.000Z")
        deliveries.enter([message])
        made = deliveries.of_message(endpoint.id, message.message_id)
        became(current.webhooks, made, [*ENDS, None, None][number % 4])
        if number % 4 == 3:
            deliveries.disable(endpoint.id, BY_OWNER)
        return endpoint.id, made.id

    return make


#: What may come of an attempt: the state of the delivery after it, its status, its answer, its error.
ENDS = (
    (DeliveryState.DELIVERED, 200, "thanks", None),
    (DeliveryState.FAILED, None, None, Fault.TIMED_OUT),
)

End = tuple[DeliveryState, int | None, str | None, Fault | None]


def became(database: WebhookDatabase, made: Delivery, end: End | None) -> None:
    if end is None:
        return
    state, status, answer, error = end
    attempt = {"delivery_id": made.id, "number": 1, "at": 1.0, "duration_ms": 1, "headers": '{"webhook-id": "m"}'}
    ended = update(DELIVERIES).where(DELIVERIES.c.id == made.id)
    with database.writing() as transaction:
        transaction.execute(insert(ATTEMPTS), [attempt | {"status": status, "answer": answer, "error": error}])
        transaction.execute(ended.values(state=state, error=error, attempts=1, finished_at=2.0))


def kinds_of(module: ModuleType) -> list[type[errors.IngestError]]:
    return [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, errors.IngestError)]
