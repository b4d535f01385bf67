"""The operators' page: it keeps itself up to date, and can be read and worked without a script, a mouse or a large screen."""

import re
import time
import urllib.request

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from conftest import ADMIN_KEY, KEY, MODEL, NODE_KEY, ROUTES, screenshot, started

# From the kill of a node to its state on the page: probes, then the page's next look.
KILLED_SECONDS_MAX = 3

QUICK = ROUTES.replace("    models:", "    health: {{interval: 500ms, timeout: 1s, unhealthy_after: 2}}\n    models:")

BODY = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello"}}], "max_tokens": 8}}'


@pytest.fixture
def gateway(tmp_path):
    with started(tmp_path, routes=QUICK) as gateway:
        yield gateway


@pytest.fixture
def base_url(gateway):
    return gateway.admin_url


def chat(gateway):
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    asked = urllib.request.Request(f"{gateway.url}/v1/chat/completions", BODY.encode(), headers)
    with urllib.request.urlopen(asked, timeout=30) as reply:
        reply.read()


def state(page):
    return page.locator("p.state")


def row(page, node):
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=node.url))


def test_a_killed_node_is_told_of_with_its_reason(gateway, page):
    page.goto("/")
    expect(state(page)).to_have_text("OK")
    expect(row(page, gateway.nodes[0])).to_contain_text("up")
    node = gateway.nodes[0]
    node.process.kill()
    killed = time.monotonic()
    expect(row(page, node).locator(".state")).to_have_text(re.compile("down|ejected"))
    assert time.monotonic() - killed <= KILLED_SECONDS_MAX
    expect(row(page, node)).to_contain_text("cannot connect")
    expect(state(page)).to_have_text("DEGRADED")
    expect(page.get_by_role("heading", name="What is wrong")).to_be_visible()
    assert page.title() == "DEGRADED · Sluice"
    red = row(page, node).locator(".state").evaluate("badge => getComputedStyle(badge).color")
    assert red == "rgb(179, 22, 27)"


def test_a_node_is_drained_and_undrained_by_keyboard(gateway, page):
    page.goto("/")
    node = gateway.nodes[0]
    page.get_by_role("button", name=f"drain {node.url}", exact=True).focus()
    page.keyboard.press("Enter")
    expect(row(page, node)).to_contain_text("an operator took it out")
    again = page.get_by_role("button", name=f"undrain {node.url}")
    expect(again).to_be_focused()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name=f"drain {node.url}", exact=True)).to_be_focused()
    expect(row(page, node)).not_to_contain_text("an operator took it out")


def test_what_could_not_be_done_is_told_in_words(gateway, page, allow):
    allow("404 (Not Found)")
    page.goto("/")
    button = page.get_by_role("button", name=f"drain {gateway.nodes[0].url}", exact=True)
    button.evaluate("button => { button.value = 'http://gone'; }")
    button.click()
    expect(page.locator("#told")).to_have_text("Not done: there is no such node.")


def test_what_the_reader_does_is_left_alone(gateway, page):
    page.goto("/")
    # Its number of seconds changes with each look.
    since = page.get_by_text("configuration 1 in effect")
    since.select_text()
    selected = page.evaluate("getSelection().toString()")
    table = page.get_by_role("region", name="Nodes")
    table.focus()
    gateway.nodes[0].process.kill()
    expect(state(page)).to_have_text("DEGRADED")
    assert page.evaluate("getSelection().toString()") == selected
    expect(table).to_be_focused()


def test_a_failed_reload_is_told_until_it_is_mended(gateway, page):
    page.goto("/")
    routes = (gateway.config / "routes.yaml").read_text()
    gateway.write("routes.yaml", routes.replace("kind: vllm", "kind: vlm"))
    failed = page.locator("section", has=page.get_by_role("heading", name="was not taken"))
    expect(failed).to_contain_text("routes.yaml:4:")
    expect(failed).to_contain_text("did you mean `vllm`?")
    expect(failed).to_contain_text("Configuration 1 is still served.")
    gateway.write("routes.yaml", routes + "# mended")
    expect(failed).to_have_count(0)


def test_a_gateway_that_is_gone_is_told_of_until_it_is_back(gateway, page, allow):
    allow("ERR_")
    page.goto("/")
    page.route("**/*", lambda route: route.abort())
    expect(page.locator("#told")).to_have_text(re.compile(r"Connection lost, last seen \d+ s ago\."))
    page.unroute("**/*")
    expect(page.locator("#told")).to_be_hidden()
    expect(state(page)).to_have_text("OK")


def test_without_a_script_everything_is_there(gateway, new_page):
    page = new_page(java_script_enabled=False)
    page.goto("/")
    node = gateway.nodes[1]
    expect(row(page, node)).to_contain_text("up")
    page.get_by_role("button", name=f"drain {node.url}", exact=True).click()
    expect(row(page, node)).to_contain_text("an operator took it out")
    assert page.url == f"{gateway.admin_url}/"


def test_no_key_is_in_the_page(gateway, page):
    chat(gateway)
    page.goto("/")
    expect(state(page)).to_be_visible()
    everything = page.content()
    for key in (KEY, ADMIN_KEY, NODE_KEY, "sk-"):
        assert key not in everything


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_it_fits_the_screen(gateway, new_page, scheme, width):
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    for _ in range(5):
        chat(gateway)
    page.goto("/")
    expect(state(page)).to_have_text("OK")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    screenshot(page, f"status-{scheme}-{width}")


def test_it_can_be_found_out_by_keyboard(gateway, page):
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    live = page.locator("[aria-live]")
    assert [one.text_content() for one in live.all()] == ["OK"]
    assert page.locator("thead th:not([scope=col]), tbody th:not([scope=row])").count() == 0


def test_it_is_quiet_while_nobody_looks(gateway, page):
    page.clock.install()
    page.goto("/")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })")
    page.clock.run_for(60_000)
    page.evaluate("fetch('/livez')")
    assert f"{gateway.admin_url}/livez" in asked and f"{gateway.admin_url}/" not in asked
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => false })")
    with page.expect_request(f"{gateway.admin_url}/"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_anybody(gateway, new_page, scheme):
    page = new_page(color_scheme=scheme)
    page.goto("/")
    gateway.nodes[0].process.kill()
    expect(state(page)).to_have_text("DEGRADED")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()

