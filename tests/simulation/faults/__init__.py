"""Planted faults: small patches to a core, in memory, that each break a promise. The simulation must see every one."""

from tests.simulation.faults import accounts, reading, sending
from tests.simulation.faults.planting import FAULTS, planted

__all__ = ["FAULTS", "accounts", "planted", "reading", "sending"]
