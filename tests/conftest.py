"""What every test may rely on: hypothesis without a stopwatch, and an engine where one was promised."""

import os
import shutil
import signal
import subprocess
from functools import cache

import pytest
from hypothesis import settings

# A shared machine's pauses are no failure; in CI a counterexample comes with the line that replays it.
settings.register_profile("restante", deadline=None, print_blob=True)
settings.load_profile("restante")


@cache
def docker_lacks() -> str | None:
    """What is missing to run containers here, or None."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            return f"`{' '.join(command)}` does not answer"
        if done.returncode != 0:
            return f"`{' '.join(command)}` fails: {done.stderr.strip()[:200]}"
    return None


# Whoever starts the tests in the background (nohup, a CI runner) makes them ignore these signals, and every process
# that they start inherits it: but some tests interrupt processes.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs containers where there are none; fail instead where they were promised."""
    if item.get_closest_marker("docker") is None:
        return
    required = os.environ.get("CHAT_TEST_DOCKER") == "1"
    lacks = docker_lacks()
    if lacks is not None and required:
        pytest.fail(f"CHAT_TEST_DOCKER=1, but {lacks}")
    if lacks is not None:
        pytest.skip(lacks)
