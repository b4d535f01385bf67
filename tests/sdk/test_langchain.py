"""LangChain's OpenAI classes find what they expect, through the gateway as straight at a node."""

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from conftest import LIMITED_KEY, MODEL

QUESTION = "Say something."


class Place(BaseModel):
    """Where, and for how long."""

    city: str
    days: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


def model_of(target, **overrides):
    return ChatOpenAI(**target.options(model=MODEL, max_tokens=8) | overrides)


@pytest.fixture
def model(target):
    return model_of(target)


def joined(chunks):
    """All chunks as one message, as LangChain adds them up."""
    first, *rest = chunks
    return sum(rest, first)


def test_invoke(model):
    answer = model.invoke(QUESTION)
    assert isinstance(answer, AIMessage)
    assert answer.content
    assert answer.response_metadata["model_name"] == MODEL
    usage = answer.usage_metadata
    assert usage["output_tokens"] == 8
    assert usage["total_tokens"] == usage["input_tokens"] + 8


def test_a_conversation(model):
    one = model.invoke([HumanMessage(QUESTION)])
    longer = [SystemMessage("Answer in verse."), HumanMessage(QUESTION), one, HumanMessage("And then?")]
    assert model.invoke(longer).usage_metadata["input_tokens"] > one.usage_metadata["input_tokens"]


def test_a_stream_says_what_the_whole_answer_says(model):
    whole = model.invoke(QUESTION)
    chunks = list(model.stream(QUESTION))
    assert len(chunks) > 1
    answer = joined(chunks)
    assert answer.content == whole.content
    assert answer.response_metadata["finish_reason"] == whole.response_metadata["finish_reason"]
    assert answer.usage_metadata is None, "nobody asked for it"


def test_a_stream_tells_its_usage_when_asked(target):
    model = model_of(target, stream_usage=True)
    whole = model.invoke(QUESTION)
    usage = joined(model.stream(QUESTION)).usage_metadata
    for count in ("input_tokens", "output_tokens", "total_tokens"):
        assert usage[count] == whole.usage_metadata[count]


def test_a_stream_that_is_left_does_not_disturb_the_next_request(model):
    stream = model.stream(QUESTION)
    next(stream)
    stream.close()
    assert model.invoke(QUESTION).content


def test_batch(model):
    questions = [f"Say {number}." for number in range(5)]
    answers = model.batch(questions)
    assert [answer.content for answer in answers] == [model.invoke(question).content for question in questions]


def test_a_chain(model):
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{what}")])
    chain = prompt | model | StrOutputParser()
    assert "".join(chain.stream({"what": QUESTION})) == chain.invoke({"what": QUESTION})


@pytest.mark.anyio
async def test_async_invoke_stream_and_batch(model):
    # One test for all three: LangChain keeps its connections for the next one, which has another event loop.
    whole = await model.ainvoke(QUESTION)
    assert joined([chunk async for chunk in model.astream(QUESTION)]).content == whole.content
    assert [answer.content for answer in await model.abatch([QUESTION] * 3)] == [whole.content] * 3


def test_the_responses_api(target):
    model = model_of(target, use_responses_api=True)
    whole = model.invoke(QUESTION)
    assert whole.text
    assert joined(model.stream(QUESTION)).text == whole.text
    assert whole.usage_metadata["output_tokens"] == 8


def embeddings_of(target):
    # What checks the length of a text would download the tokenizer of OpenAI's own models, and send token ids.
    return OpenAIEmbeddings(**target.options(model=MODEL, check_embedding_ctx_length=False))


def test_embeddings(target):
    embeddings = embeddings_of(target)
    one, two = embeddings.embed_documents(["one", "two"])
    assert one == embeddings.embed_query("one")
    assert one != two
    assert all(isinstance(number, float) for number in one)


@pytest.mark.anyio
async def test_async_embeddings(target):
    embeddings = embeddings_of(target)
    assert await embeddings.aembed_documents(["one"]) == embeddings.embed_documents(["one"])


def test_a_wrong_key_is_an_authentication_error(target):
    with pytest.raises(openai.AuthenticationError):
        model_of(target, api_key="sk-wrong").invoke(QUESTION)


def test_an_unknown_model_is_not_found(target):
    with pytest.raises(openai.NotFoundError):
        model_of(target, model="no-such-model").invoke(QUESTION)


def test_a_key_of_other_models_is_forbidden(gateway):
    with pytest.raises(openai.PermissionDeniedError):
        model_of(gateway, api_key=LIMITED_KEY).invoke(QUESTION)


def test_a_tool_is_called_and_answered(model):
    # Its call needs more room than the other answers here.
    with_tools = model.bind_tools([get_weather], max_tokens=200)
    asked = HumanMessage("Use get_weather for Oslo")
    answer = with_tools.invoke([asked])
    (call,) = answer.tool_calls
    assert call["name"] == "get_weather"
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    after = with_tools.invoke([asked, answer, result])
    assert after.content and not after.tool_calls


def test_a_stream_makes_the_call_of_the_whole_answer(model):
    with_tools = model.bind_tools([get_weather], tool_choice="required", max_tokens=200)
    (whole,) = with_tools.invoke(QUESTION).tool_calls
    chunks = list(with_tools.stream(QUESTION))
    assert len(chunks) > 2
    (call,) = joined(chunks).tool_calls
    assert (call["name"], call["args"]) == (whole["name"], whole["args"])


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # about LangChain's own use of it
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_an_answer_is_held_to_a_class(target, method):
    structured = model_of(target, max_tokens=200).with_structured_output(Place, method=method)
    assert isinstance(structured.invoke(QUESTION), Place)
    assert list(structured.stream(QUESTION))[-1] == structured.invoke(QUESTION)


def test_it_is_told_how_likely_each_token_was(target):
    answer = model_of(target, logprobs=True).invoke(QUESTION)
    told = answer.response_metadata["logprobs"]["content"]
    assert "".join(token["token"] for token in told) == answer.content
