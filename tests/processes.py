"""The real `sluice` binary as processes of a test: shared by tests/sdk and tests/browser."""

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

BINARY = Path(os.environ.get("SLUICE_BIN", Path(__file__).parents[1] / "target/debug/sluice"))
READY_WITHIN_S = 30


def need_binary():
    if not BINARY.is_file():
        pytest.exit(f"{BINARY} is missing: run `cargo build`, or name another one in SLUICE_BIN", 1)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def running(log, ready_url, *arguments, **environment):
    """`sluice ARGUMENTS…`, from the moment that it is ready, in an environment without this machine's settings."""
    environment |= {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [BINARY, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + READY_WITHIN_S
            while not answers(ready_url):
                if process.poll() is not None or time.monotonic() > deadline:
                    command = " ".join(arguments)
                    pytest.exit(f"`sluice {command}` does not answer {ready_url}:\n{log.read_text()}", 1)
                time.sleep(0.02)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
