"""`chat inbox`: what was written may be marked, and nothing else (RULES 24)."""

import errno
import json
import os
import sys
import uuid
from pathlib import Path

import pytest

from client_cli.commands import inbox
from client_cli.output import CantWrite, Output
from restante.profiles import Profile, save
from tests.unit.client_cli.conftest import Chat
from tests.unit.client_cli.fake import OTHER_ADDRESS, FakeClient, message


def test_people_see_what_is_unread_and_it_is_marked(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(1, b"one"), message(2, b"two", state="read"), message(3, b"three")]
    result = chat("inbox")
    assert result.exit_code == 0
    assert result.stdout.index("  one\n") < result.stdout.index("  three\n")
    assert "two" not in result.stdout
    assert client.acked == [([1, 3], True)]
    assert "2 messages marked read; to take that back: chat unread --last" in result.stderr
    assert "to take that back: chat --profile default unread --last" in chat("--profile", "default", "inbox").stderr


def test_an_empty_inbox_is_0_and_has_no_data(chat: Chat) -> None:
    result = chat("inbox")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Nothing unread.\n")


def test_having_waited_in_vain_is_6(chat: Chat, client: FakeClient) -> None:
    assert chat("inbox", "--wait", "0.1").exit_code == 6
    assert (client.asked["follow"], client.asked["wait_s"]) == (True, 0.1)
    assert chat("inbox", "--follow", "--wait", "0.1").exit_code == 6
    client.mailbox = [message(1)]
    assert chat("inbox", "--wait", "0.1").exit_code == 0
    assert client.asked["follow"] is False, "something was there: nobody needs to wait"
    assert chat("inbox", "--follow", "--wait", "0.1").exit_code == 0


def test_who_waits_gets_the_first_to_come(chat: Chat, client: FakeClient) -> None:
    client.arriving = [message(1, b"first"), message(2, b"second")]
    result = chat("inbox", "--wait", "9")
    assert result.exit_code == 0
    assert "first" in result.stdout
    assert "second" not in result.stdout
    assert client.acked == [([1], True)]


def test_peek_marks_nothing_not_even_delivered(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(1)]
    chat("inbox", "--peek")
    assert client.acked == []
    assert client.asked["peek"] is True


@pytest.mark.parametrize("form", [("--json",), ("--raw",), ("--format", "{body}")])
def test_programs_mark_only_what_they_say(chat: Chat, client: FakeClient, form: tuple[str, ...]) -> None:
    client.mailbox = [message(1)]
    assert chat("inbox", *form).exit_code == 0
    assert client.acked == []
    assert chat("inbox", *form, "--ack").exit_code == 0
    assert client.acked == [([1], True)]


def test_options_reach_the_library(chat: Chat, client: FakeClient) -> None:
    chat("inbox", "--all", "--from", "eve", "--limit", "7", "--follow")
    assert client.asked == {
        "unread": False,
        "sender": "eve",
        "limit": 7,
        "follow": True,
        "peek": False,
        "wait_s": None,
    }


def test_all_shows_what_was_read_and_marks_only_the_rest(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(1, state="read"), message(2, state="delivered")]
    result = chat("inbox", "--all")
    assert ", read  " in result.stdout
    assert client.acked == [([2], True)]


def test_json_is_an_object_a_line(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(1, b"a\nb"), message(2, b"\xff", content_type="application/octet-stream")]
    first, second = (json.loads(line) for line in chat("inbox", "--json").stdout.splitlines())
    assert first["body"] == "a\nb"
    assert second["body_base64"] == "/w=="


def test_raw_is_the_contents_byte_for_byte(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(1, b"\x1b\xff\n"), message(2, b"end")]
    assert chat("inbox", "--raw").stdout_bytes == b"\x1b\xff\nend"


def test_a_format_names_fields(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(1, b"x{seq}", to=["bob", "eve"])]
    result = chat("inbox", "--format", r"{from}>{to}\t{body} {seq}{reply_to}")
    assert result.stdout == "alice>bob,eve\tx{seq} 1\n"
    assert chat("inbox", "--format", "{nonsense}").exit_code == 2
    assert chat("inbox", "--format", "{from.__class__}").stdout == "{from.__class__}\n"


def test_a_sender_can_forge_no_line_and_no_column_of_a_format(chat: Chat, client: FakeClient) -> None:
    """Into a pipe too: what reads it takes a line for a message."""
    client.mailbox = [message(1, b"hi\nroot\tpay up\x1b[2J\r\xe2\x80\xae")]
    shown = chat("inbox", "--format", r"{from}\t{body}").stdout
    assert shown == "alice\thi\\nroot\\tpay up\\x1b[2J\\r\\u202e\n"


def test_what_cannot_be_shown_comes_with_the_command_that_gets_it_out(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(1), message(2, b"\xff\x00", content_type="image/png"), message(3)]
    hint = chat("inbox").stdout.partition("to get them out: chat ")[2].partition(" >FILE)")[0].split()
    client.mailbox[1].state = "read"
    client.acked.clear()
    result = chat(*hint)
    assert (result.exit_code, result.stdout_bytes) == (0, b"\xff\x00"), hint
    assert client.acked == []
    assert client.asked["peek"], "the others aren't marked delivered by it"


def test_one_message_is_shown_by_id_or_seq_and_marked_as_ever(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(1, b"one"), message(2, b"two"), message(7, b"seven", state="read")]
    for name in ("2", str(uuid.UUID(int=2))):
        client.acked.clear()
        assert "  two\n" in chat("inbox", "--id", name).stdout
        assert client.acked == [([2], True)]
    client.acked.clear()
    assert "  seven\n" in chat("inbox", "--id", "7").stdout
    assert "  one\n" in chat("inbox", "--id", "1", "--peek").stdout
    assert client.acked == []


@pytest.mark.parametrize("name", ["3", str(uuid.UUID(int=9))])
def test_a_message_that_is_not_there_is_1(chat: Chat, client: FakeClient, name: str) -> None:
    client.mailbox = [message(1), message(7)]
    result = chat("inbox", "--id", name)
    assert (result.exit_code, result.stderr) == (1, f"chat: This mailbox holds no message {name}.\n")


@pytest.mark.parametrize("more", [("--from", "eve"), ("-f",), ("--wait", "1"), ("--limit", "2")])
def test_one_message_and_a_choice_of_many_is_2(chat: Chat, more: tuple[str, ...]) -> None:
    assert chat("inbox", "--id", "1", *more).exit_code == 2
    assert chat("inbox", "--id", "nonsense").exit_code == 2


@pytest.mark.parametrize("more", [(), ("--follow",), ("--wait", "1")])
def test_a_sender_who_is_nobody_is_1(chat: Chat, client: FakeClient, more: tuple[str, ...]) -> None:
    result = chat("inbox", "--from", "ev", *more)
    assert (result.exit_code, result.stderr) == (1, "chat: No account is named 'ev'. Check the name.\n")


def test_a_sender_of_whom_something_is_there_is_not_asked_for(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(1)]
    assert chat("inbox", "--from", "gone").exit_code == 0
    assert ("lookup", "gone") not in client.calls


def test_a_follower_is_told_once_that_the_server_is_lost_and_once_that_it_is_back(
    chat: Chat, client: FakeClient
) -> None:
    client.connections = [True, False, True]
    lost, back = chat("inbox", "--follow").stderr.splitlines()[:2]
    assert "is lost" in lost
    assert "is back" in back
    assert chat("-q", "inbox", "--follow").stderr == ""


@pytest.mark.parametrize(
    "two",
    [("--peek", "--ack"), ("--peek", "-f"), ("--peek", "--wait=1"), ("--json", "--raw"), ("--raw", "--format", "x")],
)
def test_what_contradicts_itself_is_2(chat: Chat, two: tuple[str, ...]) -> None:
    assert chat("inbox", *two).exit_code == 2


def test_marks_go_in_bounded_lots(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(seq) for seq in range(1, 251)]
    chat("inbox")
    assert [len(marks) for marks, _ in client.acked] == [100, 100, 50]


def test_a_follower_marks_each_at_once(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(1), message(2)]
    chat("inbox", "--follow")
    assert client.acked == [([1], True), ([2], True)]


class Pipe(Output):
    """A reader who takes some messages and goes."""

    def __init__(self, takes: int, settles: bool = True, number: int = errno.EPIPE) -> None:
        self.takes = takes
        self.settles = settles
        self.number = number

    def write(self, data: str | bytes) -> None:
        if not self.takes:
            raise CantWrite(OSError(self.number, os.strerror(self.number)))
        self.takes -= 1

    def settle(self) -> None:
        if not self.settles:
            raise CantWrite(OSError(errno.EIO, "Input/output error"))


def test_when_nobody_reads_any_more_nothing_is_marked_and_it_is_not_0(
    chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.mailbox = [message(seq) for seq in range(1, 251)]
    monkeypatch.setattr(inbox, "Output", lambda: Pipe(150))
    result = chat("inbox")
    assert result.exit_code == 1
    assert client.acked == [([*range(1, 101)], True)], "the 50 after the last mark stay unread"
    assert "100 messages shown before that were marked read, and no other." in result.stderr


def test_a_full_disk_marks_nothing_and_says_so(chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.mailbox = [message(1)]
    monkeypatch.setattr(inbox, "Output", lambda: Pipe(0, number=errno.ENOSPC))
    for form in ((), ("--json",)):
        result = chat("inbox", *form)
        assert result.exit_code == 1
        assert "The output could not be written: No space left on device." in result.stderr
        assert "Nothing was marked read." in result.stderr
    assert client.acked == []


def test_a_program_that_has_read_enough_needs_not_be_told(
    chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`chat inbox --json | head -1`"""
    client.mailbox = [message(1), message(2)]
    monkeypatch.setattr(inbox, "Output", lambda: Pipe(1))
    result = chat("inbox", "--json")
    assert (result.exit_code, result.stderr) == (1, "")


def test_what_could_not_be_synced_is_not_marked(
    chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.mailbox = [message(1)]
    monkeypatch.setattr(inbox, "Output", lambda: Pipe(10, settles=False))
    result = chat("inbox")
    assert result.exit_code == 1
    assert "Input/output error" in result.stderr
    assert client.acked == []


def test_into_a_regular_file_it_is_synced_before_it_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: happened.append("synced"))
    with (tmp_path / "out").open("wb") as file:
        output = Output(file)
        output.write("data")
        assert (tmp_path / "out").read_bytes() == b"data", "written is flushed"
        output.settle()
    assert happened == ["synced"]


def test_a_pipe_is_not_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("a pipe can't be synced"))
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb") as file:
        Output(file).settle()


def test_a_closed_stdout_is_an_error(chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(CantWrite, match="closed"):
        Output().write("data")


def test_unread_last_takes_back_what_was_marked(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(seq) for seq in range(1, 151)]
    chat("inbox")
    client.acked.clear()
    result = chat("unread", "--last")
    assert result.exit_code == 0
    assert client.acked == [([*range(1, 151)], False)]


def test_last_is_the_last_time_only_and_an_empty_inbox_forgets_nothing(chat: Chat, client: FakeClient) -> None:
    client.mailbox = [message(1)]
    chat("inbox")
    client.mailbox = [message(2)]
    chat("inbox")
    client.mailbox = []
    chat("inbox")
    client.acked.clear()
    chat("unread", "--last")
    assert client.acked == [([2], False)]


def test_another_servers_marks_are_not_taken_back(chat: Chat, client: FakeClient, logged_in: Profile) -> None:
    client.mailbox = [message(1)]
    chat("inbox")
    client.acked.clear()
    save(Profile(address=OTHER_ADDRESS, account=7, name="alice", token=logged_in.token))
    result = chat("unread", "--last")
    assert result.exit_code == 0
    assert "Nothing was marked" in result.stderr
    assert client.acked == []


def test_a_home_that_cannot_be_written_does_not_keep_one_from_reading(
    chat: Chat, client: FakeClient, home: Path
) -> None:
    (home / "state").write_text("a file where a folder should be")
    client.mailbox = [message(1)]
    result = chat("inbox")
    assert result.exit_code == 0
    assert client.acked == [([1], True)]
    assert "will not know of this" in result.stderr
