"""Every request that the native API's own schema allows gets an answer that it documents, and never a 5xx."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import checks

schemathesis.serializer.alias("application/x-ndjson", "text/plain")  # lines of JSON are a text to it


@pytest.fixture(scope="module")
def schema(live: Any) -> Any:
    return schemathesis.openapi.from_url(f"{live.url}/api/v1/openapi.json")


@pytest.fixture(scope="module")
def user(live: Any) -> Any:
    return live.user("schema-user")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_request_gets_an_undocumented_answer(schema: Any, user: Any, data: st.DataObject) -> None:
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) >= 7
    case = data.draw(data.draw(st.sampled_from(operations)).as_strategy())
    case.headers = {**(case.headers or {}), "authorization": f"Bearer {user.token}"}
    case.call_and_validate(
        base_url=user.url,
        checks=[checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance],
    )
