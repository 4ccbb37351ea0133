"""What several tests of the client share."""

from __future__ import annotations

import pytest

from restante import driver
from tests.unit.restante.test_driver import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The driver's time, which stands still until it is moved."""
    clock = Clock()
    monkeypatch.setattr(driver, "time", clock)
    return clock
