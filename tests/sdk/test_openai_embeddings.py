"""Embeddings with the OpenAI Python SDK, which asks for base64 unless it is told otherwise."""

import openai
import pytest

from conftest import MODEL

WORDS = ["one", "two", "three"]


def test_each_text_has_its_vector(client):
    answer = client.embeddings.create(model=MODEL, input=WORDS)
    assert answer.model == MODEL
    assert [item.index for item in answer.data] == [0, 1, 2]
    vectors = [item.embedding for item in answer.data]
    assert all(isinstance(number, float) for vector in vectors for number in vector)
    assert len({tuple(vector) for vector in vectors}) == 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens > 0


def test_base64_and_numbers_are_the_same_vector(client):
    by_default = client.embeddings.create(model=MODEL, input="one").data[0].embedding
    as_numbers = client.embeddings.create(model=MODEL, input="one", encoding_format="float").data[0].embedding
    # Base64 holds numbers of 32 bits.
    assert as_numbers == pytest.approx(by_default, rel=1e-6)
    as_text = client.embeddings.create(model=MODEL, input="one", encoding_format="base64").data[0].embedding
    assert isinstance(as_text, str), "who asks for base64 gets it untouched"


def test_a_vector_is_as_long_as_asked(client):
    assert len(client.embeddings.create(model=MODEL, input="one", dimensions=4).data[0].embedding) == 4


def test_token_ids_are_embedded(client):
    assert client.embeddings.create(model=MODEL, input=[[1, 2], [3]]).data[1].embedding


def test_too_many_dimensions_are_a_bad_request(client):
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=MODEL, input="one", dimensions=1_000_000)


@pytest.mark.anyio
async def test_async_embeddings(target):
    async with target.async_client() as client:
        answer = await client.embeddings.create(model=MODEL, input=WORDS)
    assert len(answer.data) == 3
