"""What befalls a world: drawn from its seed, and then plain data, so that a failing plan can be made smaller."""

from __future__ import annotations

import random
from typing import Final

from msgspec import Struct

from tests.simulation.network import Weather

FAULTS_S: Final = 30.0
"""How long things go wrong. Longer than the silence after which the broker gives a worker up, several times over."""

KINDS: Final = ("kill", "kill", "kill", "pause", "cut", "cut", "still", "tear", "disk_full", "slow_disk", "clock")


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
        loss=dice.choice([0.0, 0.002, 0.02]) if harsh else 0.0,
        copies=dice.choice([0.0, 0.005, 0.05]) if harsh else 0.0,
    )
    processes = ["broker", "store", *auth_names(auth_workers), *clients]
    mishaps = [_mishap(dice, processes, clients, auth_workers) for _ in range(dice.choice([0, 1, 2, 4, 8, 16]))]
    return Plan(
        seed=seed,
        clients=clients,
        auth_workers=auth_workers,
        real_frames=dice.random() < 0.1,
        weather=weather,
        unsure_disk=dice.choice([0.0, 0.0, 0.0, 0.05]),
        mishaps=sorted(mishaps, key=lambda mishap: mishap.at),
    )


def auth_names(count: int) -> list[str]:
    """The names of the authentication workers."""
    return [f"auth-{n + 1}" for n in range(count)]


def _mishap(dice: random.Random, processes: list[str], clients: list[str], auth_workers: int) -> Mishap:
    """More early than late, since most happens early; services twice as often as clients."""
    kind = dice.choice(KINDS)
    at = min(dice.expovariate(1 / 6.0), FAULTS_S)
    for_s = dice.choice([0.01, 0.3, 1.5, 7.0])
    if kind == "kill":
        whom = dice.choice([*processes, "broker", "store", "store"])
        return Mishap(at, kind, whom, for_s, dice.choice([0, 0, 1, 2, 3, 5, 8, 20]))
    if kind == "pause":
        return Mishap(at, kind, dice.choice(processes), dice.choice([0.3, 3.0, 7.0, 20.0]))
    if kind in ("cut", "still"):
        return Mishap(at, kind, dice.choice(clients), for_s)
    if kind == "tear":
        return Mishap(at, kind, dice.choice(["broker", "store", *auth_names(auth_workers)]), for_s)
    return Mishap(at, kind, "store", for_s)
