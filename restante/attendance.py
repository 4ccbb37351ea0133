"""Taking messages from whoever gives them, by the handful, and somebody to answer the door meanwhile.

`send_many` takes messages from an iterator: of a file, or of a pipe in which the next line may come in an hour. What
was taken before must not wait for it, in a window that was full at that moment, or in our own hand. So while, and only
while, the iterator is being waited for, a thread looks after the connection: gives what was taken, sends what there is
room for, takes in answers, keeps the session alive. It and the caller take turns; neither does anything to the driver
in the other's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import Final

from restante.driver import Driver
from restante.messages import Outgoing

Give = Callable[[list[Outgoing]], None]
"""Submits messages, without waiting for anything."""

BUSY_S: Final = 0.005
"""Between two looks while messages are on their way."""

IDLE_S: Final = 0.05
"""Between two looks while none are: how long the first of a burst's rest may wait to be noticed."""

HANDFUL_BYTES: Final = 256 << 10
"""Contents of a handful, one message more: what is taken beyond what there is room for."""

FIXED: Final = frozenset({str, bytes, tuple})
"""What whoever gave it can't change any more."""


def giving(messages: Iterable[Outgoing], driver: Driver, give: Give) -> Iterator[None]:
    """Give all messages by the handful; yields after each, for who has something to do between two.

    The driver is looked after while a message is being waited for. What has a length is not waited for.
    """
    if type(messages) in (list, tuple):
        yield from _at_hand(iter(messages), driver, give)
    elif isinstance(messages, Sized):  # it may make each message as it is asked for it, by whatever means
        for each in messages:
            give([each])
            yield
    else:
        attendance = _Attendance(driver, give)
        try:
            yield from attendance.giving(iter(messages))
        finally:
            attendance.end()


def _at_hand(messages: Iterator[Outgoing], driver: Driver, give: Give) -> Iterator[None]:
    while handful := list(islice(messages, driver.handful)):
        if sum([len(each.body) for each in handful]) <= HANDFUL_BYTES:
            give(handful)
            yield
        else:
            for each in handful:
                give([each])
                yield


class _Attendance:
    """The thread, and whose turn it is.

    The caller says that it is away (`Driver.away`) while it waits for messages; the attendant says that it is in before
    it looks whether the caller is away. Each says its own before it looks at the other's, so one of them sees the
    other: the attendant leaves again, or the caller waits at the lock until it is out.
    """

    def __init__(self, driver: Driver, give: Give) -> None:
        self._driver = driver
        self._give = give
        self._handful: list[Outgoing] = []
        """What has been taken. While the caller is away it adds to this and does nothing else."""
        self._given = 0
        """How many of those have been given."""
        self._in = False
        self._turn = threading.Lock()
        """The attendant holds it while it is in."""
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._attend, name="restante-attendance", daemon=True)
        self._thread.start()

    def giving(self, messages: Iterator[Outgoing]) -> Iterator[None]:
        """Give the messages, the turn given away while waiting for them."""
        more = True
        while more:
            self._handful, self._given = [], 0
            self._driver.away = True
            try:
                more = self._take(messages)
            finally:
                self._driver.away = False
                if self._in:
                    self._wait_for_turn()
            if self._failure is not None:
                raise self._failure
            self._give_taken()
            yield

    def end(self) -> None:
        """Nothing is waited for any more."""
        self._over.set()
        self._thread.join()

    def _take(self, messages: Iterator[Outgoing]) -> bool:
        """Take a handful; whether there may be more. It ends with what its giver could still change."""
        handful, room = self._handful, self._driver.handful
        size = 0
        for each in messages:
            handful.append(each)
            size += len(each.body)
            usual = type(each.body) is bytes and type(each.to) is str  # a third of the time of the other question
            fixed = usual or FIXED.issuperset((type(each.body), type(each.to)))
            if len(handful) >= room or size > HANDFUL_BYTES or not fixed:
                return True
        return False

    def _give_taken(self) -> None:
        rest = self._handful[self._given :]
        if rest:
            self._given += len(rest)
            self._give(rest)

    def _wait_for_turn(self) -> None:
        with self._turn:
            pass

    def _attend(self) -> None:
        pause_s = BUSY_S
        while not self._over.wait(pause_s):
            with self._turn:
                self._in = True
                try:
                    if self._driver.away:
                        self._look_after()
                        pause_s = BUSY_S if self._driver.session.stream.active else IDLE_S
                except BaseException as failure:  # noqa: BLE001 - it is raised where the caller is
                    self._failure = failure
                    return
                finally:
                    self._in = False

    def _look_after(self) -> None:
        if self._driver.account is not None and self._failure is None:  # else to give may be to wait for it
            try:
                self._give_taken()
            except Exception as failure:  # noqa: BLE001 - it is raised where the caller is; what was given goes on
                self._failure = failure
        self._driver.drain()
