"""Limits of keys, as the SDKs of OpenAI and Anthropic tell them to an application, and as they wait for them."""

import time

import anthropic
import openai
import pytest

from conftest import DAY_KEY, MINUTE_KEY, MODEL

MESSAGES = [{"role": "user", "content": "Hi"}]

# Far less than the wait for another minute or another day.
AT_ONCE_S = 10


def test_a_minute_that_is_used_up_is_a_rate_limit_error_with_its_wait(gateway):
    with gateway.client(api_key=MINUTE_KEY) as client:
        chats = client.chat.completions.with_raw_response
        left = [
            chats.create(model=MODEL, messages=MESSAGES).headers["x-ratelimit-remaining-requests"]
            for _ in range(2)
        ]
        assert left == ["1", "0"]
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")
    assert "requests per min (RPM): Limit 2, Used 2" in caught.value.message
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 65


def test_no_sdk_waits_for_another_day(gateway):
    """They retry a 429 by themselves, and some would sleep as long as `Retry-After` says."""
    with gateway.client(api_key=DAY_KEY, max_retries=2) as client:
        for _ in range(2):
            client.chat.completions.create(model=MODEL, messages=MESSAGES)
        began = time.monotonic()
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert caught.value.code == "insufficient_quota"
    with gateway.anthropic_client(api_key=DAY_KEY, max_retries=2) as client:
        with pytest.raises(anthropic.RateLimitError) as caught:
            client.messages.create(model=MODEL, messages=MESSAGES, max_tokens=4)
        assert caught.value.type == "rate_limit_error"
    assert time.monotonic() - began < AT_ONCE_S
