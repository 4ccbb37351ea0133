"""How a fault is planted: for a while something in a core is another thing than it was.

A fault is a function that, given nothing, says which attributes to put in whose place. `FAULTS` holds them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

Patch = tuple[type | ModuleType, str, Any]
"""Whose attribute, its name, what is put in its place."""

FAULTS: Final[dict[str, Callable[[], list[Patch]]]] = {}


def fault(make: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
    """Register a fault under the name of its function."""
    FAULTS[make.__name__] = make
    return make


@contextmanager
def planted(name: str) -> Iterator[None]:
    """As long as this lasts the fault is there; none if the name is empty."""
    patches = FAULTS[name]() if name else []
    saved = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in patches]
    for owner, attribute, new in patches:
        setattr(owner, attribute, new)
    try:
        yield
    finally:
        for owner, attribute, old in saved:
            setattr(owner, attribute, old)
