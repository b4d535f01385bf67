"""Keys, names of requests and refusals of the gateway, as the Anthropic Python SDK meets them."""

import anthropic
import pytest

from conftest import GONE_MODEL, KEY, LIMITED_KEY, MODEL, PROXY_SECRET_KEY, SLOW_MODEL, SMALL_MODEL

QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}


@pytest.mark.parametrize("key", [KEY, PROXY_SECRET_KEY])
def test_a_key_is_taken_from_each_header(gateway, key):
    # The SDK sends `Authorization`; older ones, and programs without it, send `x-api-key`.
    with gateway.anthropic_client() as client:
        assert client.messages.create(**QUESTION).content
    with gateway.anthropic_client(api_key=None, auth_token=key) as client:
        assert client.messages.create(**QUESTION).content
    headers = {"x-api-key": key, "Authorization": anthropic.omit}
    with gateway.anthropic_client(default_headers=headers) as client:
        raw = client.messages.with_raw_response.create(**QUESTION)
    assert "authorization" not in raw.http_request.headers
    assert raw.parse().content


def test_of_two_keys_x_api_key_decides(gateway):
    with gateway.anthropic_client(api_key="unused", default_headers={"x-api-key": KEY}) as client:
        assert client.messages.create(**QUESTION).content
    wrong = gateway.anthropic_client(default_headers={"x-api-key": "sk-wrong"})
    with wrong as client, pytest.raises(anthropic.AuthenticationError):
        client.messages.create(**QUESTION)


def test_a_wrong_key_is_told_in_anthropic_s_words(gateway):
    wrong = gateway.anthropic_client(api_key="sk-wrong")
    with wrong as client, pytest.raises(anthropic.AuthenticationError) as caught:
        client.messages.create(**QUESTION)
    assert caught.value.type == "authentication_error"
    assert caught.value.body["type"] == "error"
    assert caught.value.request_id == caught.value.body["request_id"]
    assert "sk-wrong" not in caught.value.response.text


def test_a_key_of_some_models_opens_those_alone(gateway):
    with gateway.anthropic_client(api_key=LIMITED_KEY) as client:
        assert client.messages.create(**QUESTION | {"model": SMALL_MODEL}).content
        with pytest.raises(anthropic.PermissionDeniedError) as caught:
            client.messages.create(**QUESTION)
        assert caught.value.type == "permission_error"
        with pytest.raises(anthropic.PermissionDeniedError):
            client.messages.count_tokens(model=MODEL, messages=QUESTION["messages"])


def test_an_unknown_model_is_told_in_anthropic_s_words(gateway):
    with gateway.anthropic_client() as client, pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(**QUESTION | {"model": "no-such-model"})
    assert caught.value.type == "not_found_error"


def test_the_sdk_finds_the_name_of_its_request(gateway):
    with gateway.anthropic_client() as client:
        named = client.messages.create(**QUESTION, extra_headers={"x-request-id": "order-66"})
        assert named._request_id == "order-66"
        first, second = (client.messages.create(**QUESTION)._request_id for _ in range(2))
        with client.messages.stream(**QUESTION) as stream:
            assert stream.request_id
    assert first and second and first != second


def test_a_node_that_is_not_there_is_502(gateway):
    with gateway.anthropic_client() as client, pytest.raises(anthropic.InternalServerError) as caught:
        client.messages.create(**QUESTION | {"model": GONE_MODEL})
    assert (caught.value.status_code, caught.value.type) == (502, "api_error")


def test_a_node_slower_than_the_timeout_header_is_504(gateway):
    with gateway.anthropic_client() as client, pytest.raises(anthropic.InternalServerError) as caught:
        client.messages.create(
            **QUESTION | {"model": SLOW_MODEL}, extra_headers={"X-Timeout-Seconds": "0.2"}
        )
    assert caught.value.status_code == 504


def test_a_stream_whose_first_token_is_too_slow_ends_with_an_error(gateway):
    # vLLM sends the head of a stream, and its first event, before the first token: the status is gone by then.
    with gateway.anthropic_client() as client, pytest.raises(anthropic.APIStatusError) as caught:
        stream = client.messages.create(
            **QUESTION | {"model": SLOW_MODEL}, stream=True, extra_headers={"X-Timeout-Seconds": "0.2"}
        )
        list(stream)
    assert caught.value.body["type"] == "error"


def test_a_client_that_does_not_wait_gets_its_timeout(gateway):
    with gateway.anthropic_client(timeout=0.3) as client, pytest.raises(anthropic.APITimeoutError):
        client.messages.create(**QUESTION | {"model": SLOW_MODEL})
