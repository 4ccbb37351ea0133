"""Hostile clients over real sockets: each attack meets its rule (schemas/protocol.md), its limit and its counter, and
somebody well-meant is served all the while.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import msgspec
import pytest
import zmq

from restante.wire import auth_link, codec, limits, links, store_link
from restante.wire import envelopes as e
from runtime import guard
from tests.attack.flood import flood
from tests.attack.peers import PASSWORD, Peer
from tests.e2e.cluster import Cluster, cluster_in
from tests.e2e.memory import counted, rss_mib
from tests.e2e.server import Server, wait_for

pytestmark = pytest.mark.timeout(120)

SESSIONS_MAX = 12
CUT = "a connection was cut"
FLOOD_S = 20.0 if os.environ.get("CI") else 4.0


@pytest.fixture
def good(server: Server) -> Iterator[Peer]:
    """Somebody well-meant, who must still be served when the attack is over."""
    with Peer(server.address) as good:
        good.log_in(f"good-{secrets.token_hex(4)}")
        yield good
        good.expect(e.Ping(id=good.next_id()), e.Pong)


def a_name() -> str:
    return f"n{secrets.token_hex(6)}"


def highest_until_cut(peer: Peer, broker: int) -> float:
    """Send parts of an envelope that does not end; the most that the broker held until it cut the connection."""
    part = bytes(8 << 20)
    for _ in range(40):
        peer.socket.send(part, zmq.SNDMORE)
    peer.socket.send(b"")  # libzmq sends nothing of an envelope before it is whole: its end comes 320 MiB later
    highest = 0.0

    def is_cut() -> bool:
        nonlocal highest
        highest = max(highest, rss_mib(broker))
        return not peer.throw([b"more"])

    wait_for(is_cut, "the connection is cut", wait_s=40)
    return highest


class TestFrames:
    def test_random_bytes_are_answered_eight_times_and_then_ignored(self, server: Server, good: Peer) -> None:
        """[V1] [V2] VIOLATIONS_MAX"""
        with Peer(server.address) as peer:
            for _ in range(limits.VIOLATIONS_MAX + 50):
                peer.throw([secrets.token_bytes(40), secrets.token_bytes(300)])
            answers = []
            while (heard := peer.hear(0.5)) is not None:
                answers.append(heard[0])
            assert len(answers) == limits.VIOLATIONS_MAX
            assert [isinstance(one, e.Error) and one.fatal for one in answers] == [False] * 7 + [True]
            peer.say(e.Hello(id=1))
            assert peer.hear(0.3) is None

    def test_a_lying_body_is_refused_and_nothing_of_it_stored(self, server: Server, good: Peer) -> None:
        """[F7]"""
        item = e.Item(id=secrets.token_bytes(16), to=["good"], size=1_000)
        for body in (b"", b"x" * 999, b"x" * 1_001):
            request = e.Send.of(good.next_id(), bytes(16), 1, [item])
            assert good.refused(request, body).code == "bad_request"
        assert good.expect(e.Overview(id=good.next_id()), e.Account).total == 0

    @pytest.mark.parametrize(("limit", "times"), [(limits.STRANGER_BYTES_MAX, 12), (limits.UNTAKEN_BYTES_MAX, 4)])
    def test_an_envelope_without_end_is_cut_off_and_its_memory_is_free_again(
        self, server: Server, good: Peer, limit: int, times: int
    ) -> None:
        """[V5] STRANGER_BYTES_MAX, UNTAKEN_BYTES_MAX: libzmq bounds neither the frames of an envelope nor their sum.

        Several, one after the other, never hold more than one may: what was freed is used again.
        """
        broker = server.pids()["broker"]
        cuts = server.log.read_text().count(CUT)
        highest = before = rss_mib(broker)
        bound = guard.held_bytes_max(limit, int(before * 2**20)) / 2**20
        for _ in range(times):
            with Peer(server.address) as peer:
                if limit == limits.UNTAKEN_BYTES_MAX:
                    peer.log_in(a_name())
                highest = max(highest, highest_until_cut(peer, broker))
        print(f"at most {highest - before:.0f} MiB more held, of {times} times 320 sent; {bound:.0f} allowed")
        assert highest - before < bound
        wait_for(lambda: server.log.read_text().count(CUT) >= cuts + times, "each cut is in the log")

    def test_a_client_that_asks_for_pages_and_never_reads_is_cut_off(self, server: Server, good: Peer) -> None:
        """[V5] UNREAD_BYTES_MAX: SEND_HWM alone is 10,000 answers, of 4 MiB each."""
        with Peer(server.address) as sender:
            name = a_name()
            sender.log_in(name)
            for n in range(1, 6):
                assert isinstance(sender.send(name, n=n, content=bytes(limits.MESSAGE_BYTES_MAX)), e.Sent)
            broker = server.pids()["broker"]
            before = highest = rss_mib(broker)
            with Peer(server.address, unread_max=1) as lazy:
                lazy.say(e.Hello(id=1))
                lazy.say(e.Resume(id=2, token=sender.token))
                asked, deadline = 0, time.monotonic() + 30
                cuts = server.log.read_text().count(CUT)
                while server.log.read_text().count(CUT) == cuts:
                    assert time.monotonic() < deadline, "it is still served"
                    asked += 1
                    lazy.say(e.Fetch(id=10 + asked, peek=True))
                    sender.expect(e.Ping(id=sender.next_id()), e.Pong)
                    highest = max(highest, rss_mib(broker))
            print(f"{asked} pages asked for, at most {highest - before:.0f} MiB more held")
        assert highest - before < 300
        wait_for(lambda: rss_mib(broker) - before < 60, "it is freed")


class TestSessions:
    def test_many_that_leave_without_a_word_cost_nothing_that_lasts(self, server: Server, good: Peer) -> None:
        """[S7]; ten thousand of them are in benchmarks/memory.py"""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        for _ in range(5):
            crowd = [Peer(server.address, context) for _ in range(60)]
            for peer in crowd:
                peer.say(e.Hello(id=1))
            for peer in crowd:
                assert peer.hear() is not None
            for peer in crowd:
                peer.close()
        context.term()

    def test_before_a_login_nothing_works(self, server: Server, good: Peer) -> None:
        """[S1] [S3]"""
        with Peer(server.address) as peer:
            assert peer.refused(e.Fetch(id=peer.next_id())).code == "no_session"
        with Peer(server.address) as peer:
            peer.hello()
            for request in (e.Fetch(id=5), e.Ack(id=6), e.Lookup(id=7, names=["good"]), e.Tokens(id=8)):
                assert peer.refused(request).code == "not_logged_in"

    def test_a_claimed_routing_id_is_no_identity(self, server: Server, good: Peer) -> None:
        """[T2] [S11]: who claims it first has it, and is nobody for it; who claims it second is not heard."""
        with Peer(server.address, routing_id=b"victim") as victim:
            victim.log_in(a_name())
            with Peer(server.address, routing_id=b"victim") as thief:
                thief.say(e.Overview(id=1))
                assert thief.hear(0.5) is None
            victim.expect(e.Ping(id=victim.next_id()), e.Pong)
        with Peer(server.address, routing_id=b"\0\0\0\0\1") as claimer:
            assert claimer.refused(e.Overview(id=1)).code == "no_session"

    def test_connections_that_never_shake_hands_are_closed(self, server: Server, good: Peer) -> None:
        """HANDSHAKE_IVL, 5 s"""
        host, port = good.address.host, good.address.port
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(socket.create_connection((host, port))) for _ in range(200)]
            for one in idle[::2]:
                one.sendall(b"\xff" + bytes(8) + b"\x7f\x03")  # a greeting that is never finished
            began = time.monotonic()
            for one in idle:
                one.settimeout(15)
                while one.recv(100):
                    pass  # libzmq's own greeting
            assert time.monotonic() - began < 14

    def test_a_plaintext_peer_gets_nothing(self, server: Server, good: Peer) -> None:
        """[T4]"""
        with socket.create_connection((good.address.host, good.address.port), timeout=15) as plain:
            plain.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48))
            heard = b""
            while data := plain.recv(4_096):
                heard += data
        assert b"CHAT/1" not in heard


class TestSecrets:
    def test_a_token_is_worth_nothing_after_logout(self, server: Server, good: Peer) -> None:
        """[S9] [A7]"""
        with Peer(server.address) as owner, Peer(server.address) as thief:
            owner.log_in(a_name())
            owner.expect(e.Logout(id=owner.next_id(), op=secrets.token_bytes(16)), e.Done)
            thief.hello()
            assert thief.refused(e.Resume(id=5, token=owner.token)).code == "bad_token"
            assert thief.refused(e.Resume(id=6, token=secrets.token_bytes(32))).code == "bad_token"

    def test_a_stolen_token_ends_with_the_password_and_its_session_with_it(self, server: Server, good: Peer) -> None:
        """[S10] [A8]"""
        with Peer(server.address) as owner, Peer(server.address) as thief:
            owner.log_in(a_name())
            thief.hello().expect(e.Resume(id=5, token=owner.token), e.LoggedIn)
            passwd = e.Passwd(id=owner.next_id(), op=secrets.token_bytes(16), old=PASSWORD, new="another password")
            owner.expect(passwd, e.LoggedIn)
            told = thief.hear()
            assert told is not None
            assert isinstance(told[0], e.Error)
            assert told[0].code == "session_ended"
            assert thief.refused(e.Overview(id=6)).code == "no_session"

    def test_guessing_a_password_is_limited_and_the_right_one_works_again(self, server: Server, good: Peer) -> None:
        """[A5] LOGIN_FAILURES_MAX, LOGIN_FAILURE_S: for this account, and for no other"""
        name = a_name()
        with Peer(server.address) as owner, Peer(server.address) as thief:
            owner.log_in(name)
            thief.hello()
            for n in range(limits.LOGIN_FAILURES_MAX):
                assert thief.refused(thief.login(name, f"a guess {n}")).code == "wrong_credentials"
            limited = thief.refused(thief.login(name))
            assert limited.code == "rate_limited"
            assert 0 < (limited.retry_after_ms or 0) <= limits.LOGIN_FAILURE_S * 1_000 + 1
            with Peer(server.address) as other:
                other.log_in(a_name())
            owner.expect(e.Ping(id=owner.next_id()), e.Pong)
            with Peer(server.address) as device:
                device.hello().expect(e.Resume(id=5, token=owner.token), e.LoggedIn)
            wait_for(lambda: isinstance(thief.ask(thief.login(name)), e.LoggedIn), "the right password works again")

    def test_guessing_from_one_address_is_limited_for_all_accounts(self, own_server: Server) -> None:
        """[A5] PEER_LOGIN_FAILURES_MAX"""
        with Peer(own_server.address) as thief:
            thief.hello()
            codes = []
            for n in range(limits.PEER_LOGIN_FAILURES_MAX + 60):  # some are given back meanwhile
                codes.append(thief.refused(thief.login(f"nobody{n}", "correct horse")).code)
                if codes[-1] == "rate_limited":
                    break
            assert codes[-1] == "rate_limited"
            assert set(codes[:-1]) == {"wrong_credentials"}
            assert len(codes) > limits.PEER_LOGIN_FAILURES_MAX

    @pytest.mark.parametrize("way", ["lookup", "send"])
    def test_enumerating_names_is_limited_for_who_does_it(self, server: Server, good: Peer, way: str) -> None:
        """[A5] UNKNOWN_NAMES_MAX"""
        with Peer(server.address) as peer:
            peer.log_in(a_name())
            got: e.ToClient | None = None
            for n in range(1, 5):
                names = [f"{way}{n}-{m}" for m in range(1_000)]
                got = enumerate_names(peer, way, n, names)
                if isinstance(got, e.Error):
                    break
            assert isinstance(got, e.Error)
            assert got.code == "rate_limited"
            assert n == 1 + limits.UNKNOWN_NAMES_MAX // 1_000
            assert got.retry_after_ms
        assert isinstance(good.ask(e.Lookup(id=good.next_id(), names=["who-is-it"])), e.Found)


def enumerate_names(peer: Peer, way: str, n: int, names: list[str]) -> e.ToClient:
    if way == "lookup":
        return peer.ask(e.Lookup(id=peer.next_id(), names=names))
    items = [e.Item(id=secrets.token_bytes(16), to=[name], size=1) for name in names]
    return peer.ask(e.Send.of(peer.next_id(), bytes(16), n, items), b"x" * len(names))


class TestMail:
    def test_a_sender_cannot_be_forged(self, server: Server, good: Peer) -> None:
        """[D8]: there is no such field, and a key that is not known is ignored [F4]."""
        name = a_name()
        with Peer(server.address) as forger:
            forger.log_in(name)
            forged = {"from": "good", "sender": "good", "senders": ["good"]}
            message = {"ids": [secrets.token_bytes(16)], "to": [name], "sizes": [2], **forged}
            header = {"type": "send", "id": 50, "stream": bytes(16), "n": 1, **message}
            forger.throw([codec.PROTOCOL, msgpack.packb(header), b"hi"])
            assert forger.hear() is not None
            page = forger.expect(e.Fetch(id=51), e.Page)
            assert [entry.sender for entry in page.messages] == [name]

    def test_another_s_mail_cannot_be_read_marked_or_asked_about(self, server: Server, good: Peer) -> None:
        """[D8] [M10]"""
        with Peer(server.address) as owner, Peer(server.address) as thief:
            name = a_name()
            owner.log_in(name)
            thief.log_in(a_name())
            sent = owner.send(name, n=1)
            assert isinstance(sent, e.Sent)
            (mail,) = owner.expect(e.Fetch(id=50), e.Page).messages
            acked = thief.expect(e.Ack(id=51, seqs=[mail.seq], ids=[mail.id]), e.Acked)
            assert (acked.changed, acked.unknown_seqs, acked.unknown_ids) == (0, [mail.seq], [mail.id])
            assert thief.expect(e.Fetch(id=52, unread=False), e.Page).messages == []
            (status,) = thief.expect(e.Status(id=53, ids=[mail.id]), e.Statuses).messages
            assert (status.seq, status.recipients) == (0, [])
            thief.expect(e.Subscribe(id=54, sub=1, messages=9, bytes=9), e.Subscribed)
            assert thief.hear(0.3) is None
            assert [one.seq for one in owner.expect(e.Fetch(id=55), e.Page).messages] == [mail.seq]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


READY = links.auth_frames(auth_link.Ready(worker=bytes(16), capacity=64))
OPENED = links.store_frames(store_link.Beat(epoch=1, name="broker", generation=1))


class TestSockets:
    """What one kind of peer says on another's socket."""

    @pytest.mark.parametrize("frames", [READY, OPENED], ids=["auth", "store"])
    def test_a_worker_s_words_on_the_clients_socket_are_no_envelope(
        self, cluster: Cluster, frames: list[bytes]
    ) -> None:
        with Peer(cluster.address) as peer:
            peer.throw(frames)
            heard = peer.hear()
            assert heard is not None
            assert isinstance(heard[0], e.Error)
            assert heard[0].code == "bad_frame"
        assert cluster.ready()

    @pytest.mark.parametrize("port", ["workers", "confirms"])
    @pytest.mark.parametrize(
        "frames", [READY, OPENED, codec.client_frames(e.Hello(id=1))], ids=["auth", "store", "client"]
    )
    def test_a_client_on_a_worker_s_socket_is_not_let_in(
        self, cluster: Cluster, port: str, frames: list[bytes]
    ) -> None:
        there = msgspec.structs.replace(cluster.address, port=getattr(cluster, port))
        with Peer(there) as peer:
            peer.throw(frames)
            assert not peer.socket.poll(500)
        assert cluster.ready()

    @pytest.mark.parametrize("port", ["workers", "confirms", "store"])
    def test_a_plaintext_peer_on_a_worker_s_socket_is_cut_off(self, cluster: Cluster, port: str) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        plain = context.socket(zmq.DEALER)
        plain.linger = 0
        monitor = plain.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED)
        try:
            plain.connect(f"tcp://127.0.0.1:{getattr(cluster, port)}")
            plain.send_multipart(READY)
            assert monitor.poll(10_000), "the connection stands"
        finally:
            plain.disable_monitor()
            monitor.close(0)
            plain.close(0)
            context.term()
        assert cluster.ready()


def test_past_its_sessions_the_broker_says_busy_and_goes_on(tmp_path: Path) -> None:
    """[S12] SESSIONS_MAX; and what was refused is in the broker's log when it stops."""
    with small_cluster(tmp_path) as cluster, contextlib.ExitStack() as stack:
        good = stack.enter_context(Peer(cluster.address)).log_in("good")
        codes = []
        for _ in range(SESSIONS_MAX + 5):
            got = stack.enter_context(Peer(cluster.address)).ask(e.Hello(id=1))
            codes.append(got.code if isinstance(got, e.Error) else "")
            if codes[-1]:
                assert isinstance(got, e.Error)
                assert (got.fatal, got.retry_after_ms) == (True, 5_000)
        assert set(codes) == {"", "busy"}
        assert codes.count("busy") >= 6
        good.throw([b"nonsense"])
        assert good.hear() is not None
        good.expect(e.Ping(id=good.next_id()), e.Pong)
        cluster.processes["broker"].terminate()
        cluster.processes["broker"].wait(20)
        counts = counted(cluster.log("broker"))
        assert counts["refused_busy"] == codes.count("busy")
        assert counts["violations"] == counts["refused_bad_frame"] == 1


@contextlib.contextmanager
def small_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster whose broker has room for a few sessions."""
    cluster = Cluster(folder)
    cluster.env["CHAT_BROKER_SESSIONS_MAX"] = str(SESSIONS_MAX)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def test_a_flood_of_hostile_frames_over_sockets_is_not_noticed(own_server: Server) -> None:
    """For as long as one likes: `python -m tests.attack.flood`."""
    before = own_server.pids()
    score = flood(own_server, 1, FLOOD_S, 4)
    assert own_server.pids() == before
    assert score.thrown > 500
    assert score.good_calls > 10
    assert max(score.grown_mib.values()) < 48
