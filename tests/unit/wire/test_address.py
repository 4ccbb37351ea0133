"""The address string: what it holds, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.wire.address import Address, parse_address
from restante.wire.limits import PORT_DEFAULT
from tests.protocol.vectors import Vector, load

VECTORS = load("addresses")
KEY = "A" * 43


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS if "host" in v])
def test_an_address_holds_host_port_and_key(vector: Vector) -> None:
    address = parse_address(vector["text"])
    assert (address.host, address.port, address.key.hex()) == (vector["host"], vector["port"], vector["key"])


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS if "error" in v])
def test_what_is_no_address_is_refused_with_a_sentence(vector: Vector) -> None:
    with pytest.raises(ValueError, match=r"is not (an address|between)"):
        parse_address(vector["text"])


@given(
    st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,60}[A-Za-z0-9])?|\[[0-9a-f:]{2,30}\]", fullmatch=True),
    st.integers(min_value=1, max_value=65_535),
    st.binary(min_size=32, max_size=32),
)
def test_an_address_written_can_be_read(host: str, port: int, key: bytes) -> None:
    address = Address(host=host, port=port, key=key)
    assert parse_address(str(address)) == address


@given(st.integers(min_value=1, max_value=65_535), st.binary(min_size=32, max_size=32))
def test_no_shell_would_touch_an_address(port: int, key: bytes) -> None:
    """Zsh takes an unquoted `?` for a pattern, and every shell `&`, `;`, `$`, `*` and space for itself."""
    written = str(Address(host="chat.example.org", port=port, key=key))
    assert set(written) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/._-")


def test_the_port_has_a_default() -> None:
    assert parse_address(f"chat://h/{KEY}").port == PORT_DEFAULT


def test_zeromq_is_told_an_endpoint() -> None:
    assert parse_address(f"chat://[::1]:7/{KEY}").endpoint == "tcp://[::1]:7"


def test_the_error_says_where_an_address_comes_from() -> None:
    with pytest.raises(ValueError, match="chat address"):
        parse_address("localhost:5570")
