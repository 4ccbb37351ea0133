"""`chat send`, and the traps that were tried."""

import errno
import json
import uuid

import pytest

from client_cli.commands import send
from client_cli.options import Options
from client_cli.output import CantWrite
from restante.wire.errors import IdConflict, OutcomeUnknown
from restante.wire.limits import MESSAGE_BYTES_MAX
from tests.unit.client_cli.conftest import Chat
from tests.unit.client_cli.fake import FakeClient


def test_it_prints_the_id_of_what_was_sent(chat: Chat, client: FakeClient) -> None:
    result = chat("send", "bob", "lunch?")
    assert result.exit_code == 0
    sent = client.sent[0]
    assert (sent.to, sent.body, sent.content_type) == (["bob"], b"lunch?", None)
    assert result.stdout == f"{uuid.UUID(bytes=sent.id)}\n"
    assert result.stderr == ""


def test_a_list_of_recipients_is_one_argument_each_name_once(chat: Chat, client: FakeClient) -> None:
    chat("send", "bob, eve,bob", "hi")
    assert client.sent[0].to == ["bob", "eve"]


@pytest.mark.parametrize("to", ["", ",", "bob,,eve", "bob,"])
def test_an_empty_name_is_2(chat: Chat, client: FakeClient, to: str) -> None:
    assert chat("send", to, "hi").exit_code == 2
    assert client.sent == []


def test_more_words_are_2_with_the_corrected_command(chat: Chat, client: FakeClient) -> None:
    result = chat("send", "bob", "hello", "big world")
    assert result.exit_code == 2
    assert "  chat send bob 'hello big world'\n" in result.stderr
    assert "  chat send bob,hello 'big world'\n" in result.stderr
    assert (
        "  chat --profile work send bob 'hello big" in chat("--profile", "work", "send", "bob", "hello", "big").stderr
    )
    assert client.sent == []


def test_without_a_message_stdin_is_read_to_its_end_byte_for_byte(chat: Chat, client: FakeClient) -> None:
    chat("send", "bob", stdin=b"one\ntwo\n")
    assert client.sent[0].body == b"one\ntwo\n"


def test_with_a_message_stdin_is_not_touched(chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    class Untouchable:
        @property
        def buffer(self) -> object:
            raise AssertionError("stdin was read")

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stdin", Untouchable())
    send._content(Options(), "given")
    with pytest.raises(AssertionError):
        send._content(Options(), None)


def test_m_is_for_a_message_with_a_dash(chat: Chat, client: FakeClient) -> None:
    assert chat("send", "bob", "-m", "-1 degrees").exit_code == 0
    assert client.sent[0].body == b"-1 degrees"
    result = chat("send", "bob", "-1 degrees")
    assert result.exit_code == 2
    assert "-m" in result.stderr


def test_a_message_given_twice_is_2(chat: Chat, client: FakeClient) -> None:
    assert chat("send", "bob", "hi", "-m", "hi").exit_code == 2
    assert client.sent == []


@pytest.mark.parametrize("arguments", [("send", "bob", ""), ("send", "bob"), ("send", "bob", "-m", "")])
def test_empty_is_2_and_with_skip_empty_0(chat: Chat, client: FakeClient, arguments: tuple[str, ...]) -> None:
    assert chat(*arguments).exit_code == 2
    result = chat(*arguments, "--skip-empty")
    assert (result.exit_code, result.stdout) == (0, "")
    assert client.sent == []


def test_what_is_not_utf_8_goes_as_bytes(chat: Chat, client: FakeClient) -> None:
    assert chat("send", "bob", stdin="Störung".encode("latin-1")).exit_code == 0
    assert client.sent[0].body == b"St\xf6rung"
    assert client.sent[0].content_type == "application/octet-stream"


def test_too_much_on_stdin_is_refused_before_it_is_sent(chat: Chat, client: FakeClient) -> None:
    assert chat("send", "bob", stdin=b"x" * (MESSAGE_BYTES_MAX + 1)).exit_code == 1
    assert client.sent == []
    assert chat("send", "bob", stdin=b"x" * MESSAGE_BYTES_MAX).exit_code == 0


def test_once_goes_to_the_library_and_is_checked_here(chat: Chat, client: FakeClient) -> None:
    assert chat("send", "bob", "hi", "--once", "backup").exit_code == 0
    assert (client.sent[0].once, client.sent[0].id) == ("backup", None)
    for wrong in ("", "x" * 201):
        assert chat("send", "bob", "hi", "--once", wrong).exit_code == 2
    assert len(client.sent) == 1


def test_the_same_key_with_other_content_is_1(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = IdConflict("This key was used before with other content."), 0
    result = chat("send", "bob", "hi", "--once", "k")
    assert result.exit_code == 1
    assert "The --once key 'k' was used before" in result.stderr
    assert "The first message stands" in result.stderr


@pytest.mark.parametrize("reply_to", ["nonsense", "123"])
def test_an_answer_names_an_id(chat: Chat, client: FakeClient, reply_to: str) -> None:
    assert chat("send", "bob", "hi", "--reply-to", reply_to).exit_code == 2
    one = uuid.UUID(int=5)
    assert chat("send", "bob", "hi", "--reply-to", str(one), "--content-type", "text/markdown").exit_code == 0
    assert (client.sent[0].reply_to, client.sent[0].content_type) == (one.bytes, "text/markdown")


def test_an_unknown_outcome_is_5_with_the_id_and_the_command_that_finds_out(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = OutcomeUnknown("No answer came within 30 s."), 0
    result = chat("send", "bob", "hi")
    assert result.exit_code == 5
    assert result.stdout == ""
    assert result.stderr.count("not known") + result.stderr.count("may or may not") == 1
    found = result.stderr.partition("chat status ")[2][:36]
    assert uuid.UUID(found).version == 7
    assert f"--once {found}" in result.stderr


def test_with_a_key_of_ones_own_the_same_command_finds_out(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = OutcomeUnknown("No answer came.", message_id=uuid.UUID(int=9).bytes), 0
    result = chat("send", "bob", "hi", "--once", "mine")
    assert result.exit_code == 5
    assert f"chat status {uuid.UUID(int=9)}" in result.stderr
    assert "repeating the command is safe" in result.stderr


def test_an_interrupted_send_says_which_message_it_was(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = KeyboardInterrupt(), 0
    result = chat("send", "bob", "hi")
    assert result.exit_code == 130
    assert "chat status " in result.stderr


def test_json_and_quiet(chat: Chat, client: FakeClient) -> None:
    told = json.loads(chat("send", "bob", "hi", "--json").stdout)
    assert told == {
        "id": str(uuid.UUID(bytes=client.sent[0].id)),
        "seq": 1,
        "stored_at": "2026-09-21T14:13:20.123456Z",
        "again": False,
    }
    assert chat("send", "bob", "hi", "-q").output == ""


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EBADF])
def test_a_message_that_was_sent_is_never_reported_as_unsent(
    chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch, number: int, form: tuple[str, ...]
) -> None:
    def full(*_: object) -> None:
        raise CantWrite(OSError(number, "No space left on device"))

    monkeypatch.setattr("client_cli.output.Output.write", full)
    result = chat("send", "bob", "hi", *form)
    assert result.exit_code == 0, "a script that took it for a failure would send it twice"
    message_id = uuid.UUID(bytes=client.sent[0].id)
    why = "its reader is gone" if number == errno.EPIPE else "No space left on device"
    assert result.stderr == f"Sent, and stored; the id {message_id} could not be written: {why}.\n"


def test_nobody_to_type_a_message_is_2(chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client_cli.commands.send.is_terminal", lambda _: True)
    assert chat("send", "bob", "--no-input").exit_code == 2
    result = chat("send", "bob", stdin=b"typed\n")
    assert (result.exit_code, client.sent[0].body) == (0, b"typed\n")
    assert "Ctrl-D" in result.stderr
