"""The pages in a real browser (Debian's Chromium), before a real gateway with simulated nodes, each a process.

A test takes `gateway` and `page`. It fails at its end for whatever went wrong in the page unseen: an error in the console
(a violation of the page's own policy is one), an uncaught error, a request to another origin. A test that provokes an
error says so with `allow`. Pages are those of the public listener; a file on those of operators has a fixture `base_url`
of its own that returns `gateway.admin_url`.
"""

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from processes import free_port, need_binary, running

SCREENSHOTS = Path(__file__).parents[2] / ".cache/screenshots"

# For whatever the browser waits for.
PATIENCE_MS = 15_000
expect.set_options(timeout=PATIENCE_MS)

KEY, ADMIN_KEY, NODE_KEY = "sk-team-a", "sk-operator", "sk-node"
MODEL = "sim-llama"

ROUTES = """
upstreams:
  fleet:
    kind: vllm
    nodes: [{nodes}]
    key: {node_key}
    models: [{model}]
routes:
  - {{preset: vllm, upstream: fleet}}
"""

KEYS = f"""
keys:
  - {{name: team-a, key: {KEY}}}
  - {{name: operator, key: {ADMIN_KEY}, scopes: [inference, admin]}}
"""


@dataclass(frozen=True)
class Node:
    """A simulated node: `process.kill()` ends it as a crash does."""

    url: str
    process: Popen


@dataclass(frozen=True)
class Gateway:
    """A gateway with a folder of configuration of its own."""

    url: str
    admin_url: str
    config: Path
    nodes: list[Node]

    def write(self, name, text):
        """Writes a file of the configuration; live within a second."""
        file = self.config / name
        file.write_text(text)
        file.chmod(0o600)


def pytest_sessionstart():
    need_binary()
    if not shutil.which("chromium"):
        pytest.exit("chromium is missing: run `apt-get install chromium`", 1)


@contextlib.contextmanager
def started(folder, nodes=2, routes=ROUTES, keys=KEYS, server="sessions: true\ndrain_delay: 0s\n"):
    """A gateway and its nodes, with these files in `folder/config`."""
    config = folder / "config"
    config.mkdir()
    with contextlib.ExitStack() as stack:
        fleet = []
        for number in range(nodes):
            address = f"127.0.0.1:{free_port()}"
            options = ("--api-key", NODE_KEY, "--model", MODEL, "--first-token", "20ms", "--token-delay", "2ms")
            log, ready = folder / f"node-{number}.log", f"http://{address}/health"
            process = stack.enter_context(running(log, ready, "sim", "--listen", address, *options))
            fleet.append(Node(f"http://{address}", process))
        public, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        gateway = Gateway(f"http://{public}", f"http://{admin}", config, fleet)
        urls = ", ".join(node.url for node in fleet)
        gateway.write("routes.yaml", routes.format(nodes=urls, node_key=NODE_KEY, model=MODEL))
        gateway.write("keys.yaml", keys)
        gateway.write("server.yaml", server)
        serve = ("serve", "--config", str(config), "--listen", public, "--admin-listen", admin)
        stack.enter_context(running(folder / "gateway.log", f"{gateway.url}/readyz", *serve))
        yield gateway


@pytest.fixture
def gateway(tmp_path):
    with started(tmp_path) as gateway:
        yield gateway


@pytest.fixture
def base_url(gateway):
    return gateway.url


@pytest.fixture(scope="session")
def browser():
    # Nothing but this machine can be reached, whatever a page asks for.
    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's sandbox does not work for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        yield browser
        browser.close()


def watch(context, origin, troubles):
    """Notes what goes wrong in the pages of `context`, which should ask `origin` alone."""

    def note_foreign(request):
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" != origin:
            troubles.append(f"foreign request: {request.url}")

    context.on("console", lambda said: said.type == "error" and troubles.append(f"console: {said.text}"))
    context.on("weberror", lambda thrown: troubles.append(f"uncaught: {thrown.error}"))
    context.on("request", note_foreign)


@pytest.fixture
def allowed():
    return []


@pytest.fixture
def allow(allowed):
    """`allow(PART)`: an error with PART in it is what the test is about."""
    return allowed.append


@pytest.fixture
def new_page(browser, base_url, allowed):
    """`new_page(**options)`: one more page, with options of `browser.new_context` (`color_scheme`, `viewport`, …)."""
    contexts, troubles = [], []

    def new_page(**options) -> Page:
        context = browser.new_context(base_url=base_url, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        watch(context, base_url, troubles)
        return context.new_page()

    yield new_page
    for context in contexts:
        context.close()
    assert [trouble for trouble in troubles if not any(part in trouble for part in allowed)] == []


@pytest.fixture
def page(new_page):
    return new_page()


def screenshot(page, name):
    """Saves the whole page as .cache/screenshots/NAME.png, to be looked at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
