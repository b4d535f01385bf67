"""The documents of the API as people use them (row C7 of the services replaced)."""

import pytest
from playwright.sync_api import expect

from conftest import KEY, screenshot, started

CHAT = "#operations-Inference-post_v1_chat_completions"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with started(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def authorize(page, key):
    page.get_by_role("button", name="Authorize").first.click()
    page.get_by_label("auth-bearer-value").fill(key)
    page.get_by_label("auth-bearer-value").press("Enter")
    page.get_by_role("button", name="Close").first.click()


@pytest.fixture
def chat(page):
    """The box of the endpoint for chats, opened."""
    page.goto("/docs")
    box = page.locator(CHAT)
    box.locator(".opblock-summary-control").click()
    return box


def execute(box):
    """Presses the button; status and body of what came."""
    box.get_by_role("button", name="Execute").click()
    answer = box.locator(".live-responses-table .response").first
    return answer.locator(".response-col_status"), answer.locator(".response-col_description")


def test_c7_every_endpoint_is_shown(page):
    page.goto("/docs")
    for path in ("/v1/chat/completions", "/v1/embeddings", "/init_session", "/pause", "/health"):
        expect(page.locator(f".opblock-summary-path[data-path='{path}']")).to_be_visible()
    screenshot(page, "docs")


def test_c7_a_request_is_tried_with_the_key(page, chat):
    authorize(page, KEY)
    status, answer = execute(chat)
    expect(status).to_have_text("200")
    expect(answer).to_contain_text('"object": "chat.completion"')
    screenshot(page, "docs-tried")


def test_c7_a_stream_is_tried_with_the_key(page, chat):
    authorize(page, KEY)
    chat.locator(".examples-select-element").first.select_option("stream")
    status, answer = execute(chat)
    expect(status).to_have_text("200")
    expect(answer).to_contain_text("data: [DONE]")


def test_c7_a_wrong_key_is_refused(page, chat, allow):
    allow("status of 401")
    authorize(page, "sk-wrong")
    status, answer = execute(chat)
    expect(status).to_contain_text("401")
    expect(answer).to_contain_text("invalid_api_key")


def test_the_key_is_still_there_after_a_reload(page, chat):
    authorize(page, KEY)
    page.reload()
    page.get_by_role("button", name="Authorize").first.click()
    expect(page.get_by_label("Remove authorization")).to_be_visible()


def test_c7_redoc_shows_the_document(page):
    page.goto("/redoc")
    expect(page.get_by_role("heading", name="chat~1completions/post Answer a chat")).to_be_visible()
    expect(page.get_by_role("heading", name="Begin a session")).to_be_visible()
    screenshot(page, "redoc")


def test_redoc_searches(page):
    page.goto("/redoc")
    page.get_by_placeholder("Search").fill("embeddings")
    expect(page.get_by_role("search").get_by_text("Vectors of texts")).to_be_visible()
