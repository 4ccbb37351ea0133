"""Who may finish a CURVE handshake: one rule a ZAP domain, asked by libzmq for every connection.

The library's authenticator, in its own thread, with one callback a domain (RULES 2): never its
``CURVE_ALLOW_ANY``, which is one flag for all domains, and never certificate folders. What no rule admits
is refused: an unknown domain, a mechanism other than CURVE, an exception in here.

Connections are also limited per address. The library's callback isn't told the address, so the limit stands
before it, in ``handle_zap_message``. It is kept per domain too: clients can't use up what a worker on the
same machine needs.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import msgspec
import zmq
from zmq.auth.thread import ThreadAuthenticator

from runtime import keys
from runtime.errors import SetupError
from runtime.logging import get_logger

#: Whether a public key (z85) may connect. Runs in the ZAP thread: quick, and touching nothing of the loop's.
Rule = Callable[[bytes], bool]

#: Seconds for which enrolled keys are remembered before their files are read again.
ENROLLED_FRESH_S = 1.0
#: Refusals logged: enough to see what is wrong, not enough to fill a disk.
LOG_BURST = 20
LOG_PER_S = 1.0


class Limits(msgspec.Struct, frozen=True):
    """New connections one address may make in one domain: ``burst`` at once, then ``per_s`` each second.

    A handshake costs 0.8 ms of CPU, 0.3 of them with the interpreter's lock (measured), and each connection 39 KB:
    50 a second take 4 % of a core. 200 at once let an office behind one address come back after a restart. On loopback
    are this machine's own users, and scripts that run ``chat send`` in a loop: there the bound stops a runaway only.

    ``addresses_max`` bounds what is remembered. Past it, addresses not yet known share one allowance.
    """

    burst: int = 200
    per_s: float = 50.0
    loopback_burst: int = 5_000
    loopback_per_s: float = 500.0
    addresses_max: int = 4_096


class Bucket:
    """An allowance: ``burst`` at once, refilled at ``per_s`` a second."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._left, self._at = burst, now

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self._refill(now)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def is_full(self, now: float) -> bool:
        """Whether forgetting it would change nothing."""
        self._refill(now)
        return self._left >= self._burst

    def _refill(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now


class AddressLimiter:
    """Allowances by (domain, address), in bounded memory. IPv6 goes by /64: what one host is given."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._shared = Bucket(limits.burst, limits.per_s, clock())
        self._swept_at = clock()

    def admit(self, domain: str, address: str) -> bool:
        """Count one new connection. False if the address has used up its allowance, or is none."""
        now = self._clock()
        network, loopback = _network(address)
        return bool(network) and self._bucket((domain, network), loopback, now).take(now)

    def _bucket(self, key: tuple[str, str], loopback: bool, now: float) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._limits.addresses_max and not self._sweep(now):
                return self._shared
            burst = self._limits.loopback_burst if loopback else self._limits.burst
            per_s = self._limits.loopback_per_s if loopback else self._limits.per_s
            bucket = self._buckets[key] = Bucket(burst, per_s, now)
        return bucket

    def _sweep(self, now: float) -> bool:
        """Forget those that are full again; say whether there is room. At most once a second: it visits
        all.
        """
        if now - self._swept_at >= 1.0:
            self._swept_at = now
            self._buckets = {key: b for key, b in self._buckets.items() if not b.is_full(now)}
        return len(self._buckets) < self._limits.addresses_max


def anyone(_key: bytes) -> bool:
    """Admit any key: the rule for clients, whose accounts are proved by ``login``."""
    return True


class Enrolled:
    """Admit the keys in ``DIRECTORY/peers/ROLE*.pub``, as they stand now: enrolling needs no restart.

    A key removed from there is refused from its next connection on. Unreadable files admit nobody.
    """

    def __init__(self, directory: Path, role: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory, self._role, self._clock = directory, role, clock
        self._keys: frozenset[bytes] = frozenset()
        self._read_at: float | None = None

    def __call__(self, key: bytes) -> bool:
        """Say whether ``key`` is enrolled."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= ENROLLED_FRESH_S or key not in self._keys:
            self._keys = self._read()
            self._read_at = now
        return key in self._keys

    def _read(self) -> frozenset[bytes]:
        try:
            return keys.peers(self._directory, self._role)
        except SetupError as error:
            get_logger().error("enrolled keys can't be read: nobody is admitted", role=self._role, why=str(error))
            return frozenset()


class Zap:
    """The context's authenticator, running from :meth:`start` to :meth:`stop`; also a context manager.

    ``rules`` holds one rule for each domain there is. Start it before anything is bound: until it runs,
    sockets with an enforced domain admit nobody.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], rules: Mapping[str, Rule], limits: Limits | None = None
    ) -> None:
        self._authenticator = _Authenticator(context, AddressLimiter(limits or Limits()))
        for domain, rule in rules.items():
            self._authenticator.configure_curve_callback(domain, _Provider(rule))

    def start(self) -> None:
        self._authenticator.start()

    def stop(self) -> None:
        self._authenticator.stop()

    def __enter__(self) -> Zap:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()


class _Provider:
    """What the library calls: it wants an object with this method."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def callback(self, _domain: str, key: bytes) -> bool:
        return self._rule(key)


class _Authenticator(ThreadAuthenticator):
    """The library's, which first asks the limiter, refuses all but CURVE, and survives what goes wrong in
    here.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], limiter: AddressLimiter) -> None:
        silent = logging.getLogger("zmq.auth.restante")  # it writes every key, at debug level
        silent.setLevel(logging.CRITICAL)
        super().__init__(context, log=silent)
        self._limiter = limiter
        self._logs = Bucket(LOG_BURST, LOG_PER_S, time.monotonic())
        self._asking = ("", "")

    async def handle_zap_message(self, msg: list[bytes]) -> None:
        """Answer one request: version, request id, domain, address, identity, mechanism, credentials (RFC
        27).
        """
        if len(msg) < 6:  # never libzmq's; REP needs its answer all the same
            self._send_zap_reply(msg[1] if len(msg) > 1 else b"", b"400", b"Malformed")
            return
        domain, address = msg[2].decode("utf-8", "replace"), msg[3].decode("utf-8", "replace")
        self._asking = (domain, address)
        try:
            if msg[5] != b"CURVE":
                self._send_zap_reply(msg[1], b"400", b"CURVE only")
            elif not self._limiter.admit(domain, address):
                self._send_zap_reply(msg[1], b"300", b"Too many connections")
            else:
                await super().handle_zap_message(msg)
        except Exception as error:  # noqa: BLE001  a dead ZAP thread would refuse everybody, for good
            get_logger().error("a ZAP request failed", domain=domain, address=address, why=repr(error))
            self._send_zap_reply(msg[1], b"500", b"Internal error")

    def _send_zap_reply(
        self, request_id: bytes, status_code: bytes, status_text: bytes, user_id: str = "anonymous"
    ) -> None:
        if status_code != b"200" and self._logs.take(time.monotonic()):
            domain, address = self._asking
            why = status_text.decode("utf-8", "replace")
            get_logger().warning("connection refused", domain=domain, address=address, why=why)
        super()._send_zap_reply(request_id, status_code, status_text, user_id)


def _network(address: str) -> tuple[str, bool]:
    """Return what an address counts as, and whether it is this machine; ``""`` if it is no address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "", False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped), ip.ipv4_mapped.is_loopback
        return str(ipaddress.ip_network((ip, 64), strict=False)), ip.is_loopback
    return str(ip), ip.is_loopback
