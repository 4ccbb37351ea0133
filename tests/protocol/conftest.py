"""A world, and somebody who is logged in."""

from __future__ import annotations

import pytest

from tests.protocol.dialogue import Client, World


@pytest.fixture
def world() -> World:
    """A broker, a store and accounts, with nobody there."""
    return World()


@pytest.fixture
def bob(world: World) -> Client:
    """A session of an account."""
    return world.login("bob")
