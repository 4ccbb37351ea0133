"""`chat ack`, `chat unread`, `chat status`."""

import json
import uuid

import pytest

from restante.wire.envelopes import Acked
from tests.unit.client_cli.conftest import Chat
from tests.unit.client_cli.fake import ADDRESS, FakeClient

ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.mark.parametrize(("command", "read"), [("ack", True), ("unread", False)])
def test_messages_are_named_by_id_or_seq(chat: Chat, client: FakeClient, command: str, read: bool) -> None:
    result = chat(command, str(ONE), "17", TWO.hex)
    assert result.exit_code == 0
    assert client.acked == [([ONE.bytes, 17, TWO.bytes], read)]
    assert result.stderr == f"3 messages marked {'read' if read else 'unread'}.\n"


def test_a_dash_reads_them_from_stdin(chat: Chat, client: FakeClient) -> None:
    chat("ack", "-", stdin=f"{ONE}\n\n17\n")
    assert client.acked == [([ONE.bytes, 17], True)]


@pytest.mark.parametrize("arguments", [("ack",), ("ack", "nonsense"), ("unread",), ("unread", "--last", "17")])
def test_wrong_usage_is_2_and_marks_nothing(chat: Chat, client: FakeClient, arguments: tuple[str, ...]) -> None:
    assert chat(*arguments).exit_code == 2
    assert client.acked == []


@pytest.mark.parametrize(("unknown", "exit_code"), [({17}, 3), ({17, 18}, 1), (set(), 0)])
def test_what_the_mailbox_does_not_hold_is_told(
    chat: Chat, client: FakeClient, unknown: set[int | bytes], exit_code: int
) -> None:
    client.unknown = unknown
    result = chat("ack", "17", "18", "--json")
    assert result.exit_code == exit_code
    assert json.loads(result.stdout)["unknown"] == [str(one) for one in sorted(unknown)]
    assert result.stderr.count("This mailbox holds no message") == len(unknown)


@pytest.mark.parametrize(("marks", "said"), [(("17",), "1 was so before"), (("17", "18"), "2 were so before")])
def test_what_was_so_before_is_told_in_the_right_number(
    chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch, marks: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(client, "ack", lambda marks, read: Acked(id=1, changed=0))
    assert chat("ack", *marks).stderr == f"0 messages marked read, {said}.\n"


def test_an_ack_too_can_be_taken_back(chat: Chat, client: FakeClient) -> None:
    chat("ack", "17", str(ONE))
    client.acked.clear()
    chat("unread", "--last")
    assert client.acked == [([17, ONE.bytes], False)]


def test_status_says_who_and_where_and_how_much(chat: Chat) -> None:
    assert chat("status").stdout == f"account  alice\nserver   {ADDRESS}\nunread   3 of 1,234 messages\n"
    assert json.loads(chat("status", "--json").stdout) == {
        "account": 7,
        "name": "alice",
        "server": ADDRESS,
        "unread": 3,
        "total": 1234,
    }


def test_status_of_a_message_says_how_far_it_came(chat: Chat) -> None:
    shown = chat("status", str(ONE))
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"{ONE}  stored ")
    assert "\n  bob: read " in shown.stdout
    told = json.loads(chat("status", str(ONE), "--json").stdout)
    assert told["recipients"] == [{"name": "bob", "state": "read", "state_at": "2026-09-21T14:13:20.123456Z"}]


@pytest.mark.parametrize(("asked", "exit_code"), [([TWO], 1), ([ONE, TWO], 3)])
def test_status_of_what_was_never_sent_is_not_0(
    chat: Chat, client: FakeClient, asked: list[uuid.UUID], exit_code: int
) -> None:
    client.unknown = {TWO.bytes}
    result = chat("status", *map(str, asked))
    assert result.exit_code == exit_code
    assert result.stderr == f"chat: This account has sent no message with the id {TWO}.\n", "it may be somebody else's"


def test_status_of_nonsense_is_2(chat: Chat) -> None:
    assert chat("status", "nonsense").exit_code == 2
