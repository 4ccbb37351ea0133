"""Sockets made in a test live to its end: the context closes them, and none is collected unclosed."""

import pytest
import zmq

from runtime import sockets
from runtime.sockets import Socket


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Socket]:
    made: list[Socket] = []
    make = sockets._socket

    def make_and_keep(context: zmq.Context[Socket], kind: int, *limits: int) -> Socket:
        made.append(make(context, kind, *limits))
        return made[-1]

    monkeypatch.setattr(sockets, "_socket", make_and_keep)
    return made
