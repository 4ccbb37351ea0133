"""The command as people and scripts use it: real processes, a real server, real pipes and signals."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from benchmarks.local_server import chat, isolated
from tests.e2e.server import Server, lives, wait_for

NAMES = (f"p{number:04}" for number in range(10_000))


@pytest.fixture
def alice(server: Server) -> str:
    """Somebody with an account and a profile."""
    return server.person(next(NAMES))


@pytest.fixture
def bob(server: Server) -> str:
    """Somebody else."""
    return server.person(next(NAMES))


def records(output: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def inbox(server: Server, name: str, *more: str) -> list[dict[str, object]]:
    done = server.chat("inbox", "--json", *more, profile=name)
    assert done.returncode == 0, done.stderr
    return records(done.stdout)


@contextlib.contextmanager
def running(server: Server, *arguments: str, profile: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that goes on; killed at the end if it still runs."""
    process = subprocess.Popen(
        chat("--profile", profile, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=server.env,
        cwd=server.folder,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def shell(server: Server, script: str) -> subprocess.CompletedProcess[bytes]:
    """A line as somebody types it."""
    return subprocess.run(["bash", "-c", script], env=server.env, cwd=server.folder, capture_output=True, check=False)


def stream(file: IO[bytes] | None) -> IO[bytes]:
    assert file is not None
    return file


class TestPeople:
    def test_a_message_travels_is_read_and_its_sender_knows(self, server: Server, alice: str, bob: str) -> None:
        sent = server.chat("send", bob, "lunch?", profile=alice)
        assert sent.returncode == 0, sent.stderr
        message_id = sent.stdout.decode().strip()
        assert server.chat("status", message_id, profile=alice).stdout.endswith(f"{bob}: stored\n".encode())

        shown = server.chat("inbox", profile=bob)
        assert shown.stdout.decode().startswith(f"{alice}  ")
        assert f"{message_id}\n  lunch?\n" in shown.stdout.decode()
        assert b": read" in server.chat("status", message_id, profile=alice).stdout
        assert server.chat("inbox", profile=bob).stdout == b""

    def test_what_was_marked_is_taken_back_and_marked_by_id(self, server: Server, alice: str, bob: str) -> None:
        ids = [server.chat("send", bob, text, profile=alice).stdout.decode().strip() for text in ("one", "two")]
        server.chat("inbox", profile=bob)
        assert server.chat("unread", "--last", profile=bob).returncode == 0
        assert [one["id"] for one in inbox(server, bob)] == ids
        assert server.chat("ack", ids[0], profile=bob).returncode == 0
        assert [one["id"] for one in inbox(server, bob)] == ids[1:]
        assert server.chat("ack", str(uuid.uuid4()), profile=bob).returncode == 1

    def test_a_terminal_is_not_driven_by_a_message(self, server: Server, alice: str, bob: str) -> None:
        server.chat("send", bob, "\x1b]0;owned\x07 \u202etxt", profile=alice)
        shown = server.chat("inbox", profile=bob).stdout
        assert b"\x1b" not in shown
        assert rb"\x1b]0;owned\x07 \u202etxt" in shown

    def test_passwords_tokens_and_who_is_still_in(self, server: Server, alice: str) -> None:
        elsewhere = f"{alice}-elsewhere"
        login = ("login", alice, "--password-file", "-")
        assert server.chat(*login, profile=elsewhere, stdin=b"wrong horse").returncode == 4
        assert server.chat(*login, profile=elsewhere, stdin=b"correct horse\n").returncode == 0
        assert server.chat("status", profile=elsewhere).returncode == 0
        change = ("passwd", "--old-password-file", "-", "--password-file", "-")
        assert server.chat(*change, profile=alice, stdin=b"correct horse\nbattery staple\n").returncode == 0
        assert server.chat("status", profile=alice).returncode == 0
        ended = server.chat("status", profile=elsewhere)
        assert ended.returncode == 4
        assert f"chat --profile {elsewhere} login NAME".encode() in ended.stderr
        assert server.chat("logout", profile=alice).returncode == 0
        assert server.chat("inbox", profile=alice).returncode == 4

    def test_a_name_is_given_once(self, server: Server, alice: str) -> None:
        again = server.chat("register", alice, "--password-file", "-", profile="x", stdin=b"correct horse")
        assert again.returncode == 1
        assert b"Choose another name" in again.stderr
        bad = server.chat("register", "No Name", "--password-file", "-", profile="x", stdin=b"correct horse")
        assert bad.returncode == 1

    def test_who_am_i_and_who_is_there(self, server: Server, alice: str) -> None:
        assert f"account  {alice}\n".encode() in server.chat("status", profile=alice).stdout
        assert server.chat("address").stdout.decode() == f"{server.address}\n"
        assert server.chat("health").returncode == 0
        assert len(server.chat("version").stdout.splitlines()) == 2


class TestScripts:
    def test_an_unknown_recipient_is_1_and_nobody_gets_it(self, server: Server, alice: str, bob: str) -> None:
        done = server.chat("send", f"{bob},nobody-at-all", "hi", profile=alice)
        assert done.returncode == 1
        assert b"nobody-at-all" in done.stderr
        assert inbox(server, bob) == []

    def test_the_same_key_is_one_message_and_with_other_content_none(
        self, server: Server, alice: str, bob: str
    ) -> None:
        first = server.chat("send", bob, "done", "--once", "backup", profile=alice)
        again = server.chat("send", bob, "done", "--once", "backup", profile=alice)
        other = server.chat("send", bob, "failed", "--once", "backup", profile=alice)
        assert (first.returncode, again.returncode, other.returncode) == (0, 0, 1)
        assert first.stdout == again.stdout
        assert [one["body"] for one in inbox(server, bob)] == ["done"]

    def test_a_loop_over_lines_sends_every_line(self, server: Server, alice: str, bob: str) -> None:
        """With a message given, stdin belongs to the loop."""
        command = " ".join(chat("--profile", alice, "send", bob))
        script = f'printf "a\\nb\\nc\\n" | while read line; do {command} "$line"; done'
        subprocess.run(["sh", "-c", script], env=server.env, cwd=server.folder, check=True, capture_output=True)
        assert [one["body"] for one in inbox(server, bob)] == ["a", "b", "c"]

    def test_bytes_arrive_as_they_were(self, server: Server, alice: str, bob: str) -> None:
        body = bytes(range(256))
        assert server.chat("send", bob, profile=alice, stdin=body).returncode == 0
        assert inbox(server, bob)[0]["content_type"] == "application/octet-stream"
        assert server.chat("inbox", "--raw", "--ack", profile=bob).stdout == body
        assert inbox(server, bob) == []

    def test_a_reader_who_goes_leaves_the_rest_unread(self, server: Server, alice: str, bob: str) -> None:
        """500 messages, a reader who takes 20 bytes: what he can't have read is there the next time."""
        line = json.dumps({"to": bob, "body": "x" * 1000}).encode()
        assert server.chat("send", "--batch", "-", profile=alice, stdin=(line + b"\n") * 500).returncode == 0
        with running(server, "inbox", profile=bob) as process:
            assert len(stream(process.stdout).read(20)) == 20
            stream(process.stdout).close()
            assert process.wait(30) == 1
            assert b"Traceback" not in stream(process.stderr).read()
        assert len(inbox(server, bob)) >= 400

    def test_into_a_file_everything_is_written_before_it_is_marked(
        self, server: Server, alice: str, bob: str, tmp_path: Path
    ) -> None:
        server.chat("send", bob, "kept", profile=alice)
        with (tmp_path / "out").open("wb") as out:
            done = subprocess.run(
                chat("--profile", bob, "inbox", "--json", "--ack"), stdout=out, env=server.env, check=False
            )
        assert done.returncode == 0
        assert records((tmp_path / "out").read_bytes())[0]["body"] == "kept"
        assert inbox(server, bob) == []

    def test_a_full_disk_marks_nothing(self, server: Server, alice: str, bob: str) -> None:
        server.chat("send", bob, "kept", profile=alice)
        with Path("/dev/full").open("wb") as out:
            done = subprocess.run(
                chat("--profile", bob, "inbox"), stdout=out, stderr=subprocess.PIPE, env=server.env, check=False
            )
        assert done.returncode == 1
        assert b"No space left" in done.stderr
        assert b"Nothing was marked read." in done.stderr
        assert len(inbox(server, bob)) == 1

    def test_a_follower_is_told_that_the_server_is_gone_and_back(self, own_server: Server) -> None:
        bob = own_server.person("bob")
        with running(own_server, "inbox", "--follow", "--json", "--limit", "2", profile=bob) as process:
            assert own_server.chat("send", bob, "before", profile=bob).returncode == 0
            assert json.loads(stream(process.stdout).readline())["body"] == "before"
            broker = own_server.pids()["broker"]
            own_server.kill("broker")
            own_server.restarted("broker", broker)
            assert b"is lost" in stream(process.stderr).readline()
            assert b"is back" in stream(process.stderr).readline()
            assert own_server.chat("send", bob, "after", profile=bob).returncode == 0
            assert json.loads(stream(process.stdout).readline())["body"] == "after"
            assert process.wait(30) == 0

    def test_following_shows_what_arrives_and_marks_it(self, server: Server, alice: str, bob: str) -> None:
        with running(server, "inbox", "--follow", "--json", "--ack", "--limit", "2", profile=bob) as process:
            for text in ("one", "two"):
                server.chat("send", bob, text, profile=alice)
                assert json.loads(stream(process.stdout).readline())["body"] == text
            assert process.wait(30) == 0
        assert inbox(server, bob) == []

    def test_a_message_that_was_sent_is_never_reported_as_unsent(self, server: Server, alice: str, bob: str) -> None:
        """Whatever becomes of the id: a full disk, a closed stream, a reader who is gone before it comes."""
        send = " ".join(chat("--profile", alice, "send", bob))
        for n, where in enumerate((">/dev/full", ">&-", "| true", "--json >/dev/full")):
            done = shell(server, f"set -o pipefail; {send} {n} {where}")
            assert done.returncode == 0, done.stderr
            told = re.search(rb"Sent, and stored; the id (\S+) could not be written: .+\.\n", done.stderr)
            # `true` may not be gone yet when the id comes
            assert told is not None or where == "| true", done.stderr
            if told is not None:
                assert server.chat("status", told[1].decode(), profile=alice).returncode == 0
        assert [one["body"] for one in inbox(server, bob)] == ["0", "1", "2", "3"]

    def test_a_closed_stdin_is_empty(self, server: Server, alice: str, bob: str) -> None:
        """`<&-`, as some supervisors start their jobs."""
        send = " ".join(chat("--profile", alice, "send", bob))
        assert shell(server, f"{send} <&-").returncode == 2
        assert shell(server, f"{send} kept <&-").returncode == 0
        assert [one["body"] for one in inbox(server, bob)] == ["kept"]

    def test_a_binary_message_comes_out_by_the_command_that_is_shown(
        self, server: Server, alice: str, bob: str
    ) -> None:
        server.chat("send", bob, "before", profile=alice)
        server.chat("send", bob, profile=alice, stdin=b"\xff\x00\n")
        shown = server.chat("inbox", profile=bob).stdout.decode()
        command = shown.partition("to get them out: chat --profile ")[2].partition(" >FILE")[0].split()
        assert command[0] == bob
        assert server.chat(*command[1:], profile=bob).stdout == b"\xff\x00\n"

    def test_having_waited_in_vain_is_6(self, server: Server, bob: str) -> None:
        assert server.chat("inbox", "--wait", "0.3", profile=bob).returncode == 6


class TestBatches:
    def test_a_broken_line_and_a_stranger_keep_nobody_else(self, server: Server, alice: str, bob: str) -> None:
        lines = [{"to": bob, "body": "1"}, "broken", {"to": "stranger", "body": "3"}, {"to": [bob, alice], "body": "4"}]
        data = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines).encode()
        done = server.chat("send", "--batch", "-", "--json", profile=alice, stdin=data)
        assert done.returncode == 3
        assert [(one["line"], one["ok"]) for one in records(done.stdout)] == [
            (1, True),
            (2, False),
            (3, False),
            (4, True),
        ]
        assert b"Line 2: Not JSON" in done.stderr
        assert b"Line 3: No account is named 'stranger'" in done.stderr
        assert [one["body"] for one in inbox(server, bob)] == ["1", "4"]

    def test_results_that_cannot_be_written_stop_it_and_what_is_stored_is_not_denied(
        self, server: Server, alice: str, bob: str, tmp_path: Path
    ) -> None:
        lines = [json.dumps({"to": bob, "body": f"{n}", "once": f"full-{n}"}) for n in range(3)]
        (tmp_path / "batch").write_text("\n".join(lines))
        send = " ".join(chat("--profile", alice, "send", "--batch", str(tmp_path / "batch")))
        for where in (">/dev/full", "--json >&-"):
            done = shell(server, f"{send} {where}")
            assert done.returncode == 1
            assert b"The results could not be written" in done.stderr
            assert b"the same command can be repeated" in done.stderr
            assert b"othing was" not in done.stderr
        again = server.chat("send", "--batch", str(tmp_path / "batch"), profile=alice)
        assert again.returncode == 0
        assert len(again.stdout.splitlines()) == 3
        assert [one["body"] for one in inbox(server, bob)] == ["0", "1", "2"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
    def test_cut_short_and_repeated_it_doubles_nothing(
        self, server: Server, alice: str, bob: str, number: signal.Signals
    ) -> None:
        lines = [json.dumps({"to": bob, "body": f"{n}", "once": f"{number}-{n}"}).encode() + b"\n" for n in range(3000)]
        with running(server, "send", "--batch", "-", "--json", profile=alice) as process:
            stream(process.stdin).writelines(lines[:2000])
            stream(process.stdin).flush()
            assert json.loads(stream(process.stdout).readline())["ok"], "some are accepted"
            process.send_signal(number)
            _, said = process.communicate()
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert b"accepted" in said
            assert b"the same command can be repeated, and nothing is doubled" in said
        again = server.chat("send", "--batch", "-", profile=alice, stdin=b"".join(lines))
        assert again.returncode == 0, again.stderr
        assert b"3,000 accepted (" in again.stderr
        assert [one["body"] for one in inbox(server, bob)] == [str(n) for n in range(3000)]


class TestTrouble:
    def test_an_unknown_outcome_is_5_and_the_command_on_stderr_finds_out(self, own_server: Server) -> None:
        """The store is stopped in the middle: nobody can say whether the message is stored; later somebody can."""
        alice, bob = own_server.person("alice"), own_server.person("bob")
        assert own_server.chat("send", bob, "warm", profile=alice).returncode == 0
        store = own_server.pids()["store"]
        os.kill(store, signal.SIGSTOP)
        try:
            done = own_server.chat("send", bob, "cold", "--timeout", "1.5", profile=alice)
        finally:
            os.kill(store, signal.SIGCONT)
        assert done.returncode == 5
        assert done.stdout == b""
        assert b"To find out: chat --profile alice status " in done.stderr
        command = done.stderr.decode().partition(" status ")[2][:36]
        assert uuid.UUID(command).version == 7

        def found() -> bool:
            return own_server.chat("status", command, profile=alice).returncode == 0

        wait_for(found, "the message is stored after all")
        assert [one["body"] for one in inbox(own_server, bob)] == ["warm", "cold"]

    def test_nobody_there_is_5(self, server: Server, alice: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        nowhere = server.address.replace(server.address.split(":")[2].split("/")[0], str(port))
        done = server.chat("--address", nowhere, "--timeout", "2", "health")
        assert done.returncode == 5
        assert b"cannot be reached" in done.stderr
        assert b"sent" not in done.stderr, "health sends nothing"

    def test_a_wrong_key_is_5_and_named_as_such_within_5_seconds(self, server: Server) -> None:
        other = uuid.uuid4().hex + "abcdefghijA"
        done = server.chat("--address", f"{server.address.rpartition('/')[0]}/{other}", "health", timeout_s=6)
        assert done.returncode == 5
        assert b"key" in done.stderr

    def test_a_dead_part_is_seen_and_comes_back(self, own_server: Server) -> None:
        old = own_server.kill("store")
        own_server.restarted("store", old)
        wait_for(lambda: own_server.chat("-q", "health").returncode == 0, "all parts answer again")


class TestServe:
    def test_it_ends_in_order_leaves_nobody_and_starts_again_on_the_same_data(self, own_server: Server) -> None:
        alice, address = own_server.person("alice"), own_server.address
        own_server.chat("send", alice, "to myself", profile=alice)
        pids = own_server.pids()
        assert pids.keys() == {"broker", "auth", "store"}
        assert own_server.stop() == 0
        assert not any(map(lives, pids.values()))
        assert own_server.chat("health").returncode == 2, "it is announced no more"
        assert own_server.start() == address
        assert [one["body"] for one in inbox(own_server, alice)] == ["to myself"]

    def test_ctrl_c_ends_it_with_0_and_the_log_says_so(self, tmp_path: Path) -> None:
        server = Server(tmp_path)
        server.start()
        assert server.stop(signal.SIGINT) == 0
        log = [json.loads(line) for line in server.log.read_text().splitlines()]
        told = [(one["event"], one.get("why") or one.get("child")) for one in log if one["service"] == "serve"]
        assert told[0] == ("stopping", "SIGINT")
        assert [child for event, child in told if event == "service stopped"] == ["broker", "auth", "store"]
        assert told[-1] == ("stopped", None)
        stopping = {one["service"]: one["why"] for one in log if one["event"] == "stopping"}
        assert stopping == {"serve": "SIGINT", "broker": "SIGTERM", "auth": "SIGTERM", "store": "SIGTERM"}

    def test_killed_outright_its_services_end_and_it_starts_again(self, own_server: Server) -> None:
        pids = own_server.pids()
        own_server.kill("serve")
        wait_for(lambda: not any(map(lives, pids.values())), "the services are gone")
        assert own_server.chat("health").returncode == 2, "what was killed is not taken for what runs"
        own_server.start()
        assert own_server.chat("health").returncode == 0

    def test_two_servers_do_not_share_their_data_nor_a_port(self, own_server: Server, tmp_path: Path) -> None:
        same_data = own_server.chat("serve", "--data", str(own_server.folder / "data"), "--listen", "127.0.0.1:0")
        assert same_data.returncode == 1
        assert b"is in use by the server with process id" in same_data.stderr
        port = own_server.address.rpartition("/")[0].rpartition(":")[2]
        env = isolated(tmp_path / "other")
        same_port = own_server.chat("serve", "--listen", f"127.0.0.1:{port}", "--log-level", "error", env=env)
        assert same_port.returncode == 1
        assert same_port.stdout == b""
        (said,) = same_port.stderr.splitlines()
        assert said.count(b"127.0.0.1:%d" % int(port)) == 1
        assert b"in use" in said

    def test_of_two_servers_the_newest_is_found_and_then_the_other_again(
        self, own_server: Server, tmp_path: Path
    ) -> None:
        (tmp_path / "second").mkdir()
        with Server(tmp_path / "second", env=own_server.env) as second:
            assert second.chat("address").stdout.decode() == f"{second.address}\n"
            assert "Another server runs on this machine" in second.log_end()
        assert own_server.chat("address").stdout.decode() == f"{own_server.address}\n"
        assert own_server.chat("health").returncode == 0

    def test_closed_registration_is_4(self, tmp_path: Path) -> None:
        with Server(tmp_path, options=["--registration", "closed"]) as server:
            done = server.chat("register", "alice", "--password-file", "-", stdin=b"correct horse")
        assert done.returncode == 4
        assert b"Ask whoever runs the server" in done.stderr

    def test_the_address_is_where_others_look_for_it(self, server: Server) -> None:
        assert (server.folder / "data" / "address").read_text() == f"{server.address}\n"
        assert (server.folder / "data" / "keys" / "broker" / "self.key").stat().st_mode & 0o077 == 0
