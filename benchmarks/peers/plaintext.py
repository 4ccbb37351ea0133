"""Restante with CURVE off, for one row of the benchmarks: what encryption costs.

    python -P -m benchmarks.peers.plaintext serve …     `chat serve`, whose broker is
    python -P -m benchmarks.peers.plaintext broker …    `python -m broker` with a plain socket for clients

The product has no such switch, and is to have none: here the few functions that turn CURVE on are replaced in processes
that exist for a measurement. Anything but 127.0.0.1 is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import zmq
from msgspec.structs import replace

LOOPBACK: Final = "tcp://127.0.0.1:"


class Uncurved:
    """A socket that takes every option but CURVE's."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        vars(self)["socket"] = socket

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("curve_"):
            setattr(self.socket, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["socket"], name)


def plain_clients() -> None:
    """In this process clients speak plainly from now on."""
    from restante.transport import Link

    configure: Any = Link._configure  # noqa: SLF001 - there is no switch: see above
    _replace(Link, "_configure", lambda link, socket: configure(link, Uncurved(socket)))


def plain_broker() -> int:
    """A broker whose clients speak plainly."""
    import broker.__main__
    from runtime import sockets

    bind = sockets.bind

    def bind_here(socket: sockets.Socket, endpoint: str, server: sockets.Server | None = None) -> str:
        if endpoint.startswith("tcp://") and not endpoint.startswith(LOOPBACK):
            raise SystemExit(f"{endpoint}: without encryption only on {LOOPBACK}")
        return bind(socket, endpoint, server)

    def peer(frame: zmq.Frame) -> tuple[str, str, int]:
        return "", str(frame.get("Peer-Address")), int(frame.get(zmq.SRCFD))

    _replace(sockets, "bind", bind_here)
    _replace(sockets, "_serve_curve", lambda _socket, _server: None)
    _replace(sockets, "_peer", peer)
    return broker.__main__.main()


def plain_serve() -> NoReturn:
    """`chat serve` with such a broker."""
    from client_cli.commands import serve
    from client_cli.main import main as chat

    children = serve.Server._children  # noqa: SLF001 - as above

    def with_plain_broker(server: serve.Server, run: Any) -> list[Any]:
        return [
            replace(spec, argv=plainly(spec.argv)) if spec.name == "broker" else spec for spec in children(server, run)
        ]

    def plainly(argv: Sequence[str]) -> list[str]:
        module = argv.index("broker")
        return [*argv[:module], "benchmarks.peers.plaintext", *argv[module:]]

    _replace(serve.Server, "_children", with_plain_broker)
    sys.argv.insert(1, "serve")
    chat()


def _replace(owner: object, name: str, by: object) -> None:
    """Put something in a name's place, which must be there: else encryption would be on, unnoticed."""
    assert hasattr(owner, name), f"{owner} has no {name} any more"
    setattr(owner, name, by)


if __name__ == "__main__":
    part = sys.argv.pop(1)
    sys.exit({"serve": plain_serve, "broker": plain_broker}[part]())
