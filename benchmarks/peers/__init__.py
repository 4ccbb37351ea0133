"""What is measured side by side: a module a peer, each behind the interface in `peer`."""

from __future__ import annotations

import importlib
from typing import Final

from benchmarks.peers.peer import Peer

MODULES: Final = ("restante", "redis", "rabbitmq", "jetstream", "mosquitto", "postgresql", "zeromq", "sqlite")
"""In the order in which they stand in tables: this product, what would be used instead, and the limits."""


def of_module(module: str) -> tuple[Peer, ...]:
    """The peers that a module of this package holds."""
    found: tuple[Peer, ...] = importlib.import_module(f"benchmarks.peers.{module}").PEERS
    return found


def chosen(names: list[str]) -> list[Peer]:
    """Those named by key, or by module, which may hold several; all, if none is named. Raises ValueError."""
    found: list[Peer] = []
    for module in MODULES:
        if not names or any(_module_of(name) == module for name in names):
            found += [peer for peer in of_module(module) if not names or {module, peer.key} & set(names)]
    for name in names:
        if not any(name in (peer.key, _module_of(peer.key)) for peer in found):
            raise ValueError(f"no peer is called {name!r}; there are {', '.join(MODULES)}, and their variants")
    return found


def by_key(key: str) -> Peer:
    """The peer of that key. Raises ValueError."""
    for peer in chosen([key]):
        if peer.key == key:
            return peer
    raise ValueError(f"no peer has the key {key!r}")


def _module_of(name: str) -> str:
    """A key begins with its module's name: "rabbitmq-quorum" is of `rabbitmq`."""
    return name.partition("-")[0]
