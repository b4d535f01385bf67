"""`/v1/responses` with the OpenAI Python SDK: what a node keeps is found again through the gateway."""

import openai
import pytest

from conftest import KEY, LIMITED_KEY, MODEL, SMALL_MODEL

QUESTION = {"model": MODEL, "input": "Say something.", "max_output_tokens": 8}
UNKNOWN = "resp_of_nobody"


def test_a_response(client):
    answer = client.responses.create(**QUESTION)
    assert answer.model == MODEL
    assert answer.output_text
    assert answer.output[0].role == "assistant"
    assert answer.usage.output_tokens == 8
    assert answer.usage.total_tokens == answer.usage.input_tokens + 8


def test_a_stream_says_what_the_whole_response_says(client):
    whole = client.responses.create(**QUESTION)
    with client.responses.create(**QUESTION, stream=True) as stream:
        events = list(stream)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == text
    assert events[-1].response.usage.output_tokens == 8


def test_the_sdk_gathers_a_stream_by_itself(client):
    whole = client.responses.create(**QUESTION)
    with client.responses.stream(**QUESTION) as stream:
        assert stream.get_final_response().output_text == whole.output_text


def test_a_response_is_kept(client):
    answer = client.responses.create(**QUESTION)
    assert client.responses.retrieve(answer.id) == answer


def test_a_streamed_response_is_kept(client):
    with client.responses.create(**QUESTION, stream=True) as stream:
        last = list(stream)[-1].response
    assert client.responses.retrieve(last.id).output_text == last.output_text


def test_a_response_goes_on_from_another(client):
    first = client.responses.create(**QUESTION)
    alone = client.responses.create(**QUESTION | {"input": "And then?"})
    second = client.responses.create(**QUESTION | {"input": "And then?"}, previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > alone.usage.input_tokens, "what was said before is part of it"


def test_the_work_in_the_background_is_cancelled(client):
    # So many tokens take longer than this test.
    running = client.responses.create(**QUESTION | {"max_output_tokens": 8000}, background=True)
    assert running.status in ("queued", "in_progress")
    assert client.responses.cancel(running.id).status == "cancelled"
    assert client.responses.retrieve(running.id).status == "cancelled"


@pytest.mark.parametrize("ask", ["retrieve", "cancel"])
def test_what_nobody_made_is_not_found(client, ask):
    with pytest.raises(openai.NotFoundError) as caught:
        getattr(client.responses, ask)(UNKNOWN)
    assert UNKNOWN in caught.value.message
    assert caught.value.param == "response_id"


def test_nothing_goes_on_from_what_nobody_made(client):
    with pytest.raises(openai.NotFoundError):
        client.responses.create(**QUESTION, previous_response_id=UNKNOWN)


def test_another_key_finds_nothing(gateway):
    with gateway.client(api_key=KEY) as owner, gateway.client(api_key=LIMITED_KEY) as other:
        answer = owner.responses.create(**QUESTION | {"model": SMALL_MODEL})
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(answer.id)
        assert owner.responses.retrieve(answer.id).id == answer.id


@pytest.mark.anyio
async def test_async_responses(target):
    async with target.async_client() as client:
        whole = await client.responses.create(**QUESTION)
        async with await client.responses.create(**QUESTION, stream=True) as stream:
            events = [event async for event in stream]
    assert events[-1].response.output_text == whole.output_text
