"""What is measured side by side: a module a peer, each behind the interface in `peer`."""

from __future__ import annotations

import importlib
from fnmatch import fnmatchcase as fnmatch
from typing import Final

from benchmarks.peers.peer import Peer

MODULES: Final = ("restante", "redis", "rabbitmq", "jetstream", "mosquitto", "postgresql", "zeromq", "sqlite")
"""In the order in which they stand in tables: this product, what would be used instead, and the limits."""


def of_module(module: str) -> tuple[Peer, ...]:
    """The peers that a module of this package holds."""
    found: tuple[Peer, ...] = importlib.import_module(f"benchmarks.peers.{module}").PEERS
    return found


def chosen(names: list[str]) -> list[Peer]:
    """Those of these keys, in which `*` stands for anything ("rabbitmq*"); all, if none is given. Raises ValueError."""
    wanted = names or ["*"]
    modules = [module for module in MODULES if any(fnmatch(module, _module_of(name)) for name in wanted)]
    peers = [peer for module in modules for peer in of_module(module)]
    for name in wanted:
        if not any(fnmatch(peer.key, name) for peer in peers):
            raise ValueError(f"no peer is called {name!r}; there are {', '.join(f'{module}*' for module in MODULES)}")
    return [peer for peer in peers if any(fnmatch(peer.key, name) for name in wanted)]


def by_key(key: str) -> Peer:
    """The peer of that key. Raises ValueError."""
    (peer,) = chosen([key])
    return peer


def _module_of(name: str) -> str:
    """A key begins with its module's name: "rabbitmq-quorum" is of `rabbitmq`."""
    return name.partition("-")[0]
