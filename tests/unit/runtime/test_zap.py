"""Who may connect: domains are apart, unknown ones closed, addresses limited, and failure refuses."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import zmq

from runtime import keys, sockets
from runtime.keys import KeyPair
from runtime.sockets import Client, Server, Socket
from runtime.zap import AddressLimiter, Enrolled, Limits, Rule, Zap, anyone
from tests.unit.runtime.support import DEADLINE_S, context, handshake

SERVER_KEYS = keys.make_pair()
ENROLLED_KEYS = keys.make_pair()


def only_enrolled(key: bytes) -> bool:
    return key == ENROLLED_KEYS.public


def breaks(_key: bytes) -> bool:
    raise RuntimeError("this rule is broken")


RULES: dict[str, Rule] = {"clients": anyone, "workers": only_enrolled, "broken": breaks}


@pytest.fixture
def zmq_context() -> Iterator[zmq.Context[Socket]]:
    with context() as made, Zap(made, RULES):
        yield made


def shake_hands(made: zmq.Context[Socket], domain: str, pair: KeyPair) -> int:
    """Return how a handshake with ``pair`` in ``domain`` ends."""
    router, dealer = sockets.worker_router(made), sockets.worker_dealer(made)
    endpoint = sockets.bind(router, "tcp://127.0.0.1:0", Server(SERVER_KEYS, domain))
    client = Client(pair, SERVER_KEYS.public)
    event = handshake(dealer, lambda: sockets.connect(dealer, endpoint, client))
    sockets.send_now(dealer, [b"x"])  # send() would wait for ever after a refusal
    arrived = router.poll(int(DEADLINE_S * 1000) if event == zmq.EVENT_HANDSHAKE_SUCCEEDED else 0)
    assert bool(arrived) == (event == zmq.EVENT_HANDSHAKE_SUCCEEDED)
    return event


def test_any_key_enters_the_clients_domain(zmq_context: zmq.Context[Socket]) -> None:
    assert shake_hands(zmq_context, "clients", keys.make_pair()) == zmq.EVENT_HANDSHAKE_SUCCEEDED


def test_an_enrolled_key_enters_the_workers_domain(zmq_context: zmq.Context[Socket]) -> None:
    assert shake_hands(zmq_context, "workers", ENROLLED_KEYS) == zmq.EVENT_HANDSHAKE_SUCCEEDED


def test_an_unenrolled_key_is_refused_there_and_told_so(zmq_context: zmq.Context[Socket]) -> None:
    assert shake_hands(zmq_context, "workers", keys.make_pair()) == zmq.EVENT_HANDSHAKE_FAILED_AUTH


def test_an_unknown_domain_is_closed(zmq_context: zmq.Context[Socket]) -> None:
    assert shake_hands(zmq_context, "nowhere", ENROLLED_KEYS) == zmq.EVENT_HANDSHAKE_FAILED_AUTH


def test_a_socket_that_forgot_curve_admits_nobody_either(zmq_context: zmq.Context[Socket]) -> None:
    router, dealer = sockets.worker_router(zmq_context), sockets.worker_dealer(zmq_context)
    router.setsockopt_string(zmq.ZAP_DOMAIN, "clients")
    port = router.bind_to_random_port("tcp://127.0.0.1")

    def connect() -> None:
        dealer.connect(f"tcp://127.0.0.1:{port}")

    assert handshake(dealer, connect) == zmq.EVENT_HANDSHAKE_FAILED_AUTH


def test_a_rule_that_breaks_refuses_and_the_others_go_on(zmq_context: zmq.Context[Socket]) -> None:
    assert shake_hands(zmq_context, "broken", ENROLLED_KEYS) != zmq.EVENT_HANDSHAKE_SUCCEEDED
    assert shake_hands(zmq_context, "clients", keys.make_pair()) == zmq.EVENT_HANDSHAKE_SUCCEEDED


def test_without_an_authenticator_nobody_enters() -> None:
    with context() as made:
        router, dealer = sockets.client_router(made, handshake_ms=200), sockets.worker_dealer(made)
        endpoint = sockets.bind(router, "tcp://127.0.0.1:0", Server(SERVER_KEYS, "clients"))
        client = Client(keys.make_pair(), SERVER_KEYS.public)
        connect = partial(sockets.connect, dealer, endpoint, client)
        assert handshake(dealer, connect) != zmq.EVENT_HANDSHAKE_SUCCEEDED


def test_an_address_over_its_limit_is_cut_and_may_come_again() -> None:
    limits = Limits(loopback_burst=1, loopback_per_s=5.0)
    with context() as made, Zap(made, RULES, limits):
        router = sockets.worker_router(made, handshake_ms=100)
        endpoint = sockets.bind(router, "tcp://127.0.0.1:0", Server(SERVER_KEYS, "clients"))
        first, second = sockets.worker_dealer(made), sockets.worker_dealer(made)
        client = Client(keys.make_pair(), SERVER_KEYS.public)
        event = handshake(first, partial(sockets.connect, first, endpoint, client))
        assert event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        event = handshake(second, partial(sockets.connect, second, endpoint, client))
        assert event == zmq.EVENT_DISCONNECTED
        second.send(b"x")  # it tries again by itself: the refusal was a temporary one
        assert router.poll(int(DEADLINE_S * 1000))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_allowance_is_spent_and_refilled() -> None:
    clock = Clock()
    limiter = AddressLimiter(Limits(burst=3, per_s=2.0), clock)
    assert [limiter.admit("clients", "203.0.113.9") for _ in range(4)] == [True, True, True, False]
    clock.now += 0.5
    assert [limiter.admit("clients", "203.0.113.9") for _ in range(2)] == [True, False]


def test_neither_another_address_nor_another_domain_shares_it() -> None:
    limiter = AddressLimiter(Limits(burst=1), Clock())
    assert limiter.admit("clients", "203.0.113.9")
    assert limiter.admit("clients", "203.0.113.10")
    assert limiter.admit("workers", "203.0.113.9")
    assert not limiter.admit("clients", "203.0.113.9")


def test_an_ipv6_host_counts_by_its_network_and_a_mapped_address_as_itself() -> None:
    limiter = AddressLimiter(Limits(burst=1), Clock())
    assert limiter.admit("clients", "2001:db8::1")
    assert not limiter.admit("clients", "2001:db8::2")
    assert limiter.admit("clients", "2001:db8:0:1::1")
    assert limiter.admit("clients", "::ffff:203.0.113.9")
    assert not limiter.admit("clients", "203.0.113.9")


@pytest.mark.parametrize("address", ["", "nonsense", "203.0.113.9.9"])
def test_what_is_no_address_is_refused(address: str) -> None:
    assert not AddressLimiter(Limits(), Clock()).admit("clients", address)


def test_past_the_bound_new_addresses_share_one_allowance_and_idle_ones_are_forgotten() -> None:
    clock = Clock()
    limiter = AddressLimiter(Limits(burst=2, per_s=1.0, addresses_max=3), clock)
    assert all(limiter.admit("clients", f"203.0.113.{n}") for n in range(3))
    shared = [limiter.admit("clients", f"198.51.100.{n}") for n in range(3)]
    assert shared == [True, True, False]
    assert len(limiter._buckets) == 3
    clock.now += 10
    assert all(limiter.admit("clients", f"198.51.100.{n}") for n in range(3))
    assert len(limiter._buckets) == 3


def test_a_key_enrolled_later_is_admitted_and_one_removed_is_not(tmp_path: Path) -> None:
    clock = Clock()
    rule = Enrolled(tmp_path, "auth", clock)
    key = keys.make_pair().public
    assert not rule(key)
    keys.enrol(tmp_path, "auth", key)
    assert rule(key)
    (tmp_path / "peers/auth.pub").unlink()
    clock.now += 2
    assert not rule(key)


def test_an_enrolment_for_another_role_does_not_count(tmp_path: Path) -> None:
    key = keys.make_pair().public
    keys.enrol(tmp_path, "store", key)
    assert not Enrolled(tmp_path, "auth")(key)


def test_unreadable_enrolments_admit_nobody(tmp_path: Path) -> None:
    clock = Clock()
    rule = Enrolled(tmp_path, "auth", clock)
    key = keys.make_pair().public
    keys.enrol(tmp_path, "auth", key)
    assert rule(key)
    (tmp_path / "peers/auth-2.pub").write_text("damaged")
    clock.now += 2
    assert not rule(key)
