"""Exit codes, and what each error means for the person at the prompt: the one table of both.

    0  done
    1  refused for good: the same command will be refused again
    2  wrong usage: nothing was tried
    3  part of a batch failed, the rest is done
    4  not logged in, or not allowed
    5  unknown or unreachable: safe to repeat, with the same --once if it is a send
    6  waited, and nothing came
    130  interrupted

A test holds `ADVICE` against the table of codes of the wire, so that no code is without an exit. Where `{chat}` stands
in an advice, the command is shown with the options that it was called with.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from restante.wire.errors import (
    ChatError,
    OutcomeUnknown,
    ProtocolError,
    RefusedError,
    SettingsError,
    UnreachableError,
    WrongServerKey,
)

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
PARTLY: Final = 3
FORBIDDEN: Final = 4
UNKNOWN: Final = 5
NOTHING_CAME: Final = 6
INTERRUPTED: Final = 130


class Advice(NamedTuple):
    """One row: the exit code, what the error means for the user's data, and what to do about it."""

    exit: int
    data: str
    do: str


class Failure(Exception):
    """A command ends here: `advice` says with which exit code, `text` what happened."""

    def __init__(self, text: str, advice: Advice, code: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.advice = advice
        self.code = code


NOTHING: Final = "Nothing was changed."
NOT_SENT: Final = "The message was not sent."
MAYBE_STORED: Final = "The message may or may not be stored."
_NOT_KNOWN: Final = "Whether it happened is not known."
_AGAIN: Final = "Repeat the command in a moment."
_LOGIN: Final = "Log in: {chat} login NAME"
_BUG: Final = "This is a bug, or client and server are of different versions: compare with `{chat} version`."

ADVICE: Final[dict[str, Advice]] = {
    # the frames and the header
    "bad_frame": Advice(REFUSED, NOTHING, _BUG),
    "bad_request": Advice(REFUSED, NOTHING, "Correct what it names and repeat the command."),
    "unknown_type": Advice(REFUSED, NOTHING, _BUG),
    "unsupported_version": Advice(REFUSED, NOTHING, "Install the client that belongs to the server's version."),
    "too_large": Advice(REFUSED, NOTHING, "Send less at once."),
    # sessions
    "no_session": Advice(UNKNOWN, NOTHING, _AGAIN),
    "not_logged_in": Advice(FORBIDDEN, NOTHING, _LOGIN),
    "already_logged_in": Advice(REFUSED, NOTHING, _BUG),
    "session_ended": Advice(FORBIDDEN, "What was confirmed before that is kept.", _LOGIN),
    "too_many_requests": Advice(UNKNOWN, NOTHING, _AGAIN),
    # accounts
    "bad_name": Advice(REFUSED, NOTHING, "Give another name."),
    "bad_password": Advice(REFUSED, NOTHING, "Choose another password."),
    "name_taken": Advice(REFUSED, NOTHING, "Choose another name, or log in if it is yours: {chat} login NAME"),
    "wrong_credentials": Advice(FORBIDDEN, NOTHING, "Check the name and the password."),
    "bad_token": Advice(FORBIDDEN, NOTHING, _LOGIN),
    "registration_closed": Advice(FORBIDDEN, NOTHING, "Ask whoever runs the server for an account."),
    "rate_limited": Advice(UNKNOWN, NOTHING, "Wait, then repeat the command."),
    "unknown_token": Advice(REFUSED, NOTHING, "Check the number."),
    # sending
    "unknown_recipient": Advice(REFUSED, "It was sent to nobody, not even to the others.", "Check the names."),
    "empty_body": Advice(REFUSED, NOT_SENT, "Give the message a content."),
    "body_too_large": Advice(REFUSED, NOT_SENT, "Put it in a file and send where that is."),
    "mailbox_full": Advice(REFUSED, NOT_SENT, "Ask the recipient to read."),
    "id_conflict": Advice(
        REFUSED,
        "The first message stands; this one was not sent.",
        "Use another --once key for another message.",
    ),
    "gap": Advice(UNKNOWN, NOT_SENT, _AGAIN),
    "poison": Advice(REFUSED, NOT_SENT, "Tell whoever runs the server: its log says more."),
    # reading
    "history_changed": Advice(REFUSED, NOTHING, "The server was restored from a backup: read from the beginning."),
    "unknown_subscription": Advice(REFUSED, NOTHING, _BUG),
    # the server's state
    "busy": Advice(UNKNOWN, NOTHING, _AGAIN),
    "unavailable": Advice(
        UNKNOWN, _NOT_KNOWN, "`{chat} health` says what is missing; to repeat a send safely, give it the same --once."
    ),
    "storage_full": Advice(UNKNOWN, "Nothing was stored.", "Free space on the server's disk, then repeat."),
    "storage_failed": Advice(UNKNOWN, "Nothing was stored.", "Look at the server's disk and log, then repeat."),
    "internal": Advice(UNKNOWN, _NOT_KNOWN, "The server's log says more."),
}

_UNREACHABLE: Final = Advice(
    UNKNOWN,
    NOTHING,
    "Check that the server runs (`chat serve`) and that the address is right (`chat address`).",
)
_WRONG_KEY: Final = Advice(
    UNKNOWN,
    NOTHING,
    "It may not be your server: ask for the address anew, `chat address` prints it where the server runs.",
)
NO_ADDRESS: Final = Advice(
    USAGE, NOTHING, "Start one with `chat serve`, or name one with --address or CHAT_ADDRESS: `chat address` prints it."
)
_SETTINGS: Final = Advice(USAGE, NOTHING, "")
_UNKNOWN: Final = Advice(UNKNOWN, _NOT_KNOWN, "Repeating it is safe.")
_UNLISTED: Final = Advice(REFUSED, "The server refused it.", "The client is older than the server: update it.")
SYSTEM: Final = Advice(REFUSED, "What was done before that stands.", "")
"""The machine refused: a file, a folder, an output."""

_OTHER: Final = Advice(REFUSED, NOTHING, "Correct that and repeat the command.")

CHANGING: Final = frozenset({"register", "login", "logout", "passwd", "send", "ack", "unread"})
"""The commands of which it is worth saying that nothing was changed."""

_SAID: Final = {
    NOTHING: ("nothing was", "not sent"),
    NOT_SENT: ("nothing was", "not sent"),
    _NOT_KNOWN: ("not known", "may have been"),
    MAYBE_STORED: ("not known",),
}
"""What in an error's own text says the same already."""


def data_of(advice: Advice, command: str, text: str) -> str:
    """What an error means for the user's data; "" where that goes without saying, or stands in the text."""
    data = advice.data
    if data == NOTHING and command == "send":
        data = NOT_SENT
    if data == NOTHING and command not in CHANGING:
        return ""
    return "" if any(words in text.lower() for words in _SAID.get(data, ())) else data


def advice_for(error: ChatError) -> Advice:
    """The row for an error; a code newer than this table is taken for a refusal."""
    if isinstance(error, RefusedError):
        return ADVICE.get(error.refused_code, _UNLISTED)
    if isinstance(error, ProtocolError):
        return ADVICE.get(error.code, _UNLISTED)
    if isinstance(error, WrongServerKey):
        return _WRONG_KEY
    if isinstance(error, UnreachableError):
        return _UNREACHABLE
    if isinstance(error, OutcomeUnknown):
        return _UNKNOWN
    if isinstance(error, SettingsError):
        return _SETTINGS
    return _OTHER


def code_of(error: ChatError) -> str:
    """The error's stable code; what no server says has its own."""
    if isinstance(error, RefusedError):
        return error.refused_code
    if isinstance(error, ProtocolError):
        return error.code
    if isinstance(error, WrongServerKey):
        return "wrong_server_key"
    if isinstance(error, UnreachableError):
        return "unreachable"
    if isinstance(error, OutcomeUnknown):
        return "outcome_unknown"
    return "failed"


def failure_of(error: ChatError) -> Failure:
    """An error of the library as what a command ends with."""
    text = error.text if isinstance(error, RefusedError | ProtocolError) else str(error)
    for said_by_advice in (" Log in again.", " Wait as long as it says."):
        text = text.replace(said_by_advice, "")
    retry_after_s = error.retry_after_s if isinstance(error, RefusedError) else None
    if retry_after_s:
        text = f"{text.rstrip('.')} (again in {retry_after_s:g} s)."
    return Failure(text, advice_for(error), code_of(error))
