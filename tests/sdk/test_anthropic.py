"""The Anthropic Python SDK finds what it expects, through the gateway as straight at a node."""

import anthropic
import pytest
from pydantic import BaseModel

from conftest import MODEL

MESSAGES = [{"role": "user", "content": "Say something."}]
QUESTION = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8}


class Place(BaseModel):
    city: str
    days: int


WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": Place.model_json_schema(),
}
CLOCK = {"name": "get_time", "input_schema": {"type": "object", "properties": {}}}
TOOLS = {"tools": [CLOCK, WEATHER], "max_tokens": 200}


@pytest.fixture
def client(target):
    with target.anthropic_client() as client:
        yield client


def test_a_message(client):
    answer = client.messages.create(**QUESTION)
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", MODEL)
    assert answer.content[0].text
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 8
    assert answer.usage.input_tokens > 0


def test_a_stream_says_what_the_whole_message_says(client):
    whole = client.messages.create(**QUESTION)
    with client.messages.create(**QUESTION, stream=True) as stream:
        events = list(stream)
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    assert "".join(delta.text for delta in deltas) == whole.content[0].text
    kinds = [event.type for event in events if event.type != "content_block_delta"]
    assert kinds == [
        *("message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop")
    ]
    assert events[0].message.usage.input_tokens == whole.usage.input_tokens
    assert events[-2].delta.stop_reason == whole.stop_reason
    assert events[-2].usage.output_tokens == whole.usage.output_tokens


def test_the_sdk_gathers_a_stream_by_itself(client):
    whole = client.messages.create(**QUESTION)
    with client.messages.stream(**QUESTION) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_a_stream_that_is_left_does_not_disturb_the_next_request(client):
    with client.messages.create(**QUESTION, stream=True) as stream:
        next(iter(stream))
    assert client.messages.create(**QUESTION).content[0].text


def test_the_system_prompt_is_part_of_the_input(client):
    plain = client.messages.create(**QUESTION)
    as_text = client.messages.create(**QUESTION, system="Answer in verse.")
    as_blocks = client.messages.create(**QUESTION, system=[{"type": "text", "text": "Answer in verse."}])
    assert as_text.usage.input_tokens > plain.usage.input_tokens
    assert as_blocks.usage.input_tokens == as_text.usage.input_tokens


def test_a_stop_sequence_ends_a_message(client):
    whole = client.messages.create(**QUESTION).content[0].text
    stop = whole[len(whole) // 2 :][:4]
    answer = client.messages.create(**QUESTION, stop_sequences=[stop])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", stop)
    assert answer.content[0].text == whole[: whole.index(stop)]


def test_tokens_are_counted_as_a_message_counts_them(client):
    asked = {"model": MODEL, "messages": MESSAGES, "system": "Answer in verse.", "tools": [WEATHER]}
    counted = client.messages.count_tokens(**asked)
    assert counted.input_tokens == client.messages.create(**asked, max_tokens=8).usage.input_tokens


def test_a_tool_is_called_when_the_user_names_it(client):
    messages = [{"role": "user", "content": "Use get_weather for Oslo"}]
    answer = client.messages.create(**QUESTION | TOOLS | {"messages": messages})
    call = answer.content[0]
    assert (call.type, call.name, answer.stop_reason) == ("tool_use", "get_weather", "tool_use")
    assert isinstance(call.input["city"], str) and isinstance(call.input["days"], int)


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ({"type": "auto"}, None),
        ({"type": "any"}, "get_time"),
        ({"type": "tool", "name": "get_weather"}, "get_weather"),
        ({"type": "none"}, None),
    ],
)
def test_the_choice_of_a_tool_is_followed(client, choice, called):
    answer = client.messages.create(**QUESTION | TOOLS, tool_choice=choice)
    assert [block.name for block in answer.content if block.type == "tool_use"] == ([called] if called else [])


def test_a_call_as_a_stream(client):
    asked = QUESTION | TOOLS | {"tool_choice": {"type": "tool", "name": "get_weather"}}
    whole = client.messages.create(**asked).content[0]
    with client.messages.stream(**asked) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert len(pieces) > 1
    assert (final.content[0].name, final.content[0].input) == (whole.name, whole.input)
    assert final.stop_reason == "tool_use"


def test_the_answer_of_a_tool_goes_back(client):
    asked = [{"role": "user", "content": "Use get_weather for Oslo"}]
    first = client.messages.create(**QUESTION | TOOLS | {"messages": asked})
    result = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": "sunny"}
    conversation = [
        *asked,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    second = client.messages.create(**QUESTION | TOOLS | {"messages": conversation})
    assert second.content[0].type == "text"
    assert second.usage.input_tokens > first.usage.input_tokens


def test_an_answer_is_held_to_a_class(client):
    asked = QUESTION | {"max_tokens": 200}
    whole = client.messages.parse(**asked, output_format=Place)
    assert isinstance(whole.parsed_output, Place)
    with client.messages.stream(**asked, output_format=Place) as stream:
        text = "".join(stream.text_stream)
        assert stream.get_final_message().parsed_output == whole.parsed_output
    assert Place.model_validate_json(text) == whole.parsed_output


@pytest.mark.anyio
async def test_async_messages(target):
    async with anthropic.AsyncAnthropic(**target.options(base_url=target.url)) as client:
        whole = await client.messages.create(**QUESTION)
        async with client.messages.stream(**QUESTION) as stream:
            text = "".join([piece async for piece in stream.text_stream])
        counted = await client.messages.count_tokens(model=MODEL, messages=MESSAGES)
    assert text == whole.content[0].text
    assert counted.input_tokens == whole.usage.input_tokens


def test_a_wrong_key_is_an_authentication_error(target):
    wrong = target.anthropic_client(api_key="sk-wrong")
    with wrong as client, pytest.raises(anthropic.AuthenticationError):
        client.messages.create(**QUESTION)


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(**QUESTION | {"model": "no-such-model"})
    assert "no-such-model" in caught.value.api_message


@pytest.mark.parametrize("stream", [False, True])
def test_max_tokens_below_one_are_a_bad_request(client, stream):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**QUESTION | {"max_tokens": -5}, stream=stream)
    assert "max_tokens" in caught.value.api_message, "the node's own answer, untouched"
