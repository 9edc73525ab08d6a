"""What the published OpenAPI description promises, tried with good and bad data by schemathesis."""

from __future__ import annotations

import schemathesis
from echoing import TOKEN, Served
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from ondevice.serve.openapi import description

WITHIN_S = 10
SCHEMA = schemathesis.openapi.from_dict(description())
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.unsupported_method,
    checks.missing_required_header,
]


@SCHEMA.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_the_server_is_as_described(case: schemathesis.Case, server: Served) -> None:
    refused = case.operation.path == "/v1/embeddings"  # with 501, which is an error of a server
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{server.port}",
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=WITHIN_S,
        checks=CHECKS if refused else [*CHECKS, not_a_server_error],
    )


@SCHEMA.parametrize()
@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_nothing_but_health_is_answered_without_the_token(
    case: schemathesis.Case, server: Served
) -> None:
    url = f"http://127.0.0.1:{server.port}"
    answer = case.call(base_url=url, timeout=WITHIN_S, headers={"Authorization": "Bearer wrong"})
    if case.operation.path != "/health":
        assert answer.status_code == 401
