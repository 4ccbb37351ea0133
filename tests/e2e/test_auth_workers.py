"""Several authentication workers: one dies during log-ins, and every log-in ends well."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from restante import Client
from tests.e2e.cluster import cluster_in
from tests.e2e.server import wait_for

PEOPLE = 12
LOGINS = 10
"""Each person's, one after the other: about two seconds of hashing for two workers."""

PASSWORD = "correct horse"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_worker_dies_during_logins_and_every_login_ends_well(tmp_path: Path) -> None:
    with cluster_in(tmp_path) as cluster:
        cluster.start_auth("auth-2")
        wait_for(lambda: "serving" in cluster.log("auth-2"), "the second worker serves")
        with Client(str(cluster.address)) as client:
            for n in range(PEOPLE):
                client.register(f"person{n}", PASSWORD)
        some_done = threading.Event()
        done: list[int] = []

        def log_in(n: int) -> list[bytes]:
            tokens = []
            for _ in range(LOGINS):
                with Client(str(cluster.address)) as one:
                    token = one.login(f"person{n}", PASSWORD).token
                assert token is not None
                tokens.append(token)
                done.append(n)
                if len(done) >= PEOPLE * LOGINS // 5:
                    some_done.set()
            return tokens

        with ThreadPoolExecutor(PEOPLE) as threads:
            logins = [threads.submit(log_in, n) for n in range(PEOPLE)]
            assert some_done.wait(60)
            before = len(done)
            cluster.kill("auth")
            tokens = [token for login in logins for token in login.result(90)]

        assert before < PEOPLE * LOGINS, "all were in before the kill: it shows nothing"
        assert len(set(tokens)) == PEOPLE * LOGINS
        for n in range(PEOPLE):
            with Client(str(cluster.address), token=tokens[n * LOGINS]) as one:
                assert one.overview().name == f"person{n}"
