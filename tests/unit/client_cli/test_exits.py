"""Every code of the wire has an exit, and every error a sentence on what to do."""

import pytest

from client_cli import exits
from restante.wire.errors import (
    CODES,
    ChatError,
    LocalProtocolError,
    OutcomeUnknown,
    RefusedError,
    RemoteProtocolError,
    SettingsError,
    UnreachableError,
    WrongServerKey,
)

DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 130}


def test_the_table_has_every_code_and_no_other() -> None:
    assert exits.ADVICE.keys() == CODES.keys()


@pytest.mark.parametrize("code", CODES)
def test_what_may_pass_is_5_and_what_will_not_is_never_5(code: str) -> None:
    """But for `no_session` and `internal`: a new connection, or a repetition, may succeed."""
    advice = exits.ADVICE[code]
    assert (advice.exit == exits.UNKNOWN) == (CODES[code].passes or code in ("no_session", "internal"))
    assert advice.exit in DOCUMENTED - {exits.DONE}


@pytest.mark.parametrize("code", CODES)
def test_each_says_what_it_means_for_the_data_and_what_to_do(code: str) -> None:
    advice = exits.ADVICE[code]
    assert advice.data.endswith(".")
    assert advice.do


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (RefusedError.of("unknown_recipient", "no"), 1, "unknown_recipient"),
        (RefusedError.of("bad_token", "no"), 4, "bad_token"),
        (RefusedError.of("busy", "no"), 5, "busy"),
        (RefusedError.of("newer_than_we", "no"), 1, "newer_than_we"),
        (LocalProtocolError("too_large", "no"), 1, "too_large"),
        (RemoteProtocolError("bad_frame", "no"), 1, "bad_frame"),
        (UnreachableError("no"), 5, "unreachable"),
        (WrongServerKey("no"), 5, "wrong_server_key"),
        (OutcomeUnknown("no"), 5, "outcome_unknown"),
        (SettingsError("no"), 2, "failed"),
    ],
)
def test_every_branch_of_the_tree_has_an_exit(error: ChatError, exit_code: int, code: str) -> None:
    failure = exits.failure_of(error)
    assert (failure.advice.exit, failure.code) == (exit_code, code)


def test_what_the_advice_says_is_not_said_by_the_servers_text_too() -> None:
    failure = exits.failure_of(RefusedError.of("bad_token", CODES["bad_token"].meaning))
    assert failure.text == "The token is unknown, expired or revoked."
    failure = exits.failure_of(RefusedError.of("rate_limited", CODES["rate_limited"].meaning, 6000))
    assert failure.text == "Too many attempts (again in 6 s)."


def test_a_wait_that_the_server_asks_for_is_told() -> None:
    failure = exits.failure_of(RefusedError.of("rate_limited", "Too many attempts.", 6000))
    assert failure.text == "Too many attempts (again in 6 s)."
