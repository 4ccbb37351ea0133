"""Who must not come in does not, hears so where it can be heard, and within five seconds."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from benchmarks.local_server import chat
from restante import Client
from restante.wire.codec import client_frames
from restante.wire.envelopes import Hello
from restante.wire.errors import UnreachableError, WrongServerKey
from runtime import keys
from tests.e2e.cluster import Cluster, cluster_in, with_other_key
from tests.e2e.server import wait_for

WITHIN_S = 5.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def test_a_plaintext_client_is_cut_off_in_its_handshake(cluster: Cluster) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED)
    try:
        socket.connect(cluster.address.endpoint)
        socket.send_multipart(client_frames(Hello(id=1)))
        assert monitor.poll(int(WITHIN_S * 1000)), "the connection stands"
        assert not socket.poll(200), "a plaintext client got an answer"
    finally:
        socket.disable_monitor()
        monitor.close(0)
        socket.close(0)
        context.term()
    assert cluster.ready()


def test_a_client_with_a_wrong_server_key_is_told_so(cluster: Cluster) -> None:
    wrong = with_other_key(cluster.address)
    began = time.monotonic()
    with Client(str(wrong)) as client, pytest.raises(WrongServerKey) as refused:
        client.hello()
    assert time.monotonic() - began < WITHIN_S
    assert "key" in str(refused.value)


def test_the_command_says_that_the_server_key_is_wrong_and_exits_5(cluster: Cluster) -> None:
    wrong = with_other_key(cluster.address)
    done = subprocess.run(
        chat("--address", str(wrong), "health"),
        env=cluster.env,
        cwd=cluster.folder,
        capture_output=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 5
    assert b"key" in done.stderr
    assert done.stdout == b""


def test_a_server_that_is_not_there_is_named_and_exits_5(cluster: Cluster) -> None:
    nowhere = str(cluster.address).replace(f":{cluster.clients}/", ":1/")
    with Client(nowhere, timeout_s=1) as client, pytest.raises(UnreachableError) as refused:
        client.hello()
    assert not isinstance(refused.value, WrongServerKey)
    assert "127.0.0.1:1" in str(refused.value)


@pytest.fixture
def stranger(cluster: Cluster, tmp_path: Path) -> Path:
    """A key directory that knows the broker, but that the broker does not know."""
    directory = tmp_path / "stranger"
    keys.load_or_make(directory)
    keys.enrol(directory, "broker", cluster.pairs["broker"].public)
    return directory


def test_a_worker_whose_key_is_not_enrolled_is_refused_and_says_why(cluster: Cluster, stranger: Path) -> None:
    cluster.start_auth("stranger", key_directory=stranger)
    wait_for(lambda: "refused this key (400). Enrol it" in cluster.log("stranger"), "it says so", wait_s=WITHIN_S + 2)
    assert "the broker answers" not in cluster.log("stranger")
    cluster.kill("stranger")
    assert cluster.ready()


def test_enrolling_its_key_lets_the_worker_in_without_a_restart(cluster: Cluster, tmp_path: Path) -> None:
    directory = tmp_path / "newcomer"
    pair = keys.load_or_make(directory)
    keys.enrol(directory, "broker", cluster.pairs["broker"].public)
    keys.enrol(cluster.keys / "broker", "auth-3", pair.public)
    cluster.start_auth("auth-3", key_directory=directory)
    wait_for(lambda: "serving" in cluster.log("auth-3"), "the newcomer serves")
    cluster.kill("auth")
    with Client(str(cluster.address)) as client:
        assert client.register("served-by-the-newcomer", "correct horse").name == "served-by-the-newcomer"
    cluster.kill("auth-3")
    cluster.start_auth("auth")
    wait_for(cluster.ready, "the first worker is back")
