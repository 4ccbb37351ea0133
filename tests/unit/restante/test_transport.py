"""The link: what it must get right about libzmq itself."""

from __future__ import annotations

import socket
import threading
from typing import Final

from restante.transport import Link
from restante.wire.address import Address

DEADLINE_S: Final = 30.0
CONNECTIONS: Final = 500
"""Without the care that `Link.close` takes, some tens of them were enough."""


def test_a_connection_that_breaks_off_while_it_is_closed_takes_no_later_one_with_it() -> None:
    """The I/O thread of libzmq tells a monitor what happens to a connection, and waits until it can: for ever, if the
    monitor is closed. Nothing of that context moves then, so no later connection is made and `end` never returns.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S / 2)
        link = Link(Address("127.0.0.1", server.getsockname()[1], bytes(32)))
        made = 0

        def connect_again_and_again() -> None:
            nonlocal made
            for number in range(CONNECTIONS):
                link.open(number)
                server.accept()[0].close()
                link.close()
                made += 1
            link.end()

        thread = threading.Thread(target=connect_again_and_again, daemon=True)
        thread.start()
        thread.join(DEADLINE_S)
        assert made == CONNECTIONS
        assert not thread.is_alive(), "the context never ended"
