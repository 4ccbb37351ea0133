"""What befalls a world: drawn from its seed, and then plain data, so that a failing plan can be made smaller."""

from __future__ import annotations

import random
from typing import Final

from msgspec import Struct

from tests.simulation.network import Weather

FAULTS_S: Final = 30.0
"""How long things go wrong. Longer than the silence after which the broker gives a worker up, several times over."""

KINDS: Final = {
    "kill": 3, "pause": 1, "cut": 2, "still": 2, "tear": 2, "disk_full": 3, "slow_disk": 1, "clock": 1,
}  # fmt: skip
"""What goes wrong, and how often in proportion."""


class Mishap(Struct, frozen=True):
    """Something goes wrong."""

    at: float
    kind: str
    whom: str
    """A process: the one it befalls; for lines, the one that connected."""
    for_s: float
    """How long it lasts, or how long until the dead process is started again."""
    steps: int = 0
    """Of a kill: actions that the process still performs."""


class Plan(Struct, frozen=True):
    """A world's fate."""

    seed: int
    clients: list[str]
    auth_workers: int
    real_frames: bool
    weather: Weather
    unsure_disk: float
    mishaps: list[Mishap]


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    dice = random.Random(f"{seed}/plan")
    clients = ["alice", "bob"]
    auth_workers = dice.choice([1, 1, 2])
    harsh = dice.random() < 0.4
    weather = Weather(
        delay_s=dice.choice([0.0005, 0.002, 0.02, 0.1]),
        loss=dice.choice([0.0, 0.01, 0.05]) if harsh else 0.0,
        copies=dice.choice([0.0, 0.005, 0.05]) if harsh else 0.0,
    )
    processes = ["broker", "store", *auth_names(auth_workers), *clients]
    mean_s = dice.choice([1.0, 3.0, 8.0])
    times = [0.3 + min(dice.expovariate(1 / mean_s), FAULTS_S) for _ in range(dice.choice([0, 1, 2, 4, 8, 16]))]
    mishaps = [_mishap(dice, at, processes, clients, auth_workers) for at in sorted(times)]
    return Plan(
        seed=seed,
        clients=clients,
        auth_workers=auth_workers,
        real_frames=dice.random() < 0.1,
        weather=weather,
        unsure_disk=dice.choice([0.0, 0.0, 0.0, 0.05]),
        mishaps=mishaps,
    )


def auth_names(count: int) -> list[str]:
    """The names of the authentication workers."""
    return [f"auth-{n + 1}" for n in range(count)]


def _mishap(dice: random.Random, at: float, processes: list[str], clients: list[str], auth_workers: int) -> Mishap:
    """What it is, and whom it befalls: services more often than clients."""
    (kind,) = dice.choices([*KINDS], [*KINDS.values()])
    for_s = dice.choice([0.01, 0.3, 1.5, 7.0])
    if kind == "kill":
        whom = dice.choice([*processes, "broker", "store", "store"])
        return Mishap(at, kind, whom, for_s, dice.choice([0, 0, 1, 2, 3, 5, 8, 20]))
    if kind == "pause":
        return Mishap(at, kind, dice.choice(processes), dice.choice([0.3, 3.0, 7.0, 20.0]))
    if kind == "cut":
        return Mishap(at, kind, dice.choice(clients), for_s)
    if kind == "still":
        return Mishap(at, kind, dice.choice([*clients, "broker", "store"]), dice.choice([for_s, 12.0]))
    if kind == "tear":
        return Mishap(at, kind, dice.choice(["broker", "store", *auth_names(auth_workers)]), for_s)
    return Mishap(at, kind, "store", for_s)
