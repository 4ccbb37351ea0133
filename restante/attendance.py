"""Somebody to answer the door while the caller's own input is long in coming.

`send_many` takes messages from an iterator: of a file, or of a pipe in which the next line may come in an hour. What
was taken before must not wait for it, in a window that was full at that moment. So while, and only while, the
iterator is being waited for, a thread looks after the connection: sends what there is room for, takes in answers,
keeps the session alive. It and the caller take turns; neither does anything to the driver in the other's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sized
from typing import Final, TypeVar

from restante.driver import Driver

T = TypeVar("T")

BUSY_S: Final = 0.005
"""Between two looks while messages are on their way."""

IDLE_S: Final = 0.05
"""Between two looks while none are: how long the first of a burst's rest may wait to be noticed."""


def attended(items: Iterable[T], driver: Driver) -> Iterator[T]:
    """The same items, the driver looked after while one is being waited for. What has a length is not waited for."""
    if isinstance(items, Sized):
        yield from items
        return
    attendance = _Attendance(driver)
    try:
        yield from attendance.taking(iter(items))
    finally:
        attendance.end()


class _Attendance:
    """The thread, and whose turn it is.

    The caller says that it is away while it waits for an item; the attendant says that it is in before it looks whether
    the caller is away. Each says its own before it looks at the other's, so one of them sees the other: the attendant
    leaves again, or the caller waits at the lock until it is out. A lock taken for each item would do the same, and was
    a tenth of what a message cost.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._away = False
        self._in = False
        self._turn = threading.Lock()
        """The attendant holds it while it is in."""
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._attend, name="restante-attendance", daemon=True)
        self._thread.start()

    def taking(self, items: Iterator[T]) -> Iterator[T]:
        """The items, the turn given away while waiting for each."""
        while True:
            self._away = True
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self._away = False
                if self._in:
                    self._wait_for_turn()
            if self._failure is not None:
                raise self._failure
            yield item

    def end(self) -> None:
        """Nothing is waited for any more."""
        self._over.set()
        self._thread.join()

    def _wait_for_turn(self) -> None:
        with self._turn:
            pass

    def _attend(self) -> None:
        pause_s = BUSY_S
        while not self._over.wait(pause_s):
            with self._turn:
                self._in = True
                try:
                    if self._away:
                        self._driver.drain()
                        pause_s = BUSY_S if self._driver.session.stream.active else IDLE_S
                except BaseException as failure:  # noqa: BLE001 - it is raised where the caller is
                    self._failure = failure
                    return
                finally:
                    self._in = False
