"""The people of a simulated world, and what they have in mind: drawn from the seed, and then plain data.

A *person* has an account and some *devices*; each is a process with a session, a token, habits and an outbox of its
own. A *letter* is a message that a device will send; a *chore* is anything else that it will do at some time.
"""

from __future__ import annotations

import random
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

NAMES: Final = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")

GHOST: Final = "ghost"
"""A name that nobody ever registers."""

CHORES: Final = {"status": 4, "overview": 4, "lookup": 2, "logout": 3, "revoke": 4}
"""What devices do beside sending and reading, and how often in proportion; changing the password comes to it."""

LONG: Final = 600
"""Bytes by which a long letter is longer than others."""

LETTERS: Final = 36
"""About how many letters a world has: what a larger one has more of is people."""


class Habits(Struct, frozen=True):
    """How one device goes about it."""

    pause_s: float = 0.0
    """Between two batches, on average."""
    timeout_s: float = 0.0
    """Of a send; 0: as long as it takes."""
    joining_s: float = 60.0
    """Of registering and logging in."""
    pipelined: bool = False
    """Whether the next batch is given before the last is answered."""
    read_s: float = 1.0
    """Between two looks at the mailbox."""
    page: int = 100
    """Messages of a page."""
    all_mail: bool = False
    """Whether it looks through everything, or what is unread."""
    follows: bool = False
    """Whether it subscribes, or looks from time to time."""
    window: int = 1_000
    """Messages of credit."""
    window_bytes: int = 1 << 20
    feeds: int = 1
    """How many subscriptions it has at once; it takes what comes from the first."""
    filters: bool = False
    """Whether it reads one sender's messages only."""
    acks: float = 1.0
    """The share of messages that it acknowledges."""
    insists: bool = False
    """Whether it gives again what was refused for good, some time later."""
    elsewhere: bool = False
    """Whether what failed is sent again from another device."""


class Letter(Struct, frozen=True):
    """A message that will be sent."""

    id: bytes
    to: list[str]
    text: str


class Chore(Struct, frozen=True):
    """Something that a device will do when it has run for so many seconds."""

    at: float
    what: str


class Device(Struct, frozen=True):
    """One process of a person's."""

    name: str
    habits: Habits
    outbox: list[list[Letter]]
    """Batches."""
    chores: list[Chore]


class Person(Struct, frozen=True):
    """Somebody with an account."""

    name: str
    joins_at: float
    """When the account is made; 0: before anybody writes."""
    devices: list[Device]


def person_of(device: str) -> str:
    """Whose device that is: `alice/2` is alice's second."""
    return device.partition("/")[0]


def draw_people(dice: random.Random) -> list[Person]:
    """Mostly few people with few devices, who find the most in the least time; sometimes a crowd."""
    names = NAMES[: dice.choice([2, 2, 2, 2, 2, 2, 3, 4, 5, 8])]
    counts = [dice.choice([1, 1, 1, 1, 1, 2, 3, 4] if len(names) < 5 else [1, 1, 1, 2]) for _ in names]
    late = {name for name in names[1:] if dice.random() < 0.15}
    share = max(1, LETTERS // sum(counts))
    people = []
    for name, count in zip(names, counts, strict=True):
        labels = [name, *(f"{name}/{n + 2}" for n in range(count - 1))]
        devices = [_device(label, names, share, dice) for label in labels]
        people.append(Person(name, round(dice.uniform(0.5, 8.0), 2) if name in late else 0.0, devices))
    return people


def _device(label: str, names: tuple[str, ...], share: int, dice: random.Random) -> Device:
    habits = _habits(dice)
    size_max = min(share, dice.choice([1, 3, 12]))
    outbox: list[list[Letter]] = []
    left = dice.randint(share // 2, share)
    while left > 0:
        size = min(left, dice.randint(1, size_max))
        outbox.append(
            [_letter(f"{label}'s {len(outbox) + 1}.{n + 1}", label, names, outbox, dice) for n in range(size)]
        )
        left -= max(size, share // 12)
    return Device(label, habits, _lengthened(outbox), _chores(label, dice))


def _lengthened(outbox: list[list[Letter]]) -> list[list[Letter]]:
    """Some devices write at length: where there is little room theirs is what fills it."""
    dice = random.Random(outbox[0][0].id)
    if dice.random() > 0.2:
        return outbox
    return [[replace(letter, text=letter.text + "." * LONG) for letter in batch] for batch in outbox]


def _habits(dice: random.Random) -> Habits:
    return Habits(
        pause_s=dice.choice([0.0, 0.05, 0.2, 1.0]),
        timeout_s=dice.choice([0.0, 0.0, 60.0, 4.0]),
        joining_s=dice.choice([60.0, 60.0, 3.0]),
        pipelined=dice.random() < 0.5,
        read_s=dice.choice([0.2, 1.0, 4.0]),
        page=dice.choice([1, 2, 5, 100]),
        all_mail=dice.random() < 0.1,
        follows=dice.random() < 0.6,
        window=dice.choice([1, 2, 7, 1000]),
        window_bytes=dice.choice([1, 60, 1 << 20]),
        feeds=dice.choice([1, 1, 1, 3]),
        filters=dice.random() < 0.2,
        acks=dice.choice([0.0, 0.5, 1.0]),
        insists=dice.random() < 0.5,
        elsewhere=dice.random() < 0.3,
    )


def _letter(text: str, label: str, names: tuple[str, ...], before: list[list[Letter]], dice: random.Random) -> Letter:
    """Most go to one other; some to several, to oneself, to nobody at all; some have the id of another before them."""
    own = person_of(label)
    others = [name for name in names if name != own]
    chance = dice.random()
    to = [dice.choice(others)]
    if chance < 0.1:
        to = [*others, own]
    elif chance < 0.14:
        to = [GHOST]
    elif chance < 0.18:
        to.append(GHOST)
    letter_id = dice.randbytes(16)
    if before and dice.random() < 0.04:
        letter_id = dice.choice(dice.choice(before)).id
    padding = "." * LONG if dice.random() < 0.1 else ""
    return Letter(letter_id, to, f"{text} to {','.join(to)}{padding}")


def _chores(label: str, dice: random.Random) -> list[Chore]:
    """One device of each person changes the password, if any does: who does is never in doubt about the old one."""
    count = dice.choice([0, 0, 0, 1, 2])
    chores = [Chore(_soon(dice), *dice.choices([*CHORES], [*CHORES.values()])) for _ in range(count)]
    if label == person_of(label) and dice.random() < 0.3:
        chores.append(Chore(_soon(dice), "passwd"))
    return sorted(chores, key=lambda chore: chore.at)


def _soon(dice: random.Random) -> float:
    return round(min(dice.expovariate(1 / 3.0), 15.0), 2)
