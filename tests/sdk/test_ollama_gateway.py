"""Ollama behind the gateway, with the SDKs of OpenAI and LangChain: they need not know what answers them."""

import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from conftest import KEY, Target
from processes import free_port, running

MODEL = "qwen3:8b"  # the simulator's models of that name think
MESSAGES = [{"role": "user", "content": "Hi"}]
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Place(BaseModel):
    city: str
    days: int


WEATHER = openai.pydantic_function_tool(Place, name="get_weather")


@pytest.fixture(scope="module")
def ollama(logs, tmp_path_factory):
    node, public, admin = (f"127.0.0.1:{free_port()}" for _ in range(3))
    models = ("--model", MODEL, "--model", "gemma3:4b", "--model", "nomic-embed-text")
    sim = ("sim", "--kind", "ollama", "--listen", node, "--token-delay", "2ms", "--tokens", "12", *models)
    serve = ("serve", "--config", str(tmp_path_factory.mktemp("none")), "--listen", public, "--admin-listen", admin)
    variables = {"PROXY_SECRET_KEY": KEY, "OLLAMA_BASE_URL": f"http://{node}/v1"}
    with (
        running(logs / "ollama", f"http://{node}/api/version", *sim),
        running(logs / "before-ollama", f"http://{public}/readyz", *serve, **variables),
    ):
        yield Target(f"http://{public}", KEY)


@pytest.fixture
def client(ollama):
    with ollama.client() as client:
        yield client


def test_a_chat_is_answered_whole_or_streamed(client):
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=5, seed=1)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 5
    chunks = list(
        client.chat.completions.create(
            model=f"ollama:{MODEL}",
            messages=MESSAGES,
            max_tokens=5,
            seed=1,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].usage.completion_tokens == 5
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == (whole.choices[0].message.content or "")
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


@pytest.mark.anyio
async def test_an_asynchronous_stream_is_read_to_its_end(ollama):
    async with ollama.async_client() as client:
        stream = await client.chat.completions.create(model="gemma3:4b", messages=MESSAGES, stream=True)
        reasons = [chunk.choices[0].finish_reason async for chunk in stream]
    assert reasons[-1] == "stop"
    assert set(reasons[:-1]) == {None}


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_answer_taken(client, stream):
    asked = [{"role": "user", "content": "Use get_weather for Oslo"}]
    options = {"model": MODEL, "tools": [WEATHER], "messages": asked, "max_tokens": 200}
    if stream:
        with client.chat.completions.stream(**options) as events:
            answer = events.get_final_completion()
    else:
        answer = client.chat.completions.create(**options)
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert Place.model_validate_json(call.function.arguments)
    called = answer.choices[0].message.model_dump(include={"role", "content", "tool_calls"})
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    after = client.chat.completions.create(model=MODEL, messages=[*asked, called, result])
    assert after.choices[0].message.content


def test_a_form_is_kept_and_thoughts_are_told(client):
    parsed = client.chat.completions.parse(model="gemma3:4b", messages=MESSAGES, response_format=Place)
    assert isinstance(parsed.choices[0].message.parsed, Place)
    thought = client.chat.completions.create(model=MODEL, messages=MESSAGES, reasoning_effort="high")
    assert thought.choices[0].message.reasoning


def test_an_image_and_ollamas_own_fields_pass(client):
    look = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    answer = client.chat.completions.create(
        model="gemma3:4b",
        messages=[{"role": "user", "content": look}],
        extra_body={"keep_alive": "10m", "options": {"top_k": 3}},
    )
    assert answer.choices[0].message.content
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, extra_body={"options": {"num_ctx": 4096}}
        )
    assert (caught.value.code, caught.value.param) == ("option_not_allowed", "options")


def test_vectors_are_the_same_in_either_encoding(client):
    """The SDK asks for base64 unless it is told otherwise."""
    ask = {"model": "nomic-embed-text", "input": ["one", "two"]}
    packed = client.embeddings.create(**ask)
    plain = client.embeddings.create(**ask, encoding_format="float")
    assert len(packed.data) == 2
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, rel=1e-6)


def test_a_completion_and_the_list_of_models(client):
    answer = client.completions.create(model=MODEL, prompt="Once", max_tokens=3)
    assert answer.usage.completion_tokens == 3
    assert {model.id for model in client.models.list()} == {MODEL, "gemma3:4b", "nomic-embed-text:latest"}


def test_errors_are_those_of_openai(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="unheard-of", messages=MESSAGES)
    assert "not found" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, n=2)
    assert caught.value.code == "unsupported_parameter"


def test_langchain_gets_its_form(ollama):
    model = ChatOpenAI(
        base_url=f"{ollama.url}/v1", api_key=ollama.key, model="gemma3:4b", max_retries=0, timeout=30
    )
    place = model.with_structured_output(Place, method="json_schema").invoke("Where?")
    assert isinstance(place, Place)
    assert "".join(chunk.text for chunk in model.stream("Hi"))
