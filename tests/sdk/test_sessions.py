"""Chat sessions, as a page or a bot talks to them: plain HTTP, with nothing but the id after the first call."""

import json

import httpx
import pytest

from conftest import NODE_KEY, MODEL
from processes import free_port, running


@pytest.fixture(scope="module")
def base(logs, direct, tmp_path_factory):
    public, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    serve = ("serve", "--config", str(tmp_path_factory.mktemp("none")), "--listen", public, "--admin-listen", admin)
    variables = {
        "VLLM_BASE_URL": f"{direct.url}/v1",
        "VLLM_API_KEY": NODE_KEY,
        "VLLM_MODEL_NAME": MODEL,
        "MAX_CONTEXT_TOKENS": "200",
    }
    with running(logs / "sessions", f"http://{public}/readyz", *serve, **variables):
        yield f"http://{public}"


@pytest.fixture
def client(base):
    with httpx.Client(base_url=base, timeout=30) as client:
        yield client


@pytest.fixture
def session_id(client):
    begun = client.post("/init_session", json={"vllm_api_key": NODE_KEY})
    assert begun.json()["expires_in"] == 600
    return begun.json()["session_id"]


def test_a_conversation_goes_on_and_its_beginning_is_forgotten(client, session_id):
    client.post("/set_system_prompt", json={"session_id": session_id, "system_prompt": "Be brief."})
    for number in range(8):
        question = {"session_id": session_id, "message": f"вопрос {number} " * 5, "max_tokens": 8}
        answer = client.post("/chat", json=question).json()
        assert set(answer) == {"reply", "finish_reason", "total_tokens", "input_tokens", "output_tokens"}
        assert answer["output_tokens"] == 8
        assert answer["input_tokens"] <= 200
    assert client.post("/stop_session", json={"session_id": session_id}).status_code == 200
    gone = client.post("/chat", json={"session_id": session_id, "message": "?"})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "session_not_found")


def test_a_stream_is_of_chunks(client, session_id):
    question = {"session_id": session_id, "message": "Hi", "stream": True, "extra": {"top_p": 0.9}}
    with client.stream("POST", "/chat", json=question) as answer:
        data = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert data[-1] == "[DONE]"
    assert "".join(json.loads(one)["choices"][0]["delta"].get("content") or "" for one in data[:-1])


@pytest.mark.parametrize("key", ["", "sk-wrong", "7f3a"])
def test_another_key_gets_no_session(client, key):
    refused = client.post("/init_session", json={"vllm_api_key": key})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
