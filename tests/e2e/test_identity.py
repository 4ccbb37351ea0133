"""RULES 1: nobody can foretell the ids that a ROUTER makes; so nobody can crash a server or take another's mail by
claiming one.

libzmq makes them from libc's ``rand()``, counts them up, and never seeds it. Each attack runs in processes of their
own, once against a plain context, where it succeeds (so that these tests can fail), and once against ``make_context``.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PLAIN = "zmq.Context()"
SEEDED = "sockets.make_context()"

#: A server with one ROUTER; ``guess`` is the first id that an unseeded libzmq makes, learned from another process.
PRELUDE = """
import sys, zmq
from runtime import sockets
context = {context}
guess = bytes.fromhex(sys.argv[1])
router = context.socket(zmq.ROUTER)
router.router_mandatory = 1
port = router.bind_to_random_port("tcp://127.0.0.1")

def dealer(identity=None):
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    if identity is not None:
        socket.setsockopt(zmq.IDENTITY, identity)
    socket.connect(f"tcp://127.0.0.1:{{port}}")
    return socket

def hello(socket):
    # Returns the id by which the router knows the peer.
    socket.send(b"hello")
    assert router.poll(10_000), "nothing came"
    return router.recv_multipart()[0]

def following(identity, steps=1):
    return b"\\0" + (int.from_bytes(identity[1:], "big") + steps & 0xFFFFFFFF).to_bytes(4, "big")
"""

FIRST_ID = PRELUDE + "print(hello(dealer()).hex())"

#: Claims the id that comes next, as somebody would who knows how an unseeded libzmq counts; then others connect.
ABORT = (
    PRELUDE
    + """
claimer = dealer(guess)
hello(claimer)
others = [dealer() for _ in range(3)]
for other in others:
    hello(other)
print("still serving")
"""
)

#: A victim comes and goes; the thief, who never saw the victim's id, claims what he takes it to be; mail goes out.
HIJACK = (
    PRELUDE
    + """
victim = dealer()
victim_id = hello(victim)
victim.close()
while True:
    try:
        router.send_multipart([victim_id, b"still there?"], zmq.DONTWAIT)
    except zmq.ZMQError as error:
        if error.errno == zmq.EHOSTUNREACH:
            break
for _ in range(50):  # a claim that comes before the victim is quite gone is passed over for good: claim again
    thief = dealer(guess)
    thief.send(b"hello")
    if router.poll(200):
        router.recv_multipart()
        break
    thief.close()
try:
    router.send_multipart([victim_id, b"for the victim alone"], zmq.DONTWAIT)
except zmq.ZMQError:
    pass
print("stolen" if thief.poll(1_000) else "safe")
"""
)


def run(program: str, context: str, guess: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program against that kind of context, to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-c", program.format(context=context), guess],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def first_id(context: str) -> str:
    done = run(FIRST_ID, context)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def guess() -> str:
    """The first id of an unseeded libzmq, as an attacker finds it out on a machine of his own."""
    return first_id(PLAIN)


def test_without_a_seed_every_start_makes_the_same_ids(guess: str) -> None:
    assert first_id(PLAIN) == guess


def test_with_one_every_start_makes_others(guess: str) -> None:
    ids = {first_id(SEEDED) for _ in range(3)}
    assert len(ids) == 3
    assert guess not in ids


def test_claiming_the_next_id_aborts_an_unseeded_server(guess: str) -> None:
    done = run(ABORT, PLAIN, guess)
    assert done.returncode == -signal.SIGABRT
    assert "socket_base.cpp" in done.stderr


def test_but_not_ours(guess: str) -> None:
    done = run(ABORT, SEEDED, guess)
    assert (done.returncode, done.stdout.strip()) == (0, "still serving"), done.stderr


def test_claiming_the_id_of_somebody_who_left_takes_his_mail_from_an_unseeded_server(guess: str) -> None:
    assert run(HIJACK, PLAIN, guess).stdout.strip() == "stolen"


def test_but_not_from_ours(guess: str) -> None:
    done = run(HIJACK, SEEDED, guess)
    assert (done.returncode, done.stdout.strip()) == (0, "safe"), done.stderr
