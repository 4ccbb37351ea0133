"""What the two clients tell without asking anybody: who they are, and where."""

from __future__ import annotations

from collections.abc import Callable

from restante.driver import Driver


class Shell:
    """A client around a driver. How its callers wait is all that a subclass adds."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @property
    def address(self) -> str:
        """The server's address."""
        return str(self._driver.address)

    @property
    def account(self) -> int | None:
        """The account's number, once it is known: after the first call that needs an account."""
        return self._driver.account

    @property
    def name(self) -> str | None:
        """The account's name, likewise."""
        identity = self._driver.session.identity
        return None if identity is None else identity.name

    @property
    def token(self) -> bytes | None:
        """The token that this client logs in with: as given, or as the last `login` or `passwd` brought it."""
        return self._driver.session.token

    @property
    def expires_at_us(self) -> int | None:
        """When that token expires, once the account is known."""
        identity = self._driver.session.identity
        return None if identity is None else identity.expires_at_us

    def on_connection(self, notice: Callable[[bool], None]) -> None:
        """Have `notice` called with False when the connection is lost and with True when there is one, logged in."""
        self._driver.noticed = notice
