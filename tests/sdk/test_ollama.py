"""Ollama's own Python client, and OpenAI's, find what they expect straight at a simulated Ollama node."""

import ollama
import openai
import pytest

from processes import free_port, running

MODEL, THINKER, EMBEDDER = "llama3.2:3b", "qwen3:8b", "nomic-embed-text"
QUESTION = [{"role": "user", "content": "Say something."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    address = f"127.0.0.1:{free_port()}"
    models = [word for model in (MODEL, THINKER, EMBEDDER) for word in ("--model", model)]
    arguments = ["sim", "--kind", "ollama", "--listen", address, *models, "--token-delay", "1ms"]
    with running(tmp_path_factory.mktemp("ollama") / "log", f"http://{address}/", *arguments):
        yield address


@pytest.fixture
def client(address):
    with ollama.Client(host=f"http://{address}", timeout=30) as client:
        yield client


def test_a_chat_is_answered(client):
    answer = client.chat(MODEL, QUESTION, options={"num_predict": 5})
    assert (answer.model, answer.done, answer.done_reason) == (MODEL, True, "length")
    assert (answer.message.role, answer.message.content) == ("assistant", "You said: Say something")
    assert (answer.eval_count, answer.message.thinking, answer.message.tool_calls) == (5, None, None)
    assert answer.prompt_eval_count > 0
    assert answer.total_duration >= answer.eval_duration > 0


def test_a_stream_says_what_the_whole_answer_says(client):
    whole = client.chat(MODEL, QUESTION).message.content
    lines = list(client.chat(MODEL, QUESTION, stream=True))
    assert "".join(line.message.content for line in lines) == whole
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1].done_reason == "stop"


@pytest.mark.anyio
async def test_a_stream_can_be_asynchronous(address):
    async with ollama.AsyncClient(host=f"http://{address}", timeout=30) as client:
        lines = [line async for line in await client.chat(MODEL, QUESTION, stream=True)]
    assert "".join(line.message.content for line in lines).startswith("You said: Say something.")


def test_a_tool_is_called_and_answered(client):
    messages = [{"role": "user", "content": "Ask get_weather about Oslo"}]
    answer = client.chat(MODEL, messages, tools=[WEATHER])
    (call,) = answer.message.tool_calls
    assert call.function.name == "get_weather"
    assert set(call.function.arguments) == {"city"}
    messages += [answer.message, {"role": "tool", "tool_name": "get_weather", "content": "+3"}]
    assert client.chat(MODEL, messages, tools=[WEATHER]).message.content.startswith("You said: Ask")
    streamed = list(client.chat(MODEL, messages[:1], tools=[WEATHER], stream=True))
    assert [len(line.message.tool_calls or []) for line in streamed] == [1, 0]


def test_thoughts_come_apart(client):
    answer = client.chat(THINKER, QUESTION, think="low")
    assert answer.message.thinking == "The user wants an answer."
    assert answer.message.content.startswith("You said:")
    assert client.chat(THINKER, QUESTION, think=False).message.thinking is None
    with pytest.raises(ollama.ResponseError) as error:
        client.chat(MODEL, QUESTION, think=True)
    assert (error.value.status_code, error.value.error) == (400, f'"{MODEL}" does not support thinking')


def test_a_format_is_kept(client):
    schema = {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
    assert client.chat(MODEL, QUESTION, format=schema).message.content == '{"days": 1}'


def test_a_prompt_goes_on(client):
    answer = client.generate(MODEL, "Say something.", options={"num_predict": 5})
    assert (answer.response, answer.done_reason) == ("You said: Say something", "length")
    again = client.generate(MODEL, "More.", context=answer.context, options={"num_predict": 5})
    assert again.prompt_eval_count > answer.prompt_eval_count
    lines = list(client.generate(MODEL, "Say something.", stream=True, options={"num_predict": 5}))
    assert "".join(line.response for line in lines) == answer.response
    assert lines[-1].context == answer.context


def test_texts_become_vectors(client):
    answer = client.embed(EMBEDDER, ["one", "two"], dimensions=8)
    assert [len(vector) for vector in answer.embeddings] == [8, 8]
    assert answer.prompt_eval_count == 2
    assert sum(number**2 for number in client.embed(EMBEDDER, "one").embeddings[0]) == pytest.approx(1)
    assert len(client.embeddings(EMBEDDER, "one").embedding) == 64


def test_models_are_listed_shown_and_loaded(client):
    assert [model.model for model in client.list().models] == [MODEL, THINKER, f"{EMBEDDER}:latest"]
    shown = client.show(THINKER)
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert shown.modelinfo["llama.context_length"] == 8192
    assert client.chat(MODEL, [], keep_alive="1h").done_reason == "load"
    (loaded,) = [model for model in client.ps().models if model.model == MODEL]
    assert loaded.context_length == 8192
    assert client.chat(MODEL, [], keep_alive=0).done_reason == "unload"
    assert MODEL not in [model.model for model in client.ps().models]
    assert client.chat(MODEL, QUESTION, keep_alive=-1).done
    (loaded,) = [model for model in client.ps().models if model.model == MODEL]
    assert loaded.expires_at.year > 2200


def test_errors_are_raised(client, address):
    with pytest.raises(ollama.ResponseError) as error:
        client.chat("missing", QUESTION)
    assert (error.value.status_code, error.value.error) == (404, "model 'missing' not found")
    dying = ollama.Client(host=f"http://{address}", timeout=30, headers={"x-sim-fault": "die-after=2"})
    with dying, pytest.raises(ollama.ResponseError, match="an error was encountered while running the model"):
        lines = 0
        for _ in dying.chat(MODEL, QUESTION, stream=True):
            lines += 1
            assert lines <= 2


def test_the_openai_sdk_is_answered_too(address):
    options = {"base_url": f"http://{address}/v1", "api_key": "unused", "max_retries": 0, "timeout": 30}
    with openai.OpenAI(**options) as client:
        answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=5)
        assert answer.choices[0].message.content == "You said: Say something"
        with client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True) as stream:
            chunks = list(stream)
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert {chunk.id for chunk in chunks} == {chunks[0].id}
        assert client.models.retrieve(MODEL).owned_by == "library"
        assert len(client.embeddings.create(model=EMBEDDER, input="one").data[0].embedding) == 64
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="missing", messages=QUESTION)
