"""Tools in chats with the OpenAI Python SDK: chosen, called, streamed and answered."""

import openai
import pytest
from pydantic import BaseModel

from conftest import MODEL


class Place(BaseModel):
    city: str
    days: int


WEATHER = openai.pydantic_function_tool(Place, name="get_weather")
NO_ARGUMENTS = {"type": "object", "properties": {}}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": NO_ARGUMENTS}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}

OFFER = {"model": MODEL, "tools": [CLOCK, WEATHER], "max_tokens": 200}
ASKED = [{"role": "user", "content": "Use get_weather for Oslo"}]
TALK = [{"role": "user", "content": "Say something."}]


def calls_of(answer):
    return [call.function.name for call in answer.choices[0].message.tool_calls or []]


def test_a_tool_is_called_when_the_user_names_it(client):
    answer = client.chat.completions.create(**OFFER, messages=ASKED)
    (call,) = answer.choices[0].message.tool_calls
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert call.id
    assert Place.model_validate_json(call.function.arguments)
    assert not answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("choice", "called", "reason"),
    [
        ("auto", [], "length"),
        ("none", [], "length"),
        ("required", ["get_time"], "tool_calls"),
        (NAMED, ["get_weather"], "stop"),  # vLLM's: who names the tool knows that it is called
    ],
)
def test_the_choice_of_a_tool_is_followed(client, choice, called, reason):
    answer = client.chat.completions.create(**OFFER, messages=TALK, tool_choice=choice)
    assert calls_of(answer) == called
    assert answer.choices[0].finish_reason == reason


def test_no_tool_is_called_without_leave(client):
    answer = client.chat.completions.create(**OFFER, messages=ASKED, tool_choice="none")
    assert calls_of(answer) == []
    assert answer.choices[0].message.content


@pytest.mark.parametrize("choice", ["auto", "required", NAMED])
def test_a_stream_makes_the_call_of_the_whole_answer(client, choice):
    question = OFFER | {"messages": ASKED, "tool_choice": choice}
    whole = client.chat.completions.create(**question).choices[0]
    names, arguments, ids, reason = [], "", [], None
    with client.chat.completions.create(**question, stream=True) as stream:
        for part in (part for chunk in stream for part in chunk.choices):
            assert not part.delta.content
            reason = part.finish_reason or reason
            for call in part.delta.tool_calls or []:
                assert call.index == 0
                names += [call.function.name] if call.function.name else []
                ids += [call.id] if call.id else []
                arguments += call.function.arguments or ""
    (called,) = whole.message.tool_calls
    assert (names, arguments) == ([called.function.name], called.function.arguments)
    assert len(ids) == 1
    assert reason == whole.finish_reason


def test_the_sdk_gathers_a_call_by_itself(client):
    whole = client.chat.completions.create(**OFFER, messages=ASKED).choices[0].message.tool_calls[0]
    with client.chat.completions.stream(**OFFER, messages=ASKED) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == (whole.function.name, whole.function.arguments)
    assert call.function.parsed_arguments == Place.model_validate_json(whole.function.arguments)


def test_the_answer_of_a_tool_goes_back(client):
    first = client.chat.completions.create(**OFFER, messages=ASKED)
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    second = client.chat.completions.create(**OFFER, messages=[*ASKED, message, result])
    assert calls_of(second) == []
    assert second.choices[0].message.content
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_a_tool_that_is_not_offered_is_a_bad_request(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            **OFFER, messages=TALK, tool_choice={"type": "function", "function": {"name": "get_rich"}}
        )
    assert caught.value.param == "tool_choice"


@pytest.mark.anyio
async def test_async_tools(target):
    async with target.async_client() as client:
        whole = await client.chat.completions.create(**OFFER, messages=ASKED)
        async with client.chat.completions.stream(**OFFER, messages=ASKED) as stream:
            final = await stream.get_final_completion()
    assert calls_of(final) == calls_of(whole) == ["get_weather"]
