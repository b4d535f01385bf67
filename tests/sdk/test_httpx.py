"""Requests without an SDK: what stands on the wire, byte for byte."""

import json

import httpx
import pytest

from conftest import GONE_MODEL, KEY, MODEL, PROXY_SECRET_KEY, SLOW_MODEL

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 8}
SLOW_QUESTION = QUESTION | {"model": SLOW_MODEL}


def http(target, **headers):
    """A client with the target's key, unless `headers` says otherwise."""
    headers = headers or {"Authorization": f"Bearer {target.key}"}
    return httpx.Client(base_url=target.url, headers=headers, timeout=30)


@pytest.fixture
def client(target):
    with http(target) as client:
        yield client


@pytest.fixture
def gateway_client(gateway):
    with http(gateway) as client:
        yield client


def events_of(body):
    """The events of a stream, of which not a byte is left over."""
    assert body.endswith("\n\n")
    return body[: -len("\n\n")].split("\n\n")


def streamed(client, path, question):
    """The body of an event stream, after a look at its head."""
    with client.stream("POST", path, json=question | {"stream": True}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["transfer-encoding"] == "chunked"
        return b"".join(answer.iter_raw()).decode()


def test_an_answer_in_one_piece(client):
    answer = client.post(CHAT, json=QUESTION)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "transfer-encoding" not in answer.headers
    assert answer.json()["usage"]["completion_tokens"] == 8


def test_the_bytes_of_a_chat_s_stream(client):
    whole = client.post(CHAT, json=QUESTION).json()
    *events, last = events_of(streamed(client, CHAT, QUESTION))
    assert last == "data: [DONE]"
    text = ""
    for event in events:
        assert event.startswith('data: {"id":') and "\n" not in event
        text += json.loads(event.removeprefix("data: "))["choices"][0]["delta"]["content"]
    assert text == whole["choices"][0]["message"]["content"]


def test_the_bytes_of_a_message_s_stream(client):
    whole = client.post(MESSAGES, json=QUESTION).json()
    text = ""
    for event in events_of(streamed(client, MESSAGES, QUESTION)):
        name, data = event.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        text += value.get("delta", {}).get("text", "")
    assert text == whole["content"][0]["text"]


def test_a_body_of_unknown_length(client):
    whole = client.post(CHAT, json=QUESTION).json()
    # Fields that nobody knows do no harm: this one makes the body long.
    body = json.dumps(QUESTION | {"padding": "x" * 300_000}).encode()
    pieces = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
    answer = client.post(CHAT, content=pieces, headers={"Content-Type": "application/json"})
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert answer.json()["choices"] == whole["choices"]


def test_a_stream_that_is_left_does_not_disturb_the_next_request(client):
    for _ in range(3):
        with client.stream("POST", CHAT, json=QUESTION | {"stream": True}) as answer:
            assert next(answer.iter_raw()).startswith(b"data: {")
        assert client.post(CHAT, json=QUESTION).status_code == 200


def test_one_connection_carries_many_requests(client):
    ports = set()
    for question in [QUESTION, QUESTION | {"stream": True}, QUESTION | {"model": "no-such-model"}, QUESTION]:
        with client.stream("POST", CHAT, json=question) as answer:
            answer.read()
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(ports) == 1 and None not in ports


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_an_unknown_model_is_told_in_json(client, path):
    answer = client.post(path, json=QUESTION | {"model": "no-such-model"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert "no-such-model" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Authorization", f"Bearer {KEY}"),
        ("authorization", f"bearer {KEY}"),
        ("x-api-key", KEY),
        ("X-Proxy-Secret", PROXY_SECRET_KEY),
        ("x-internal-auth", KEY),
    ],
)
def test_each_header_opens_the_gateway(gateway, header, value):
    with http(gateway, **{header: value}) as client:
        assert client.post(CHAT, json=QUESTION).status_code == 200
    with http(gateway, **{header: f"{value}-wrong"}) as client:
        assert client.post(CHAT, json=QUESTION).status_code == 401


def test_no_key_is_told_so(gateway):
    with http(gateway, Accept="*/*") as client:
        answer = client.post(CHAT, json=QUESTION)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("question", "status", "code", "param"),
    [
        (QUESTION | {"model": "no-such-model"}, 404, "model_not_found", "model"),
        (QUESTION | {"model": GONE_MODEL}, 502, "upstream_unreachable", None),
    ],
)
def test_an_error_has_openai_s_shape(gateway_client, question, status, code, param):
    answer = gateway_client.post(CHAT, json=question, headers={"x-request-id": "order-66"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == "order-66"
    error = answer.json()["error"]
    assert answer.json() == {"error": error}
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"] and error["type"]


def test_an_error_has_anthropic_s_shape_on_its_path(gateway_client):
    answer = gateway_client.post(MESSAGES, json=QUESTION | {"model": GONE_MODEL})
    assert answer.status_code == 502
    body = answer.json()
    assert body == {"type": "error", "error": body["error"], "request_id": answer.headers["x-request-id"]}
    assert set(body["error"]) == {"type", "message"}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "invalid_json"),
        (json.dumps(QUESTION).encode()[:-1] + b', "model": "small"}', "duplicate_field"),
    ],
)
def test_what_is_no_good_json_is_refused(gateway_client, content, code):
    answer = gateway_client.post(CHAT, content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize(
    "timeout",
    [{"params": {"timeout": "0.2"}}, {"headers": {"X-Timeout-Seconds": "0.2"}}],
    ids=["query", "header"],
)
def test_a_timeout_of_the_request_is_kept(gateway_client, timeout):
    answer = gateway_client.post(CHAT, json=SLOW_QUESTION, **timeout)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "nan"])
def test_a_timeout_that_is_none_is_refused(gateway_client, timeout):
    for options in ({"params": {"timeout": timeout}}, {"headers": {"X-Timeout-Seconds": timeout}}):
        answer = gateway_client.post(CHAT, json=QUESTION, **options)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_timeout")


def test_the_header_with_a_timeout_comes_before_the_query(gateway_client):
    answer = gateway_client.post(
        CHAT, json=SLOW_QUESTION, params={"timeout": "60"}, headers={"X-Timeout-Seconds": "0.2"}
    )
    assert answer.status_code == 504
