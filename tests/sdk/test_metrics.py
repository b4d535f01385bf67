"""What operators' tools make of the gateway's series: a parser and promtool read them, and a real Prometheus answers
every query of the dashboard and of the alerts."""

import contextlib
import json
import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from conftest import NODE_KEY, node
from processes import answers, free_port, running

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "config/prometheus/prometheus.yml"
RULES = ROOT / "config/prometheus/rules.yml"
ALERTS = Path(__file__).parent / "alerts.yml"
DASHBOARD = json.loads((ROOT / "config/grafana/dashboards/sluice.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]

ANSWERED_WITHIN_S = 60
RATE_INTERVAL = "10s"  # a scrape comes each half a second

# Series without which a query has no answer: limits and sessions are not in Redis here, and in the demo no key has a
# limit and no node has so little room that anybody waits for it.
NOT_HERE = {"sluice_limit_store_up", "sluice_session_store_up"}
NOT_IN_THE_DEMO = {"sluice_limit_refusals_total", "sluice_queue_seconds_bucket"}

MODEL, RETRIED_MODEL, GONE_MODEL = "demo-model", "retried", "gone"
KEY, LIMITED_KEY = "sk-team", "sk-one-a-minute"

# Two nodes with one place each, a node that is not there before one that is, and one that is not there at all.
ROUTES = """
upstreams:
  llama:
    kind: vllm
    nodes: [http://127.0.0.1:{first}, http://127.0.0.1:{second}]
    key: {key}
    models: [{model}]
    balance: prefix_aware
    max_in_flight: 1
    health: {{interval: 1s}}
  half: {{kind: vllm, nodes: [http://127.0.0.1:{gone}, http://127.0.0.1:{first}], key: {key}, models: [{retried}], health: off}}
  gone: {{kind: vllm, nodes: [http://127.0.0.1:{gone}], models: [{gone_model}], health: off}}
routes:
  - {{preset: vllm, upstream: llama}}
  - {{preset: vllm, upstream: half}}
  - {{preset: vllm, upstream: gone}}
"""

KEYS = f"""
keys:
  - {{name: team, key: {KEY}}}
  - {{name: one-a-minute, key: {LIMITED_KEY}, limits: {{rpm: 1}}}}
"""


def tool(name):
    """Debian's, in the version that is there."""
    return shutil.which(name) or pytest.fail(f"{name} is missing: apt-get install prometheus")


@dataclass(frozen=True)
class Watched:
    """A gateway that is watched, and asked."""

    public: str
    admin: str
    nodes: list[str]
    model: str
    key: str
    lacks: set[str]

    def metrics(self):
        return httpx.get(f"http://{self.admin}/metrics").text

    def ask(self, path, body, key=None):
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx.post(f"http://{self.public}{path}", json=body, headers=headers, timeout=30)

    def chat(self, **more):
        message = {"role": "user", "content": "What is a sluice, and why does it have a gate? " * 20}
        return {"model": self.model, "messages": [message], "max_tokens": 8} | more

    def leave(self):
        """Goes away in the middle of a stream."""
        headers = {"authorization": f"Bearer {self.key}"}
        url = f"http://{self.public}/v1/chat/completions"
        body = self.chat(stream=True, max_tokens=2000, ignore_eos=True)
        with httpx.stream("POST", url, json=body, headers=headers, timeout=30) as answer:
            next(answer.iter_bytes())

    def traffic(self):
        """A bit of everything, and more at once than there are places."""
        chats = "/v1/chat/completions"
        asked = [
            (chats, self.chat()),
            *[(chats, self.chat(stream=True))] * 4,
            *[(chats, self.chat(), LIMITED_KEY)] * 2,
            (chats, self.chat(max_tokens=-1)),
            (chats, self.chat(model=RETRIED_MODEL)),
            (chats, self.chat(model=GONE_MODEL)),
            ("/v1/embeddings", {"model": self.model, "input": "Hello"}),
            ("/init_session", {"vllm_api_key": self.key}),
        ]
        threads = [threading.Thread(target=self.ask, args=one) for one in asked]
        threads.append(threading.Thread(target=self.leave))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def everything(logs, tmp_path_factory):
    """With keys, limits, sessions, a ledger, and nodes of every fate."""
    config = tmp_path_factory.mktemp("everything")
    first, second, gone = (free_port() for _ in range(3))
    names = {"key": NODE_KEY, "model": MODEL, "retried": RETRIED_MODEL, "gone_model": GONE_MODEL}
    (config / "routes.yaml").write_text(ROUTES.format(first=first, second=second, gone=gone, **names))
    (config / "keys.yaml").write_text(KEYS)
    (config / "keys.yaml").chmod(0o600)
    (config / "server.yaml").write_text("ledger: usage.jsonl\nsessions: true\n")
    public, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    serve = ("serve", "--config", str(config), "--listen", public, "--admin-listen", admin, "--drain-delay", "0s")
    with (
        node(logs / "first", first, MODEL, RETRIED_MODEL, first_token="20ms"),
        node(logs / "second", second, MODEL, first_token="20ms"),
        running(logs / "everything", f"http://{public}/readyz", *serve),
    ):
        nodes = [f"127.0.0.1:{first}", f"127.0.0.1:{second}"]
        yield Watched(public, admin, nodes, MODEL, KEY, NOT_HERE)


def whole_banner(log):
    """What the demo prints once requests are answered: on a busy machine that is later than its first answer."""
    deadline = time.monotonic() + ANSWERED_WITHIN_S
    while not re.search(r"^or talk to it:\n\n.+\n", banner := log.read_text(), re.MULTILINE):
        assert time.monotonic() < deadline, banner
        time.sleep(0.01)
    return banner


@pytest.fixture(scope="module")
def demo(logs):
    public, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    demo = ("demo", "--listen", public, "--admin-listen", admin)
    with running(logs / "demo", f"http://{public}/readyz", *demo):
        banner = whole_banner(logs / "demo")
        (key,) = re.findall(r"^  key +(.+)$", banner, re.MULTILINE)
        (model,) = re.findall(r"^  model +(.+)$", banner, re.MULTILINE)
        nodes = re.findall(r"^  node +http://(\S+)", banner, re.MULTILINE)
        yield Watched(public, admin, nodes, model, key, NOT_HERE | NOT_IN_THE_DEMO)


@contextlib.contextmanager
def prometheus(watched, folder):
    """A Prometheus with our configuration: only who is asked, and how often, is another."""
    config = yaml.safe_load(PROMETHEUS.read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(RULES)]
    targets = {"sluice": [watched.admin], "vllm": watched.nodes}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": targets[job["job_name"]]}]
    address = f"127.0.0.1:{free_port()}"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [tool("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as output, started([*command, f"--web.listen-address={address}"], output):
        deadline = time.monotonic() + ANSWERED_WITHIN_S
        while not answers(f"http://{address}/-/ready"):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=30) as client:
            yield client


@contextlib.contextmanager
def started(command, output):
    with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(15)


def promtool(*arguments, text=None):
    done = subprocess.run([tool("promtool"), *arguments], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_a_parser_and_promtool_read_what_the_gateway_tells(everything):
    everything.traffic()
    text = everything.metrics()
    assert promtool("check", "metrics", text=text) == ""
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(family.documentation and family.type != "unknown" for family in families.values())
    told = {
        (sample.name, sample.labels.get("key"), sample.labels.get("status")): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert told["sluice_key_requests_total", "team", "2xx"] >= 5
    assert told["sluice_key_limited_total", "one-a-minute", None] == 1
    assert [secret for secret in (KEY, LIMITED_KEY, NODE_KEY) if secret in text] == []


def test_the_configuration_and_the_alerts_are_good():
    assert "SUCCESS" in promtool("check", "config", str(PROMETHEUS))
    done = subprocess.run([tool("promtool"), "test", "rules", str(ALERTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    cases = [case for test in yaml.safe_load(ALERTS.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names, "each fires in some test"
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names, "and in some it does not"


def test_the_dashboard_is_laid_out_well():
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    datasource = yaml.safe_load((ROOT / "config/grafana/provisioning/datasources/prometheus.yml").read_text())
    uid = datasource["datasources"][0]["uid"]
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {uid}, panel["title"]
    # A mean over the life of a process tells nothing of now.
    lifetime = [query for _, query in QUERIES if re.search(r"_(sum|count|bucket|total)\b(?!.*\[)", query)]
    assert [query for query in lifetime if "__name__" not in query] == []


def values(prometheus, query):
    """What a query has for an answer now; no number is none."""
    answer = prometheus.get("/query", params={"query": query}).json()
    assert answer["status"] == "success", f"{query}: {answer}"
    return [one["value"][1] for one in answer["data"]["result"] if one["value"][1] != "NaN"]


def variables(prometheus):
    """Those of the dashboard, with all the values that there are."""
    known = {}
    for variable in DASHBOARD["templating"]["list"]:
        series, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()
        found = prometheus.get(f"/label/{label}/values", params={"match[]": series}).json()["data"]
        known[variable["name"]] = "(" + "|".join(map(re.escape, found)) + ")"
    return known


def written_out(query, known):
    for name, value in known.items():
        query = query.replace(f"${name}", value.replace("\\", "\\\\"))
    return query.replace("$__rate_interval", RATE_INTERVAL)


def nodes(prometheus, query):
    answer = prometheus.get("/query", params={"query": query}).json()
    return {one["metric"]["node"] for one in answer["data"]["result"]}


@pytest.mark.parametrize("gateway", ["demo", "everything"])
def test_prometheus_answers_every_query_and_evaluates_every_alert(gateway, request, tmp_path):
    watched = request.getfixturevalue(gateway)
    unanswered, rules, deadline = set(QUERIES), {}, time.monotonic() + ANSWERED_WITHIN_S
    lacking = {one for one in QUERIES if any(series in one[1] for series in watched.lacks)}
    with prometheus(watched, tmp_path) as client:
        while unanswered != lacking or set(rules.values()) != {"ok"}:
            assert time.monotonic() < deadline, (unanswered ^ lacking, rules)
            watched.traffic()
            known = variables(client)
            unanswered = {one for one in unanswered if not values(client, written_out(one[1], known))}
            groups = client.get("/rules").json()["data"]["groups"]
            rules = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
        # The gateway and Prometheus call a node the same: a panel of each is of one node.
        assert {f"http://{one}" for one in watched.nodes} == nodes(client, 'up{job="vllm"}')
        assert nodes(client, 'up{job="vllm"}') <= nodes(client, "sluice_node_takes_work")
