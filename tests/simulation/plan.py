"""What befalls a world: drawn from its seed, and then plain data, so that a failing plan can be made smaller.

A plan is all there is to a world, together with the dice that its seed gives to everybody. As JSON it is a file that
`python -m tests.simulation.run --plan FILE` replays.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec
from msgspec import Struct, field

from tests.simulation.network import Weather
from tests.simulation.people import Person, draw_people

FAULTS_S: Final = 30.0
"""How long things go wrong. Longer than the silence after which the broker gives a worker up, several times over."""

KINDS: Final = {
    "kill": 6, "pause": 2, "cut": 3, "still": 3, "part": 2, "tear": 4, "disk_full": 5, "disk_failed": 2, "slow_disk": 2,
    "clock": 2, "stranger": 2, "close": 1,
}  # fmt: skip
"""What goes wrong, and how often in proportion."""

BOUNDS: Final = {
    "REQUESTS_IN_FLIGHT_MAX": (2, 6),
    "SESSION_BYTES_MAX": (2_200, 3_000),  # an envelope of MESSAGES_PER_SEND letters to everybody has less
    "BROKER_BYTES_MAX": (2_200, 6_000),
    "SUBSCRIPTIONS_PER_SESSION_MAX": (1, 2),
    "HELD_PER_STREAM_MAX": (1, 2),
    "PAGE_MESSAGES_MAX": (1, 3),
    "CREDIT_MESSAGES_MAX": (2, 5),
    "BATCH_MESSAGES_MAX": (1, 4),
    "BATCHES_UNCONFIRMED_MAX": (1, 3),
    "AUTH_WAITING_MAX": (1, 3),
}
"""Limits that are so narrow in some worlds that they are met; each from, to."""

MESSAGES_PER_SEND: Final = 1
"""What clients are told in those worlds: a whole outbox in one envelope would never find room."""


class Mishap(Struct, frozen=True):
    """Something goes wrong."""

    at: float
    kind: str
    whom: str
    """A process: the one it befalls; for lines, the one that connected. Of `close`: a person."""
    for_s: float
    """How long it lasts, or how long until the dead process is started again."""
    steps: int = 0
    """Of a kill: actions that the process still performs."""


class Plan(Struct, frozen=True):
    """A world's fate."""

    seed: int
    people: list[Person]
    auth_workers: int = 1
    real_frames: bool = False
    weather: Weather = field(default_factory=lambda: Weather(0.002))
    unsure_disk: float = 0.0
    """The share of commits whose outcome is unknown."""
    unread_max: int = 0
    """Unread messages that a mailbox takes; 0: as many as there are."""
    bounds: dict[str, int] = field(default_factory=dict)
    """Limits that are other than usual."""
    mishaps: list[Mishap] = field(default_factory=list)

    @property
    def devices(self) -> list[str]:
        """Every client's process."""
        return [device.name for person in self.people for device in person.devices]

    @property
    def size(self) -> int:
        """How much there is in it: what shrinking makes less."""
        devices = [device for person in self.people for device in person.devices]
        letters = sum(len(batch) for device in devices for batch in device.outbox)
        return letters + sum(len(device.chores) for device in devices) + len(devices) + len(self.mishaps)


def to_json(plan: Plan) -> str:
    """A plan as a file holds it."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2).decode() + "\n"


def from_json(text: str | bytes) -> Plan:
    """The plan that a file holds. Raises msgspec.DecodeError."""
    return msgspec.json.decode(text, type=Plan)


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    dice = random.Random(f"{seed}/plan")
    people = draw_people(random.Random(f"{seed}/people"))
    auth_workers = dice.choice([1, 1, 2, 3])
    harsh = dice.random() < 0.4
    weather = Weather(
        delay_s=dice.choice([0.0005, 0.002, 0.02, 0.1]),
        loss=dice.choice([0.0, 0.03, 0.1]) if harsh else 0.0,
        copies=dice.choice([0.0, 0.005, 0.05]) if harsh else 0.0,
    )
    mean_s = dice.choice([1.0, 3.0, 8.0])
    times = [
        round(0.3 + min(dice.expovariate(1 / mean_s), FAULTS_S), 4) for _ in range(dice.choice([0, 1, 2, 4, 8, 16]))
    ]
    mishaps = [_mishap(dice, at, people, auth_workers) for at in sorted(times)]
    return Plan(
        seed=seed,
        people=people,
        auth_workers=auth_workers,
        real_frames=dice.random() < 0.1,
        weather=weather,
        unsure_disk=dice.choice([0.0, 0.0, 0.0, 0.05]),
        unread_max=dice.choice([0, 0, 0, 1, 4, 10]),
        bounds=_bounds(dice) if dice.random() < 0.3 else {},
        mishaps=mishaps,
    )


def auth_names(count: int) -> list[str]:
    """The names of the authentication workers."""
    return [f"auth-{n + 1}" for n in range(count)]


def _bounds(dice: random.Random) -> dict[str, int]:
    return {name: dice.randint(*bound) for name, bound in BOUNDS.items() if dice.random() < 0.3}


def _mishap(dice: random.Random, at: float, people: list[Person], auth_workers: int) -> Mishap:
    """What it is, and whom it befalls: services more often than clients."""
    devices = [device.name for person in people for device in person.devices]
    workers = auth_names(auth_workers)
    some = dice.sample(devices, 2)
    (kind,) = dice.choices([*KINDS], [*KINDS.values()])
    for_s = dice.choice([0.01, 0.3, 1.5, 7.0])
    match kind:
        case "kill":
            whom = dice.choice(["broker", "broker", "store", "store", "store", *workers, *some])
            return Mishap(at, kind, whom, for_s, dice.choice([0, 0, 1, 2, 3, 5, 8, 20]))
        case "pause":
            return Mishap(
                at, kind, dice.choice(["broker", "store", *workers, *some]), dice.choice([0.3, 3.0, 7.0, 20.0])
            )
        case "cut" | "stranger":
            return Mishap(at, kind, some[0], for_s)
        case "still":
            return Mishap(at, kind, dice.choice([*some, "broker", "store", *workers]), dice.choice([for_s, 12.0]))
        case "part":
            return Mishap(at, kind, dice.choice([some[0], "store", "store", *workers]), dice.choice([7.0, 12.0, 25.0]))
        case "tear":
            return Mishap(at, kind, dice.choice(["broker", "store", *workers]), for_s)
        case "close":
            return Mishap(at, kind, dice.choice(people).name, for_s)
    return Mishap(at, kind, dice.choice(["store", *workers]) if kind == "clock" else "store", for_s)
