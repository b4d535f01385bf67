"""Chats whose answer is JSON, and how likely its tokens were, with the OpenAI Python SDK."""

import json

import openai
import pytest
from pydantic import BaseModel

from conftest import MODEL

QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "Say something."}]}


class Step(BaseModel):
    explanation: str
    number: int


class Solution(BaseModel):
    steps: list[Step]
    final: bool


def test_an_answer_is_held_to_a_class(client):
    answer = client.chat.completions.parse(**QUESTION, response_format=Solution)
    message = answer.choices[0].message
    assert isinstance(message.parsed, Solution)
    assert message.parsed == Solution.model_validate_json(message.content)
    assert answer.choices[0].finish_reason == "stop"


def test_a_stream_is_held_to_a_class(client):
    whole = client.chat.completions.parse(**QUESTION, response_format=Solution)
    with client.chat.completions.stream(**QUESTION, response_format=Solution) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert text == whole.choices[0].message.content
    assert final.choices[0].message.parsed == whole.choices[0].message.parsed


def test_an_answer_that_was_cut_short_is_told_to_be(client):
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**QUESTION, response_format=Solution, max_tokens=3)


def test_any_json(client):
    answer = client.chat.completions.create(**QUESTION, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


@pytest.mark.anyio
async def test_an_async_answer_is_held_to_a_class(target):
    async with target.async_client() as client:
        answer = await client.chat.completions.parse(**QUESTION, response_format=Solution)
    assert isinstance(answer.choices[0].message.parsed, Solution)


def test_a_stop_string_ends_an_answer(client):
    whole = client.chat.completions.create(**QUESTION, max_tokens=8).choices[0].message.content
    stop = whole[len(whole) // 2 :][:4]
    choice = client.chat.completions.create(**QUESTION, max_tokens=8, stop=[stop]).choices[0]
    assert (choice.message.content, choice.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_it_is_told_how_likely_each_token_was(client):
    question = QUESTION | {"max_tokens": 8, "logprobs": True, "top_logprobs": 2}
    choice = client.chat.completions.create(**question).choices[0]
    told = choice.logprobs.content
    assert len(told) == 8
    assert "".join(token.token for token in told) == choice.message.content
    assert bytes(byte for token in told for byte in token.bytes).decode() == choice.message.content
    for token in told:
        assert token.logprob <= 0
        assert [other.token for other in token.top_logprobs].count(token.token) == 1
        assert len(token.top_logprobs) == 2


def test_a_stream_tells_it_too(client):
    question = QUESTION | {"max_tokens": 8, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**question).choices[0].logprobs.content
    with client.chat.completions.create(**question, stream=True) as stream:
        choices = [choice for chunk in stream for choice in chunk.choices]
    assert [token for choice in choices if choice.logprobs for token in choice.logprobs.content] == whole


def test_nothing_is_told_unasked(client):
    assert client.chat.completions.create(**QUESTION).choices[0].logprobs is None


def test_completions_tell_it_in_their_own_shape(client):
    question = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 8}
    choice = client.completions.create(**question, logprobs=2).choices[0]
    assert "".join(choice.logprobs.tokens) == choice.text
    assert len(choice.logprobs.token_logprobs) == len(choice.logprobs.top_logprobs) == 8


def test_other_tokens_without_logprobs_are_a_bad_request(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**QUESTION, top_logprobs=2)
    assert caught.value.param == "top_logprobs"


def test_several_answers(client):
    question = QUESTION | {"max_tokens": 8, "n": 2}
    whole = client.chat.completions.create(**question)
    texts = {0: "", 1: ""}
    with client.chat.completions.create(**question, stream=True) as stream:
        for choice in (choice for chunk in stream for choice in chunk.choices):
            texts[choice.index] += choice.delta.content or ""
    assert [texts[0], texts[1]] == [choice.message.content for choice in whole.choices]
    assert whole.usage.completion_tokens == 16
