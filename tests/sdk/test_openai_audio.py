"""Uploads with the OpenAI Python SDK: a recording comes to the node whole."""

import io
import wave

import openai
import pytest

from conftest import MODEL


def recording(seconds):
    """Silence, as a WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(2 * 8000 * seconds))
    return file.getvalue()


@pytest.fixture(scope="module")
def question():
    return {"model": MODEL, "file": ("silence.wav", recording(2))}


def test_transcription(client, question):
    answer = client.audio.transcriptions.create(**question)
    assert "2 seconds of wav" in answer.text
    assert answer.usage.seconds == 2


def test_the_answer_depends_on_every_byte(client, question):
    whole = recording(2)
    other = whole[:-1] + b"\x01"
    first = client.audio.transcriptions.create(**question)
    second = client.audio.transcriptions.create(**question | {"file": ("silence.wav", other)})
    assert first.text != second.text


def test_a_large_recording(client):
    # 4.8 MB: more than any buffer on its way.
    file = ("silence.wav", recording(300))
    assert client.audio.transcriptions.create(model=MODEL, file=file).usage.seconds == 300


def test_a_file_of_the_disk(client, tmp_path):
    path = tmp_path / "silence.wav"
    path.write_bytes(recording(1))
    assert client.audio.transcriptions.create(model=MODEL, file=path).usage.seconds == 1


def test_a_transcription_in_detail(client, question):
    answer = client.audio.transcriptions.create(
        **question, response_format="verbose_json", timestamp_granularities=["segment"], language="de"
    )
    assert (answer.duration, answer.language) == (2, "de")
    assert answer.segments[0].text == answer.text


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # by OpenAI; vLLM still answers it
def test_translation(client, question):
    assert "2 seconds of wav" in client.audio.translations.create(**question).text


def test_a_text_is_no_recording(client, question):
    with pytest.raises(openai.BadRequestError):
        client.audio.transcriptions.create(**question | {"file": ("silence.wav", b"just a text")})


@pytest.mark.anyio
async def test_async_transcription(target, question):
    async with target.async_client() as client:
        answer = await client.audio.transcriptions.create(**question)
    assert answer.usage.seconds == 2
