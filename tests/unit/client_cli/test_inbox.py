"""`chat inbox`: what was written may be marked, and nothing else (RULES 24)."""

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from client_cli.commands import inbox
from client_cli.output import Output
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
    assert "2 messages marked read" in result.stderr


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

    def __init__(self, takes: int, settles: bool = True) -> None:
        self.takes = takes
        self.settles = settles

    def write(self, data: str | bytes) -> None:
        if not self.takes:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        self.takes -= 1

    def settle(self) -> None:
        if not self.settles:
            raise OSError(errno.EIO, "Input/output error")


def test_when_nobody_reads_any_more_nothing_is_marked_and_it_is_not_0(
    chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.mailbox = [message(seq) for seq in range(1, 251)]
    monkeypatch.setattr(inbox, "Output", lambda: Pipe(150))
    assert chat("inbox").exit_code == 1
    assert client.acked == [([*range(1, 101)], True)], "the 50 after the last mark stay unread"


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
    with pytest.raises(OSError, match="closed"):
        Output()


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
