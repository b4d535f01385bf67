"""Keys and headers of the gateway, as applications set them with the OpenAI Python SDK."""

import openai
import pytest

from conftest import KEY, LIMITED_KEY, MODEL, PROXY_SECRET_KEY, SMALL_MODEL

MESSAGES = [{"role": "user", "content": "Hi"}]


def test_a_key_of_some_models_opens_those_alone(gateway):
    with gateway.client(api_key=LIMITED_KEY) as client:
        assert client.chat.completions.create(model=SMALL_MODEL, messages=MESSAGES).choices
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert caught.value.code == "model_not_allowed"


def test_a_key_of_some_models_sees_those_alone(gateway):
    with gateway.client(api_key=LIMITED_KEY) as client:
        assert [model.id for model in client.models.list()] == [SMALL_MODEL]


def test_the_secret_of_the_environment_is_a_bearer_key(gateway):
    with gateway.client(api_key=PROXY_SECRET_KEY) as client:
        assert client.chat.completions.create(model=MODEL, messages=MESSAGES).choices


@pytest.mark.parametrize("header", ["X-Proxy-Secret", "x-internal-auth", "x-api-key"])
def test_a_key_in_a_header_of_its_own_decides(gateway, header):
    """The SDK always sends `Authorization` as well; the other header comes first."""
    right = gateway.client(api_key="unused", default_headers={header: PROXY_SECRET_KEY})
    with right as client:
        assert client.chat.completions.create(model=MODEL, messages=MESSAGES).choices
    wrong = gateway.client(api_key=KEY, default_headers={header: "sk-wrong"})
    with wrong as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model=MODEL, messages=MESSAGES)


def test_a_wrong_key_is_told_in_openai_s_words(gateway):
    with gateway.client(api_key="sk-wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.models.list()
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id
    assert "sk-wrong" not in caught.value.response.text


def test_the_request_id_comes_back(gateway):
    with gateway.client() as client:
        answer = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=MESSAGES, extra_headers={"x-request-id": "order-66.retry_1"}
        )
        assert answer.headers["x-request-id"] == "order-66.retry_1"
        assert answer.parse().choices


def test_a_request_without_an_id_is_given_one(gateway):
    with gateway.client() as client:
        first, second = (client.models.with_raw_response.list().request_id for _ in range(2))
    assert first and second and first != second


def test_an_unfit_request_id_is_replaced(gateway):
    with gateway.client() as client:
        answer = client.models.with_raw_response.list(extra_headers={"x-request-id": "not an id"})
    assert answer.request_id and answer.request_id != "not an id"
