"""What `/openapi.json` says, against what the gateway does: a valid document, and requests that schemathesis makes from it."""

import copy

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from conftest import NODE_KEY, PROXY_SECRET_KEY, node
from processes import free_port, running

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MODEL = "sim-llama"

WITH_KEY = {"Authorization": f"Bearer {PROXY_SECRET_KEY}"}

# A paused node answers nobody any more: the other requests would wait.
PAUSES = "/pause"

# A random one is soon over.
TIMEOUTS = ("TimeoutHeader", "TimeoutQuery")

# These take a session, a response, a node or a sound that is there.
NOT_BY_CHANCE = {
    *("/init_session", "/set_system_prompt", "/chat", "/stop_session"),
    *("/v1/responses/{response_id}", "/v1/responses/{response_id}/cancel"),
    *("/v1/audio/transcriptions", "/v1/audio/translations", "/scale_elastic_ep"),
}


@pytest.fixture(scope="module")
def base(logs, tmp_path_factory):
    public, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    config = ("--config", str(tmp_path_factory.mktemp("none")), "--drain-delay", "0s")
    serve = ("serve", *config, "--listen", public, "--admin-listen", admin)
    with (
        node(logs / "node-0", free_port(), MODEL, first_token="0s", more=["--enable-scale-out"]) as one,
        node(logs / "node-1", free_port(), MODEL, first_token="0s", more=["--enable-scale-out"]) as other,
    ):
        variables = {
            "VLLM_API_KEY": NODE_KEY,
            "PROXY_SECRET_KEY": PROXY_SECRET_KEY,
            "SLUICE_SESSIONS": "true",
        }
        nodes = ("--backend", f"{one.url},{other.url}")
        with running(logs / "openapi", f"http://{public}/readyz", *serve, *nodes, **variables):
            yield f"http://{public}"


@pytest.fixture(scope="module")
def document(base):
    return httpx.get(f"{base}/openapi.json").json()


@pytest.fixture(scope="module")
def api(document, base):
    """The document for schemathesis: of one model, and without what would only keep requests from what they are to reach."""
    document = copy.deepcopy(document)
    del document["paths"][PAUSES]
    document["components"]["schemas"]["Model"] = {"enum": [MODEL]}
    references = [{"$ref": f"#/components/parameters/{name}"} for name in TIMEOUTS]
    for item in document["paths"].values():
        for operation in item.values():
            parameters = operation.get("parameters", [])
            operation["parameters"] = [one for one in parameters if one not in references]
    config = {"generation": {"with-security-parameters": False}, "base-url": base}
    return schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(config))


def test_the_document_is_valid(document):
    assert document["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


@pytest.mark.parametrize("mode", GenerationMode)
def test_answers_are_as_described(api, mode):
    """`mode`: requests that fit the document, or that do not."""
    wrong, served = [], set()
    operations = [found.ok() for found in api.get_all_operations()]
    for operation in operations:
        if mode == GenerationMode.NEGATIVE and not (operation.body or operation.query):
            continue

        @seed(1)
        @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def play(case):
            answer = case.call_and_validate(headers=WITH_KEY, timeout=30, checks=CHECKS)
            if answer.status_code < 300:
                served.add(operation.path)

        try:
            play()
        except (Exception, FailureGroup) as error:
            wrong.append(f"{operation.label}: {error}")
    assert not wrong, "\n\n".join(wrong)
    if mode == GenerationMode.POSITIVE:
        assert {operation.path for operation in operations} - served == NOT_BY_CHANCE


def test_a_session_is_as_described(api):
    def play(path, **body):
        case = api[path]["POST"].Case(body=body, media_type="application/json")
        answer = case.call_and_validate(timeout=30, checks=CHECKS)
        assert answer.status_code == 200
        return answer

    session_id = play("/init_session", vllm_api_key=PROXY_SECRET_KEY).json()["session_id"]
    play("/set_system_prompt", session_id=session_id, system_prompt="Be brief.")
    play("/chat", session_id=session_id, message="Hello", max_tokens=4)
    play("/chat", session_id=session_id, message="Hello", max_tokens=4, stream=True)
    play("/stop_session", session_id=session_id)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer sk-wrong"}, {"x-api-key": "sk-wrong"}])
def test_without_a_good_key_everything_is_refused_that_is_not_open(document, base, headers):
    refused = 0
    with httpx.Client(base_url=base, headers=headers) as client:
        for path, item in document["paths"].items():
            for method, operation in item.items():
                security = operation.get("security", document["security"])
                if {} in security or not security:
                    continue
                answer = client.request(method, path.replace("{", "").replace("}", ""))
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
                assert "invalid_api_key" in answer.text or path.startswith("/v1/messages")
                assert str(answer.status_code) in operation["responses"]
                refused += 1
    assert refused > 30
