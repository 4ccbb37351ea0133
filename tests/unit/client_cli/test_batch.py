"""`chat send --batch`: every line has its fate, and a broken one keeps none of the others."""

import errno
import io
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_cli import batch, batch_lines
from client_cli.ledger import Ledger
from client_cli.output import CantWrite
from restante.messages import Outcome, Outgoing
from restante.wire.errors import RefusedError, UnreachableError
from restante.wire.ids import once_id
from restante.wire.limits import MESSAGE_BYTES_MAX
from tests.unit.client_cli.conftest import Chat
from tests.unit.client_cli.fake import FakeClient

GOOD = b'{"to": "bob", "body": "hi"}'


def lines(*records: Any) -> bytes:
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in records)


def test_each_line_is_a_message_to_its_own_recipients(chat: Chat, client: FakeClient) -> None:
    data = lines(
        {"to": "bob", "body": "one", "once": "k1"},
        {"to": ["bob", "eve"], "body": "two\n"},
        {"to": "bob,eve", "body": "three"},
        {"to": "bob", "body_base64": "/w=="},
    )
    result = chat("send", "--batch", "-", stdin=data)
    assert result.exit_code == 0
    assert result.stderr == "4 accepted.\n"
    assert [(one.to, one.body, one.once) for one in client.sent] == [
        (["bob"], b"one", "k1"),
        (["bob", "eve"], b"two\n", None),
        (["bob", "eve"], b"three", None),
        (["bob"], b"\xff", None),
    ]
    assert client.sent[0].id is None
    assert len({one.id for one in client.sent[1:]}) == 3
    ids = [once_id(7, "k1"), *(one.id or b"" for one in client.sent[1:])]
    assert result.stdout.splitlines() == [str(uuid.UUID(bytes=one)) for one in ids], "as a single send prints its own"
    assert chat("send", "--batch", "-", "-q", stdin=data).output == ""
    assert client.sent[3].content_type == "application/octet-stream"


def test_a_last_line_without_its_newline_counts_and_blank_lines_do_not(chat: Chat, client: FakeClient) -> None:
    assert chat("send", "--batch", "-", stdin=GOOD + b"\n\n  \r\n" + GOOD).exit_code == 0
    assert len(client.sent) == 2


def test_a_file_is_read_as_stdin_is(chat: Chat, client: FakeClient, tmp_path: Path) -> None:
    (tmp_path / "batch.jsonl").write_bytes(lines(GOOD))
    assert chat("send", "--batch", str(tmp_path / "batch.jsonl")).exit_code == 0
    absent = chat("send", "--batch", str(tmp_path / "absent"))
    assert absent.exit_code == 2
    assert "No such file" in absent.stderr
    assert chat("send", "--batch", str(tmp_path)).exit_code == 2
    assert len(client.sent) == 1


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"{not json", "Not JSON: object keys must be strings (byte 1)"),
        (b'{"to": "bob"', "Not JSON: Input data was truncated"),
        (b"[]", "A line is one JSON object"),
        (b'"text"', "A line is one JSON object"),
        (b"\xff\xfe", "Not JSON"),
        (b'{"to": "bob"}', "Body is missing, or body_base64"),
        (b'{"body": "hi"}', "To is missing"),
        (b'{"to": [], "body": "hi"}', "To must hold 1 to 1,000 names"),
        (b'{"to": "bob,", "body": "hi"}', "To has an empty name"),
        (b'{"to": 5, "body": "hi"}', "To must be a name or a list of names"),
        (b'{"to": ["bob", 5], "body": "hi"}', "To must be a name or a list of names"),
        (b'{"to": "bob", "body": ""}', "The body is empty"),
        (b'{"to": "bob", "body": 7}', "Body must be text"),
        (b'{"to": "bob", "body": "hi", "body_base64": "/w=="}', "It has both body and body_base64: give one"),
        (b'{"to": "bob", "body_base64": "?"}', "body_base64 is not base64"),
        (b'{"to": "bob", "body": "hi", "onec": "typo"}', "It has 'onec', and may only have to, body, "),
        (b'{"to": "bob", "body": "hi", "once": ""}', "A once key has 1 to 200 bytes, this one has 0"),
        (b'{"to": "bob", "body": "hi", "once": 1}', "Once must be text"),
        (b'{"to": "bob", "body": "hi", "reply_to": "x"}', "reply_to is not a message's id"),
        (json.dumps({"to": "bob", "body": "x" * (MESSAGE_BYTES_MAX + 1)}).encode(), "The body has 1,048,577 bytes"),
    ],
)
def test_a_broken_line_is_told_in_plain_words_by_its_number_and_the_others_go(
    chat: Chat, client: FakeClient, broken: bytes, why: str
) -> None:
    result = chat("send", "--batch", "-", stdin=lines(GOOD, broken, GOOD))
    assert result.exit_code == 3
    assert len(client.sent) == 2
    assert len(result.stdout.splitlines()) == 2
    first, last = result.stderr.splitlines()
    assert first.startswith(f"Line 2: {why}")
    assert first.endswith(" (it was not sent).")
    assert not set("`$|") & set(first), "no parser's words"
    assert last == "2 accepted, 1 failed."


def test_a_line_too_long_is_passed_over_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_lines, "LINE_BYTES_MAX", 32)
    file = io.BytesIO(GOOD + b"\n" + b"x" * 100 + b"\n" + GOOD + b"\n" + b"y" * 32)
    assert list(batch_lines.lines_of(file)) == [(1, GOOD + b"\n"), (2, None), (3, GOOD + b"\n"), (4, None)]


def test_a_refused_line_is_told_too(chat: Chat, client: FakeClient) -> None:
    result = chat("send", "--batch", "-", stdin=lines(GOOD, {"to": "zoe", "body": "hi"}, GOOD))
    assert result.exit_code == 3
    assert "Line 2: No account is called 'zoe' (it was sent to nobody, not even to the others).\n" in result.stderr
    assert len(client.sent) == 3


def test_json_tells_of_every_line_in_order(chat: Chat, client: FakeClient) -> None:
    data = lines(b"?", GOOD, b"?", {"to": "zoe", "body": "hi"}, {"to": "bob", "body": "x", "once": "k"}, b"?")
    result = chat("send", "--batch", "-", "--json", stdin=data)
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["line"], one["ok"]) for one in told] == [
        (1, False),
        (2, True),
        (3, False),
        (4, False),
        (5, True),
        (6, False),
    ]
    assert told[0]["error"] == "broken_line"
    assert told[1] == {"line": 2, "ok": True, "id": str(uuid.UUID(bytes=client.sent[0].id)), "seq": 1, "again": False}
    assert told[3]["error"] == "unknown_recipient"
    assert result.exit_code == 3


def test_a_server_that_goes_leaves_a_statement_and_5(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = UnreachableError("Nobody answers."), 2
    result = chat("send", "--batch", "-", stdin=lines(*[{"to": "bob", "body": "x", "once": f"k{n}"} for n in range(5)]))
    assert result.exit_code == 5
    (said,) = result.stderr.splitlines()
    assert said.startswith(
        "chat: Nobody answers. The batch ended early: 2 accepted, 1 not known, of 3 lines read. "
        'All of them carry "once": the same command can be repeated, and nothing is doubled. '
    )
    assert "othing was" not in said, "two messages are stored"
    assert "not sent" not in said


@pytest.mark.parametrize(("code", "exit_code"), [("unavailable", 5), ("not_logged_in", 4), ("busy", 5)])
def test_what_every_further_line_would_meet_ends_the_batch(
    chat: Chat, client: FakeClient, code: str, exit_code: int
) -> None:
    client.refuses = {1: RefusedError.of(code, "It can't be.")}
    result = chat("send", "--batch", "-", "--json", stdin=lines(GOOD, GOOD, GOOD))
    assert result.exit_code == exit_code
    assert len(client.sent) == 2
    assert [json.loads(line)["ok"] for line in result.stdout.splitlines()] == [True, False]
    assert "1 accepted, 1 failed, of 2 lines read" in result.stderr
    assert "othing was" not in result.stderr
    client.sent.clear()
    shown = chat("send", "--batch", "-", stdin=lines(GOOD, GOOD, GOOD)).stderr
    assert shown.count("It can't be") == 1 or code == "not_logged_in", "said once"


def unwritable(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise CantWrite(OSError(number, os.strerror(number)))

    monkeypatch.setattr("client_cli.output.Output.write", fails)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_results_that_cannot_be_written_end_it_with_a_statement_that_agrees_with_itself(
    chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch, number: int, form: tuple[str, ...]
) -> None:
    unwritable(number, monkeypatch)
    result = chat("send", "--batch", "-", *form, stdin=lines(GOOD, GOOD))
    assert result.exit_code == 1
    assert len(client.sent) == 1, "it stops"
    assert "The results could not be written" in result.stderr
    assert "1 accepted, of 1 line read." in result.stderr
    assert "othing was" not in result.stderr


def test_if_lines_failed_before_it_is_3(chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    unwritable(errno.ENOSPC, monkeypatch)
    result = chat("send", "--batch", "-", stdin=lines(b"?", GOOD))
    assert result.exit_code == 3
    assert "1 accepted, 1 failed, of 2 lines read." in result.stderr


def test_the_key_of_a_conflict_is_named(chat: Chat, client: FakeClient) -> None:
    client.refuses = {0: RefusedError.of("id_conflict", "This id was accepted before.")}
    result = chat("send", "--batch", "-", stdin=lines({"to": "bob", "body": "x", "once": "backup"}))
    assert result.exit_code == 3
    assert "Line 1: The --once key 'backup' was used before" in result.stderr


def test_no_lines_are_said_to_be_none(chat: Chat, client: FakeClient) -> None:
    result = chat("send", "--batch", "-", stdin=b"\n")
    assert (result.exit_code, result.output) == (0, "There were no lines: nothing was sent.\n")


def test_interrupted_it_says_what_is_accepted_and_whether_it_can_be_repeated(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = KeyboardInterrupt(), 1
    result = chat("send", "--batch", "-", stdin=lines(GOOD, GOOD, GOOD))
    assert result.exit_code == 130
    assert result.stderr.count("Interrupted") == 1
    assert "Interrupted: 1 accepted, 1 not known, of 2 lines read." in result.stderr
    assert "lines without it have a random id each" in result.stderr


def test_many_failures_are_not_all_told_to_people(chat: Chat, client: FakeClient) -> None:
    result = chat("send", "--batch", "-", stdin=b"?\n" * 1000)
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == batch.FAILURES_SHOWN_MAX + 2
    assert result.stderr.endswith("0 accepted, 1,000 failed.\n")


@pytest.mark.parametrize("more", [("bob",), ("-m", "x"), ("--once", "x")])
def test_a_batch_has_its_recipients_in_its_lines(chat: Chat, client: FakeClient, more: tuple[str, ...]) -> None:
    assert chat("send", "--batch", "-", *more, stdin=GOOD).exit_code == 2
    assert client.sent == []


def test_the_file_is_not_read_whole(chat: Chat, client: FakeClient) -> None:
    """Lines are taken as the server takes messages: never all of a file that doesn't fit into memory."""
    read: list[int] = []

    class Endless(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            read.append(1)
            return GOOD + b"\n"

    ledger = Ledger()
    outgoing = ledger.outgoing(Endless())
    next(outgoing)
    next(outgoing)
    assert len(read) == 2


@given(st.lists(st.sampled_from(["good", "broken", "refused"]), max_size=30), st.integers(1, 5))
def test_results_keep_the_order_of_the_lines_however_many_are_in_flight(fates: list[str], in_flight: int) -> None:
    """The library runs ahead of its outcomes; the ledger may not mix them up."""
    ledger = Ledger()
    file = io.BytesIO(b"".join(b"?\n" if fate == "broken" else GOOD + b"\n" for fate in fates))
    told: list[tuple[int, bool]] = []

    def outcomes() -> Iterator[Outcome]:
        ahead: list[Outgoing] = []
        index = 0
        for one in ledger.outgoing(file):
            ahead.append(one)
            if len(ahead) >= in_flight:
                yield outcome(index, ahead.pop(0))
                index += 1
        for one in ahead:
            yield outcome(index, one)
            index += 1

    whole = [fate for fate in fates if fate != "broken"]

    def outcome(index: int, one: Outgoing) -> Outcome:
        error = None if whole[index] == "good" else RefusedError.of("mailbox_full", "full")
        return Outcome(index=index, outgoing=one, id=one.id or b"", seq=1, stored_at_us=1, error=error)

    for one in outcomes():
        told += [(entry.number, False) for entry in ledger.broken()]
        entry = ledger.settle(one)
        assert entry.message_id == one.id
        told.append((entry.number, one.receipt is not None))
    told += [(entry.number, False) for entry in ledger.broken()]
    assert told == [(number, fate == "good") for number, fate in enumerate(fates, 1)]
    assert ledger.totals.waiting == 0
