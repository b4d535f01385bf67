"""The OpenAI Python SDK finds what it expects, through the gateway as straight at a node."""

import openai
import pytest

from conftest import GONE_MODEL, MODEL, SLOW_MODEL, SMALL_MODEL

QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "Say something."}]}


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_models_are_listed(client):
    assert {MODEL, SMALL_MODEL} <= {model.id for model in client.models.list()}


def test_the_gateway_lists_the_models_of_every_node(gateway):
    with gateway.client() as client:
        listed = [model.id for model in client.models.list()]
    assert sorted(listed) == sorted([MODEL, SMALL_MODEL, SLOW_MODEL])


def test_one_model_is_found_by_its_id(gateway):
    with gateway.client() as client:
        assert client.models.retrieve(MODEL).id == MODEL


def test_chat(client):
    answer = client.chat.completions.create(**QUESTION, max_tokens=8)
    assert answer.model == MODEL
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8


def test_a_stream_says_what_the_whole_answer_says(client):
    whole = client.chat.completions.create(**QUESTION, max_tokens=8)
    with client.chat.completions.create(**QUESTION, max_tokens=8, stream=True) as stream:
        chunks = list(stream)
    assert text_of(chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(chunk.usage is None for chunk in chunks), "nobody asked for it"


def test_a_stream_tells_its_usage_when_asked(client):
    whole = client.chat.completions.create(**QUESTION, max_tokens=8)
    with client.chat.completions.create(
        **QUESTION, max_tokens=8, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 8
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens


def test_a_stream_that_is_left_does_not_disturb_the_next_request(client):
    with client.chat.completions.create(**QUESTION, stream=True) as stream:
        next(iter(stream))
    assert client.chat.completions.create(**QUESTION).choices[0].message.content


def test_completion(client):
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8)
    assert answer.choices[0].text
    assert answer.usage.completion_tokens == 8


def test_completion_as_a_stream(client):
    question = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 8}
    whole = client.completions.create(**question)
    with client.completions.create(**question, stream=True) as stream:
        text = "".join(chunk.choices[0].text for chunk in stream if chunk.choices)
    assert text == whole.choices[0].text


def test_completions_of_several_prompts(client):
    prompts = ["Once upon a time", "It was a dark night"]
    answer = client.completions.create(model=MODEL, prompt=prompts, max_tokens=8)
    alone = [client.completions.create(model=MODEL, prompt=prompt, max_tokens=8) for prompt in prompts]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert [choice.text for choice in answer.choices] == [one.choices[0].text for one in alone]
    assert answer.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in alone)
    assert answer.usage.completion_tokens == 16


def test_completions_of_several_prompts_as_a_stream(client):
    question = {"model": MODEL, "prompt": ["Once upon a time", "It was a dark night"], "max_tokens": 8}
    whole = client.completions.create(**question)
    texts = {0: "", 1: ""}
    with client.completions.create(**question, stream=True) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.text
    assert [texts[0], texts[1]] == [choice.text for choice in whole.choices]


def test_the_raw_answer_has_its_headers(client):
    raw = client.chat.completions.with_raw_response.create(**QUESTION)
    assert raw.status_code == 200
    assert raw.headers["content-type"] == "application/json"
    assert int(raw.headers["content-length"]) == len(raw.content)
    assert raw.parse().choices[0].message.content in raw.text


def test_the_raw_stream_has_its_headers(client):
    with client.chat.completions.with_streaming_response.create(**QUESTION, stream=True) as raw:
        assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-length" not in raw.headers
        *_, last = (line for line in raw.iter_lines() if line)
    assert last == "data: [DONE]"


@pytest.mark.anyio
async def test_async_chat(target):
    async with target.async_client() as client:
        answer = await client.chat.completions.create(**QUESTION, max_tokens=8)
    assert answer.choices[0].message.content


@pytest.mark.anyio
async def test_async_stream(target):
    async with target.async_client() as client:
        whole = await client.chat.completions.create(**QUESTION, max_tokens=8)
        async with await client.chat.completions.create(**QUESTION, max_tokens=8, stream=True) as stream:
            chunks = [chunk async for chunk in stream]
    assert text_of(chunks) == whole.choices[0].message.content


def test_a_wrong_key_is_an_authentication_error(target):
    with target.client(api_key="sk-wrong") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(**QUESTION)


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(**QUESTION | {"model": "no-such-model"})
    assert caught.value.param == "model"


@pytest.mark.parametrize("stream", [False, True])
def test_a_negative_max_tokens_is_a_bad_request(client, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**QUESTION, stream=stream, extra_body={"max_tokens": -5})
    assert caught.value.param == "max_tokens", "the node's own answer, untouched"


def test_a_wrong_method_is_405(client):
    with pytest.raises(openai.APIStatusError) as caught:
        client.get("/chat/completions", cast_to=object)
    assert caught.value.status_code == 405
    assert "POST" in caught.value.response.headers["allow"]


def test_a_client_that_does_not_wait_gets_its_timeout(gateway):
    with gateway.client(timeout=0.3) as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(**QUESTION | {"model": SLOW_MODEL})


def test_a_node_slower_than_the_timeout_header_is_504(gateway):
    with gateway.client() as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            **QUESTION | {"model": SLOW_MODEL}, extra_headers={"X-Timeout-Seconds": "0.2"}
        )
    assert caught.value.status_code == 504
    assert caught.value.code == "upstream_timeout"


def test_a_stream_whose_first_token_is_too_slow_ends_with_an_error(gateway):
    # vLLM sends the head of a stream before its first token: the status is gone by then.
    with gateway.client() as client, pytest.raises(openai.APIError) as caught:
        stream = client.chat.completions.create(
            **QUESTION | {"model": SLOW_MODEL}, stream=True, extra_headers={"X-Timeout-Seconds": "0.2"}
        )
        list(stream)
    assert caught.value.code == "upstream_timeout"


def test_a_node_slower_than_the_timeout_in_the_query_is_504(gateway):
    with gateway.client() as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**QUESTION | {"model": SLOW_MODEL}, extra_query={"timeout": "0.2"})
    assert caught.value.status_code == 504


def test_a_node_that_is_not_there_is_502(gateway):
    with gateway.client() as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**QUESTION | {"model": GONE_MODEL})
    assert caught.value.status_code == 502
    assert caught.value.code == "upstream_unreachable"
