"""Every request that the native API's own schema allows gets an answer that it documents, and never a 5xx."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
import schemathesis
from huggingface_hub.utils import get_session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator
from schemathesis import checks

from compose.methods import METHODS

schemathesis.serializer.alias("application/x-ndjson", "text/plain")  # lines of JSON are a text to it


@pytest.fixture(scope="module")
def schema(live: Any) -> Any:
    return schemathesis.openapi.from_url(f"{live.url}/api/v1/openapi.json")


@pytest.fixture(scope="module")
def user(live: Any) -> Any:
    return live.user("schema-user")


@pytest.fixture(scope="module")
def document(live: Any) -> Any:
    return httpx2.get(f"{live.url}/api/v1/openapi.json").json()


CHECKS = [checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [(path, method, one) for path, methods in document["paths"].items() for method, one in methods.items()]


def test_every_operation_has_words_and_examples_that_its_own_schema_allows(document: Any) -> None:
    components = {"components": document["components"]}
    assert len(operations(document)) >= 7
    for path, method, one in operations(document):
        what = f"{method} {path}"
        assert one.get("description") or one.get("summary"), what
        shown = [(p["name"], p["schema"], p["example"]) for p in one.get("parameters", ()) if "examples" not in p]
        for body in (one.get("requestBody", {}), *one["responses"].values()):
            if "application/json" in body.get("content", {}):
                content = body["content"]["application/json"]
                shown.append((body.get("description", "body"), content["schema"], content["example"]))
        assert shown, what
        for name, schema, example in shown:
            wrong = [error.message for error in Draft202012Validator({**schema, **components}).iter_errors(example)]
            assert not wrong, f"{what}: {name}"


def test_the_examples_are_answered_as_documented(schema: Any, user: Any, document: Any) -> None:
    """Sent as they stand, by somebody who has none of it: found or not, but never undocumented."""
    headers = {"authorization": f"Bearer {user.token}"}
    for path, method, one in operations(document):
        known = {p["name"]: p["example"] for p in one.get("parameters", ()) if "example" in p}
        query = {p["name"]: known[p["name"]] for p in one.get("parameters", ()) if p["in"] == "query" and p["required"]}
        content = one.get("requestBody", {}).get("content", {}).get("application/json", {})
        asked = re.sub(r"{(\w+)[^}]*}", lambda found, known=known: str(known[found[1]]), path)
        answer = httpx2.request(
            method, user.url + asked, params=query, json=content.get("example"), headers=headers, timeout=60
        )  # fmt: skip
        assert str(answer.status_code) in one["responses"] and answer.status_code < 500, (method, path, answer.text)
        assert "malformed" not in answer.headers.get("x-error-message", ""), (method, path, answer.text)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_request_gets_an_undocumented_answer(schema: Any, user: Any, data: st.DataObject) -> None:
    every = [operation.ok() for operation in schema.get_all_operations()]
    assert len(every) >= 7
    case = data.draw(data.draw(st.sampled_from(every)).as_strategy())
    case.headers = {**(case.headers or {}), "authorization": f"Bearer {user.token}"}
    case.call_and_validate(base_url=user.url, checks=CHECKS)


def test_the_schema_of_a_composition_lists_every_method_with_its_options(live: Any) -> None:
    plan = get_session().get(f"{live.url}/api/v1/openapi.json").json()["components"]["schemas"]["Plan"]["properties"]
    assert plan["method"]["enum"] == [*METHODS, "prompt-mean"]
    listed = {one["title"]: list(one["properties"]) for one in plan["params"]["anyOf"]}
    assert listed == {name: [param.name for param in row.params] for name, row in METHODS.items()}
