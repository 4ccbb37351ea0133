"""Narrow limits: some worlds have so little room that limits are met which nobody meets otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from restante.wire import limits as real
from tests.simulation.plan import BOUNDS


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
