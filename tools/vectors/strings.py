"""Ids and addresses: what stands for what, and what stands for nothing."""

from __future__ import annotations

from collections.abc import Iterator

from restante.wire import limits
from restante.wire.address import Address, parse_address
from restante.wire.ids import once_id, uuid7
from tools.vectors.form import NOW_US, Vector


def ids() -> Iterator[Vector]:
    ones = "ff" * 10
    for name, now_us, random in (
        ("uuid7, the time of RFC 9562's appendix A.6", 0x017F22E279B0 * 1_000 + 797, "18c4dc0c0c07398f0000"),
        ("uuid7, zero", 0, "00" * 10),
        ("uuid7, all random bits", NOW_US + 999, ones),
        ("uuid7, half a millisecond", NOW_US + 500, ones),
    ):
        yield {
            "name": name,
            "now_us": now_us,
            "random": random,
            "id": uuid7(now_us, bytes.fromhex(random)).hex(),
        }
    for account, key in (
        (7, "backup-2026-11-24"),
        (8, "backup-2026-11-24"),
        (7, "Größe"),
        (0, "k" * limits.ONCE_BYTES_MAX),
        (7, "019abcde-0123-7000-8000-000000000001"),
        (7, "019ABCDE-0123-7000-8000-000000000001"),
    ):
        yield {
            "name": f"once {account} {key[:40]}",
            "account": account,
            "key": key,
            "id": once_id(account, key).hex(),
        }
    for key in ("", "k" * (limits.ONCE_BYTES_MAX + 1), "é" * 101):
        yield {"name": f"once, {len(key.encode())} bytes", "account": 7, "key": key, "error": True}


def addresses() -> Iterator[Vector]:
    key = bytes(range(0xC0, 0xE0))
    written = str(Address(host="h", port=1, key=key)).rsplit("/", 1)[1]
    for name, text in (
        ("a name and a port", f"chat://chat.example.org:7000/{written}"),
        ("no port", f"chat://chat.example.org/{written}"),
        ("IPv4", f"chat://127.0.0.1:5570/{written}"),
        ("IPv6", f"chat://[2001:db8::1]:5570/{written}"),
        ("IPv6, no port", f"chat://[::1]/{written}"),
        ("a slash at the end", f"chat://localhost/{written}/"),
        ("space around it", f"  chat://localhost/{written}\n"),
    ):
        address = parse_address(text)
        yield {
            "name": name,
            "text": text,
            "host": address.host,
            "port": address.port,
            "key": address.key.hex(),
        }
    for name, text in (
        ("empty", ""),
        ("another scheme", f"tcp://localhost:5570/{written}"),
        ("no key", "chat://localhost:5570"),
        ("a key that is too short", f"chat://localhost/{written[:-1]}"),
        ("a key that is too long", f"chat://localhost/{written}A"),
        ("a key in base64 that is not base64url", f"chat://localhost/{'+' * 43}"),
        ("no host", f"chat://:5570/{written}"),
        ("port 0", f"chat://localhost:0/{written}"),
        ("port 65536", f"chat://localhost:65536/{written}"),
        ("IPv6 without brackets", f"chat://::1/{written}"),
        ("a query", f"chat://localhost/{written}?key=1"),
        ("two lines", f"chat://localhost/{written}\nchat://localhost/{written}"),
    ):
        yield {"name": name, "text": text, "error": True}
