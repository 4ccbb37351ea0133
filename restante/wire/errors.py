"""What can go wrong, each with a stable code, and the tree of exceptions.

    ChatError
    ├── ProtocolError
    │   ├── LocalProtocolError     we were about to break the protocol: a bug of ours
    │   └── RemoteProtocolError    a peer broke it
    ├── RefusedError               the server said no; one subclass a code (`UnknownRecipient`, `Busy`, …)
    ├── UnreachableError           nobody answered; `WrongServerKey` where the server's key is not the address's
    ├── OutcomeUnknown             asked, and no answer came: it may or may not have happened
    └── SettingsError              not even asked: a setting, a profile or a token of ours is none

On the wire an error is `{code, text, retry_after_ms?, fatal}`. The code is for programs and never changes its
meaning; the text is for people and may. `CODES` is the whole table: the specification, the vectors, the
exceptions and the command's exit codes are held against it by tests.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple


class Code(NamedTuple):
    """One row of the table of codes."""

    meaning: str
    """What happened, and what it means for the message."""
    passes: bool = False
    """True if the same request may succeed later, unchanged."""
    fatal: bool = False
    """True if the session is over with it: make a new connection, say hello."""


CODES: Final[dict[str, Code]] = {
    # the frames and the header
    "bad_frame": Code("The frames can't be taken apart: their number, or a header that isn't a msgpack map."),
    "bad_request": Code("A field is missing, of the wrong type, or out of its limit; the text names it."),
    "unknown_type": Code("No request has this type."),
    "unsupported_version": Code("The first frame names a protocol version this server does not speak.", fatal=True),
    "too_large": Code("A frame, a batch or a list is over its limit; the text names it. Send less at once."),
    # sessions
    "no_session": Code("This connection has not said hello, or was forgotten. Connect anew.", fatal=True),
    "not_logged_in": Code("This request needs an account: log in or resume first."),
    "already_logged_in": Code("This session has an account already; another needs a connection of its own."),
    "session_ended": Code("The account's token was revoked, its password changed, or it was closed.", fatal=True),
    "too_many_requests": Code("More requests wait in this session than it was told it may have.", passes=True),
    # accounts
    "bad_name": Code("Not a name: 2 to 32 of a-z 0-9 . _ - beginning with a letter or digit."),
    "bad_password": Code("Not a password that is taken: at least 8 characters, at most 1,024 bytes."),
    "name_taken": Code("Somebody has this name, or had it: names are never given twice."),
    "wrong_credentials": Code("No account has this name and password."),
    "bad_token": Code("The token is unknown, expired or revoked. Log in again."),
    "registration_closed": Code("This server does not let newcomers register."),
    "rate_limited": Code("Too many attempts. Wait as long as it says.", passes=True),
    "unknown_token": Code("This account has no token with that number."),
    # sending
    "unknown_recipient": Code("No account has this name. The message was not sent, not even to the others."),
    "empty_body": Code("A message has no content."),
    "body_too_large": Code("A message's content is over the limit. It was not sent."),
    "mailbox_full": Code("A recipient's mailbox takes no more until it is read."),
    "id_conflict": Code("This id was accepted before with other content, recipients or metadata."),
    "gap": Code("The stream expects another number; nothing was done. Go on from `expected`.", passes=True),
    "poison": Code("Storing this message failed again and again; it was set aside and not stored."),
    # reading
    "history_changed": Code("The cursor belongs to another history: the server was restored. Begin at 0."),
    "unknown_subscription": Code("This session has no subscription of that number."),
    # the server's state
    "busy": Code("Too much waits already; nothing was done. Wait as long as it says.", passes=True),
    "unavailable": Code("A part of the server does not answer. Whether this was done is not known.", passes=True),
    "storage_full": Code("The server's disk is full; nothing was stored.", passes=True),
    "storage_failed": Code("The server's disk refused to write; nothing was stored.", passes=True),
    "internal": Code("The server failed on this request, which may have been done; its log says more."),
}


class ChatError(Exception):
    """Whatever Restante raises on purpose."""


class ProtocolError(ChatError):
    """The protocol was broken. `code` is one of `CODES`, `text` says what was wrong."""

    def __init__(self, code: str, text: str, *, request_id: int | None = None) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.request_id = request_id
        """The id of the request that broke it, where it could still be read: the answer carries it."""


class LocalProtocolError(ProtocolError):
    """We were about to send what the protocol forbids: too large, ill-formed, out of turn."""


class RemoteProtocolError(ProtocolError):
    """A peer sent what the protocol forbids."""


class RefusedError(ChatError):
    """The server understood and said no. Subclasses: one a code.

    `retry_after_s` is the server's wish for how long to wait, or None where waiting does not help.
    """

    code: ClassVar[str] = ""
    by_code: ClassVar[dict[str, type[RefusedError]]] = {}

    def __init__(self, text: str, *, retry_after_s: float | None = None, code: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.retry_after_s = retry_after_s
        self.refused_code = code or self.code

    def __init_subclass__(cls, *, code: str) -> None:
        cls.code = code
        RefusedError.by_code[code] = cls

    @classmethod
    def of(cls, code: str, text: str, retry_after_ms: int | None = None) -> RefusedError:
        """The exception for a code; a code newer than this library gives a plain `RefusedError`."""
        kind = cls.by_code.get(code, RefusedError)
        wait_s = None if retry_after_ms is None else retry_after_ms / 1000
        return kind(text, retry_after_s=wait_s, code=code)


class BadFrame(RefusedError, code="bad_frame"):
    """The server could not take our frames apart."""


class BadRequest(RefusedError, code="bad_request"):
    """A field is missing, of the wrong type or out of its limit."""


class UnknownType(RefusedError, code="unknown_type"):
    """The server knows no such request: it is older than this library."""


class UnsupportedVersion(RefusedError, code="unsupported_version"):
    """The server does not speak this version of the protocol."""


class TooLarge(RefusedError, code="too_large"):
    """A frame, a batch or a list is over its limit."""


class NoSession(RefusedError, code="no_session"):
    """The server does not know this connection."""


class NotLoggedIn(RefusedError, code="not_logged_in"):
    """The request needs an account."""


class AlreadyLoggedIn(RefusedError, code="already_logged_in"):
    """This session has an account already."""


class SessionEnded(RefusedError, code="session_ended"):
    """The token was revoked, the password changed, or the account closed."""


class TooManyRequests(RefusedError, code="too_many_requests"):
    """More requests wait in this session than it may have."""


class BadName(RefusedError, code="bad_name"):
    """Not a name that an account can have."""


class BadPassword(RefusedError, code="bad_password"):
    """Not a password that is taken."""


class NameTaken(RefusedError, code="name_taken"):
    """Somebody has, or had, this name."""


class WrongCredentials(RefusedError, code="wrong_credentials"):
    """No account has this name and password."""


class BadToken(RefusedError, code="bad_token"):
    """The token is unknown, expired or revoked."""


class RegistrationClosed(RefusedError, code="registration_closed"):
    """The server does not let newcomers register."""


class RateLimited(RefusedError, code="rate_limited"):
    """Too many attempts; `retry_after_s` says how long to wait."""


class UnknownToken(RefusedError, code="unknown_token"):
    """The account has no token of that number."""


class UnknownRecipient(RefusedError, code="unknown_recipient"):
    """No account has this name; the message went to nobody."""


class EmptyBody(RefusedError, code="empty_body"):
    """A message has no content."""


class BodyTooLarge(RefusedError, code="body_too_large"):
    """A message's content is over the limit."""


class MailboxFull(RefusedError, code="mailbox_full"):
    """A recipient's mailbox takes no more until it is read."""


class IdConflict(RefusedError, code="id_conflict"):
    """The id was accepted before with other content, recipients or metadata."""


class Gap(RefusedError, code="gap"):
    """A stream's envelope came out of turn."""


class Poison(RefusedError, code="poison"):
    """Storing this message failed again and again."""


class HistoryChanged(RefusedError, code="history_changed"):
    """The cursor belongs to a history that was replaced by a backup."""


class UnknownSubscription(RefusedError, code="unknown_subscription"):
    """The session has no subscription of that number."""


class Busy(RefusedError, code="busy"):
    """Too much waits already; `retry_after_s` says how long to wait."""


class Unavailable(RefusedError, code="unavailable"):
    """A part of the server does not answer."""


class StorageFull(RefusedError, code="storage_full"):
    """The server's disk is full."""


class StorageFailed(RefusedError, code="storage_failed"):
    """The server's disk refused to write."""


class Internal(RefusedError, code="internal"):
    """The server failed on this request."""


class UnreachableError(ChatError):
    """Nobody answered at the address within the time allowed; nothing was sent."""


class WrongServerKey(UnreachableError):
    """Somebody answers at the address, but does not hold the key that the address names."""


class OutcomeUnknown(ChatError):
    """A request was sent and no answer came: it may or may not have happened. Repeat it with the same id."""

    def __init__(self, text: str, *, message_id: bytes | None = None) -> None:
        super().__init__(text)
        self.message_id = message_id


class SettingsError(ChatError):
    """A setting, a profile or a token cannot be used; the text says which, from where, and what to do."""
