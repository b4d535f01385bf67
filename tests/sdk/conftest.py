"""Starts the real `sluice` binary: two simulated nodes, and a gateway before them.

The basic tests run twice, through the gateway and straight against a node: a failure in both is the
simulator's (or the SDK's), a failure in the first alone is the gateway's.
"""

import contextlib
import os
import re
import urllib.request
from dataclasses import dataclass

import anthropic
import openai
import pytest

from processes import free_port, need_binary, running

# Variables of the environment that the clients read.
FOREIGN = re.compile("^(OPENAI|ANTHROPIC|LANGCHAIN|LANGSMITH)_|_PROXY$", re.IGNORECASE)

NODE_KEY = "sk-node"
KEY = "sk-team-a"
LIMITED_KEY = "sk-only-small"
MINUTE_KEY, DAY_KEY = "sk-two-a-minute", "sk-two-a-day"
PROXY_SECRET_KEY = "sk-of-the-environment"

MODEL, SMALL_MODEL = "llama-3.1-8b", "small"
SLOW_MODEL = "slow"  # its node takes a minute to the first token
GONE_MODEL = "gone"  # nothing listens where its node should be

ROUTES = """
upstreams:
  fast:
    kind: vllm
    nodes: [http://127.0.0.1:{fast}]
    key: {node_key}
    models: [{model}, {small}]
  slow:
    kind: vllm
    nodes: [http://127.0.0.1:{slow}]
    key: {node_key}
    models: [{slow_model}]
  gone:
    kind: vllm
    nodes: [http://127.0.0.1:{gone}]
    models: [{gone_model}]
    health: off  # probes would find it down: then it is 503
routes:
  - {{preset: vllm, upstream: fast}}
  - {{preset: vllm, upstream: slow}}
  - {{preset: vllm, upstream: gone}}
"""

KEYS = """
keys:
  - name: team-a
    key: {key}
  - name: only-small
    key: {limited_key}
    models: [{small}]
  - name: two-a-minute
    key: {minute_key}
    limits: {{ rpm: 2 }}
  - name: two-a-day
    key: {day_key}
    limits: {{ rpd: 2 }}
"""


@dataclass(frozen=True)
class Target:
    """Something that speaks OpenAI's and Anthropic's APIs, and a key for it."""

    url: str
    key: str

    def options(self, **overrides):
        """Of an SDK's client that asks once: a second try would hide a fault."""
        own = {"base_url": f"{self.url}/v1", "api_key": self.key, "max_retries": 0, "timeout": 30}
        return own | overrides

    def anthropic_client(self, **overrides):
        return anthropic.Anthropic(**self.options(base_url=self.url) | overrides)

    def client(self, **overrides):
        return openai.OpenAI(**self.options(**overrides))

    def async_client(self, **overrides):
        return openai.AsyncOpenAI(**self.options(**overrides))


def pytest_sessionstart():
    # This machine's settings may send requests elsewhere: by a proxy, or to a service that watches LangChain.
    for name in list(os.environ):
        if FOREIGN.search(name):
            del os.environ[name]
    need_binary()


@contextlib.contextmanager
def node(log, port, *models, first_token, more=()):
    address = f"127.0.0.1:{port}"
    names = [word for model in models for word in ("--model", model)]
    delays = ["--first-token", first_token, "--token-delay", "2ms", "--tokens", "12"]
    with running(
        log, f"http://{address}/health", "sim", "--listen", address, "--api-key", NODE_KEY, *names, *delays, *more
    ):
        yield Target(f"http://{address}", NODE_KEY)


@pytest.fixture(scope="session")
def ports():
    names = ("fast", "slow", "gone", "public", "admin")
    return dict(zip(names, [free_port() for _ in names], strict=True))


@pytest.fixture(scope="session")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session")
def direct(ports, logs):
    with node(logs / "fast", ports["fast"], MODEL, SMALL_MODEL, first_token="20ms") as target:
        yield target


@pytest.fixture(scope="session")
def gateway(ports, logs, direct, tmp_path_factory):
    config = tmp_path_factory.mktemp("config")
    (config / "routes.yaml").write_text(
        ROUTES.format(
            **ports,
            node_key=NODE_KEY,
            model=MODEL,
            small=SMALL_MODEL,
            slow_model=SLOW_MODEL,
            gone_model=GONE_MODEL,
        )
    )
    (config / "keys.yaml").write_text(
        KEYS.format(
            key=KEY,
            limited_key=LIMITED_KEY,
            small=SMALL_MODEL,
            minute_key=MINUTE_KEY,
            day_key=DAY_KEY,
        )
    )
    (config / "keys.yaml").chmod(0o600)
    public, admin = f"127.0.0.1:{ports['public']}", f"127.0.0.1:{ports['admin']}"
    with (
        node(logs / "slow", ports["slow"], SLOW_MODEL, first_token="60s"),
        running(
            logs / "gateway",
            f"http://{public}/readyz",
            *("serve", "--config", str(config), "--listen", public, "--admin-listen", admin),
            *("--drain-delay", "0s"),
            PROXY_SECRET_KEY=PROXY_SECRET_KEY,
        ),
    ):
        yield Target(f"http://{public}", KEY)
        pages = [f"http://{admin}/metrics", f"http://{admin}/api/status", f"http://{public}/"]
        told = {page: urllib.request.urlopen(page, timeout=10).read().decode() for page in pages}
    told["the log"] = (logs / "gateway").read_text()
    # Of everything that the tests did.
    secrets = [NODE_KEY, KEY, LIMITED_KEY, MINUTE_KEY, DAY_KEY, PROXY_SECRET_KEY, "sk-wrong"]
    for place, text in told.items():
        assert [secret for secret in secrets if secret in text] == [], place


@pytest.fixture(params=["gateway", "direct"])
def target(request):
    """Each of the two in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(target):
    with target.client() as client:
        yield client


@pytest.fixture
def anyio_backend():
    return "asyncio"
