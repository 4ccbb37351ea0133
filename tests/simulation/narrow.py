"""Narrow limits: some worlds have so little room that limits are met which nobody meets otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from restante.wire import auth_link, codec, envelopes, links, store_link
from restante.wire import limits as real
from tests.simulation.plan import BOUNDS


def _learn_types() -> None:
    """What a header may hold is fixed when its type is first read: that must not happen in a narrow world."""
    beat = store_link.Beat(epoch=1, name="broker", generation=1)
    codec.from_client.read_header(codec.pack_header(envelopes.Ping(id=1)))
    codec.from_broker.read_header(codec.pack_header(envelopes.Pong(id=1)))
    links.to_auth_worker.read_header(codec.pack_header(auth_link.Beat()))
    links.from_auth_worker.read_header(codec.pack_header(auth_link.Beat()))
    links.to_store.read_header(codec.pack_header(beat))
    links.from_store.read_header(codec.pack_header(beat))


_learn_types()


def usual() -> dict[str, int]:
    """The limits that may be narrowed, as they are."""
    return {name: getattr(real, name) for name in BOUNDS}


@contextmanager
def limits(bounds: Mapping[str, int]) -> Iterator[None]:
    """As long as this lasts these limits are others."""
    saved = {name: getattr(real, name) for name in bounds}
    try:
        for name, value in bounds.items():
            setattr(real, name, value)
        yield
    finally:
        for name, value in saved.items():
            setattr(real, name, value)
