"""What somebody says who has no session, and hopes to be taken for one who has."""

from __future__ import annotations

import random

from restante.wire import envelopes
from restante.wire.envelopes import Item
from tests.simulation.network import Envelope
from tests.simulation.people import person_of

SEQS = range(1, 40)
"""Places that most likely hold something."""


def forgeries(name: str, dice: random.Random, *, greets: bool) -> list[Envelope[envelopes.ToBroker]]:
    """Read somebody's mail, mark it as read, and send in that name."""
    content = b"I am not who you think"
    item = Item(id=dice.randbytes(16), to=[person_of(name)], size=len(content))
    said: list[Envelope[envelopes.ToBroker]] = [
        (envelopes.Fetch(id=2, unread=False), b""),
        (envelopes.Ack(id=3, seqs=[*SEQS]), b""),
        (envelopes.Subscribe(id=4, sub=1, messages=100, bytes=1 << 20), b""),
        (envelopes.Send.of(5, dice.randbytes(16), 1, [item]), content),
        (envelopes.Tokens(id=6), b""),
    ]
    dice.shuffle(said)
    return [(envelopes.Hello(id=1), b""), *said] if greets else said
