"""The tree of exceptions and the table of codes: one exception a code, and no code without one."""

from __future__ import annotations

import re

import pytest

from restante.wire import errors
from restante.wire.errors import (
    CODES,
    ChatError,
    LocalProtocolError,
    OutcomeUnknown,
    ProtocolError,
    RefusedError,
    RemoteProtocolError,
    UnreachableError,
    WrongServerKey,
)


def test_every_code_has_one_exception_and_every_exception_a_code() -> None:
    kinds = RefusedError.__subclasses__()
    assert sorted(kind.code for kind in kinds) == sorted(CODES)
    assert RefusedError.by_code == {kind.code: kind for kind in kinds}


@pytest.mark.parametrize("code", CODES)
def test_an_exception_is_named_as_its_code(code: str) -> None:
    assert RefusedError.by_code[code].__name__ == "".join(word.capitalize() for word in code.split("_"))


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_stable_plain_and_explained(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    assert len(code) <= 64
    assert CODES[code].meaning.endswith(".")


@pytest.mark.parametrize("code", CODES)
def test_what_the_server_said_is_kept(code: str) -> None:
    refused = RefusedError.of(code, "why it was so", 1_500)
    assert type(refused) is RefusedError.by_code[code]
    assert (refused.refused_code, refused.text, refused.retry_after_s) == (code, "why it was so", 1.5)
    assert str(refused) == "why it was so"


def test_no_time_to_retry_after_is_not_zero() -> None:
    assert RefusedError.of("busy", "").retry_after_s is None
    assert RefusedError.of("busy", "", 0).retry_after_s == 0.0


def test_a_code_from_a_newer_server_is_a_plain_refusal() -> None:
    refused = RefusedError.of("out_of_ink", "the pen is dry")
    assert type(refused) is RefusedError
    assert refused.refused_code == "out_of_ink"


def test_no_code_both_passes_and_ends_the_session() -> None:
    assert [code for code, row in CODES.items() if row.passes and row.fatal] == []


def test_whatever_is_raised_on_purpose_is_a_chat_error() -> None:
    for kind in (ProtocolError, RefusedError, UnreachableError, OutcomeUnknown):
        assert issubclass(kind, ChatError)
    assert issubclass(WrongServerKey, UnreachableError)
    assert issubclass(LocalProtocolError, ProtocolError)
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)


def test_a_protocol_error_says_code_text_and_request() -> None:
    error = RemoteProtocolError("bad_request", "no id", request_id=7)
    assert (error.code, error.text, error.request_id) == ("bad_request", "no id", 7)
    assert str(error) == "bad_request: no id"
    assert LocalProtocolError("too_large", "").request_id is None


def test_an_unknown_outcome_names_the_message() -> None:
    assert OutcomeUnknown("no answer").message_id is None
    assert OutcomeUnknown("no answer", message_id=b"\1" * 16).message_id == b"\1" * 16


def test_the_tree_in_the_docstring_shows_every_kind() -> None:
    shown = set(re.findall(r"[A-Z]\w+(?:Error|Unknown|Key)", errors.__doc__ or ""))
    kinds = (ChatError, ProtocolError, LocalProtocolError, RemoteProtocolError)
    others = (RefusedError, UnreachableError, WrongServerKey, OutcomeUnknown)
    assert {kind.__name__ for kind in kinds + others} <= shown
