"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from restante.messages import Message, Outcome, Outgoing, PageOf, Receipt
from restante.wire.envelopes import Account, Acked, LoggedIn, MessageStatus, Registered, TokenInfo, Welcome

Marks = Message | int | bytes


class Pending:
    """A message on its way."""

    def result(self, timeout_s: float | None = None) -> Receipt:
        raise NotImplementedError

    def done(self) -> bool:
        raise NotImplementedError

    def exception(self, timeout_s: float | None = None) -> Exception | None:
        raise NotImplementedError


class Client:
    """A connection to a server; a context manager. Belongs to one thread at a time."""

    def __init__(
        self,
        address: str | None = None,
        *,
        profile: str | None = None,
        token: bytes | str | None = None,
        timeout_s: float | None = None,
        client_name: str = "restante-python",
    ) -> None:
        raise NotImplementedError

    @property
    def address(self) -> str:
        raise NotImplementedError

    @property
    def account(self) -> int | None:
        raise NotImplementedError

    @property
    def name(self) -> str | None:
        raise NotImplementedError

    @property
    def token(self) -> bytes | None:
        raise NotImplementedError

    def hello(self) -> Welcome:
        raise NotImplementedError

    def register(self, name: str, password: str, *, display_name: str = "") -> Registered:
        raise NotImplementedError

    def login(self, name: str, password: str, *, device: str = "") -> LoggedIn:
        raise NotImplementedError

    def logout(self) -> None:
        raise NotImplementedError

    def passwd(self, old: str, new: str) -> LoggedIn:
        raise NotImplementedError

    def tokens(self) -> list[TokenInfo]:
        raise NotImplementedError

    def revoke(self, token_id: int) -> None:
        raise NotImplementedError

    def lookup(self, names: Iterable[str]) -> list[str]:
        raise NotImplementedError

    def overview(self) -> Account:
        raise NotImplementedError

    def send(
        self,
        to: str | Iterable[str],
        body: str | bytes,
        *,
        once: str | None = None,
        content_type: str | None = None,
        reply_to: bytes | None = None,
        id: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Receipt:
        raise NotImplementedError

    def submit(
        self,
        to: str | Iterable[str],
        body: str | bytes,
        *,
        once: str | None = None,
        content_type: str | None = None,
        reply_to: bytes | None = None,
        id: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Pending:
        raise NotImplementedError

    def flush(self) -> None:
        raise NotImplementedError

    def send_many(self, messages: Iterable[Outgoing], *, timeout_s: float | None = None) -> Iterator[Outcome]:
        raise NotImplementedError

    def fetch(
        self, after: int = 0, *, limit: int = 100, unread: bool = True, sender: str = "", peek: bool = False
    ) -> PageOf:
        raise NotImplementedError

    def inbox(
        self,
        *,
        follow: bool = False,
        unread: bool = True,
        sender: str = "",
        limit: int | None = None,
        peek: bool = False,
        wait_s: float | None = None,
    ) -> Iterator[Message]:
        raise NotImplementedError

    def ack(self, messages: Marks | Iterable[Marks], *, read: bool = True) -> Acked:
        raise NotImplementedError

    def status(self, ids: Iterable[bytes]) -> list[MessageStatus]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
