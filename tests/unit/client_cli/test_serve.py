"""`chat serve`: what it makes of its arguments. That it serves is a matter for tests with real processes."""

import socket
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from client_cli.commands import serve
from client_cli.main import cli
from client_cli.options import Options
from restante.local import find_local
from restante.wire.address import Announcement, parse_address
from runtime.supervisor import Supervisor, take_lock


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:5570", "127.0.0.1", 5570),
        ("127.0.0.1", "127.0.0.1", 9),
        ("localhost:0", "127.0.0.1", 0),
        (":7", "*", 7),
        ("[::1]:7", "[::1]", 7),
        ("[::1]", "[::1]", 9),
        ("chat.example.org", "chat.example.org", 9),
    ],
)
def test_places(text: str, host: str, port: int) -> None:
    assert serve.place_of(text, port=9) == serve.Place(host=host, port=port)


@pytest.mark.parametrize("text", ["127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:", "::1:7", "a:b:7", "host:-1"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        serve.place_of(text, port=9)


@pytest.mark.parametrize(
    ("text", "local", "everywhere"),
    [
        ("127.0.0.1:1", True, False),
        ("127.9.9.9:1", True, False),
        ("[::1]:1", True, False),
        ("localhost", True, False),
        ("0.0.0.0:1", False, True),
        ("*:1", False, True),
        ("[::]:1", False, True),
        ("192.0.2.1:1", False, False),
        ("eth0:1", False, False),
    ],
)
def test_who_can_reach_a_place(text: str, local: bool, everywhere: bool) -> None:
    place = serve.place_of(text, port=1)
    assert (place.local, place.everywhere) == (local, everywhere)


def server(tmp_path: Path, **given: object) -> serve.Server:
    told: dict[str, object] = {"told": None, "registration": "open", "log_level": "info", **given}
    return serve.Server(Options(), tmp_path, serve.place_of("127.0.0.1:0", port=0), **told)  # type: ignore[arg-type]


def test_each_service_gets_its_own_folder_and_keys(tmp_path: Path) -> None:
    children = {child.name: list(child.argv) for child in server(tmp_path)._children(tmp_path / "run")}
    assert {name: argv[1:4] for name, argv in children.items()} == {
        "store": ["-P", "-m", "store_worker"],
        "auth": ["-P", "-m", "auth_service"],
        "broker": ["-P", "-m", "broker"],
    }
    for name, argv in children.items():
        assert f"--keys={tmp_path}/keys/{name}" in argv
        assert f"--data={tmp_path}/{name}" in argv
    assert f"--store=ipc://{tmp_path}/run/store.sock" in children["broker"]
    assert f"--listen=ipc://{tmp_path}/run/store.sock" in children["store"]
    assert f"--broker=ipc://{tmp_path}/run/confirms.sock" in children["store"]
    assert f"--broker=ipc://{tmp_path}/run/workers.sock" in children["auth"]


def test_what_others_are_told_goes_to_the_broker(tmp_path: Path) -> None:
    told = server(tmp_path, told=serve.Place(host="chat.example.org", port=0), registration="closed")
    argv = list(told._children(tmp_path)[-1].argv)
    assert "--advertise=chat.example.org" in argv
    assert "--registration=closed" in argv


def test_a_restarted_broker_gets_the_port_that_the_first_one_got(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the address is told once: clients know no other."""
    one = server(tmp_path)
    assert one._args_for("broker") == ["--listen=tcp://127.0.0.1:0"]
    address = "chat://127.0.0.1:4321/" + "A" * 43
    one._on_note("broker", {"ready": False})
    assert one._args_for("broker") == ["--listen=tcp://127.0.0.1:0"]
    for _ in range(2):
        one._on_note("broker", {"ready": True, "endpoint": "tcp://127.0.0.1:4321", "address": address})
    assert one._args_for("broker") == ["--listen=tcp://127.0.0.1:4321"]
    assert one._args_for("store") == []
    assert capsys.readouterr().out == f"{address}\n"
    assert (tmp_path / "address").read_text() == f"{address}\n"
    assert find_local() == Announcement(here=parse_address(address), public=parse_address(address))
    one._withdraw()
    assert not (tmp_path / "address").exists()
    assert find_local() is None


def test_a_second_server_says_which_one_is_found_now(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = "chat://127.0.0.1:4321/" + "A" * 43, "chat://127.0.0.1:4322/" + "B" * 42 + "A"
    servers = [server(tmp_path / name) for name in ("a", "b")]
    for one, address in zip(servers, (first, second), strict=True):
        one._on_note("broker", {"ready": True, "endpoint": address.rpartition("/")[0], "address": address})
    said = capsys.readouterr().err
    assert "Another server runs on this machine, at 127.0.0.1:4321." in said
    assert "now finds this one, at 127.0.0.1:4322." in said
    servers[1]._withdraw()
    found = find_local()
    assert found is not None
    assert str(found.here) == first


def test_clients_here_are_not_sent_the_way_that_others_go(tmp_path: Path, home: Path) -> None:
    one = serve.Server(Options(), tmp_path, serve.place_of("0.0.0.0:4321", port=0), None, "closed", "info")
    public = "chat://chat.example.org:7/" + "A" * 43
    one._on_note("broker", {"ready": True, "endpoint": "tcp://0.0.0.0:4321", "address": public})
    here = public.replace("chat.example.org:7", "127.0.0.1:4321")
    assert find_local() == Announcement(here=parse_address(here), public=parse_address(public))


def test_sockets_lie_in_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "DIRECTORY_BYTES_MAX", 1000)
    monkeypatch.setattr(serve, "private_ipc_dir", lambda path: path)
    with serve._sockets(tmp_path) as run:
        assert run == tmp_path / "run"


def test_where_the_datas_path_is_too_long_sockets_lie_in_a_short_one_which_is_removed(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 80)
    with serve._sockets(long) as run:
        assert run.stat().st_mode & 0o777 == 0o700
        assert long not in run.parents
    assert not run.exists()


def test_a_data_directory_in_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LOCK_WAIT_S", 0.0)
    lock = take_lock(tmp_path / "lock")
    result = CliRunner().invoke(cli, ["serve", "--data", str(tmp_path), "--listen", "127.0.0.1:0"], prog_name="chat")
    assert result.exit_code == 1
    assert "is in use by the server" in result.stderr
    assert "what is stored is untouched" in result.stderr
    assert lock


def serving(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["serve", *arguments], prog_name="chat")


def test_a_data_directory_that_cannot_be_made_is_told_with_what_helps(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for data in (tmp_path / "file", tmp_path / "file" / "data"):
        result = serving("--data", str(data), "--listen", "127.0.0.1:0")
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith(f"chat: Can't use {data}: Not a directory")
        assert "Give the path of a directory" in result.stderr
        assert "writ" not in result.stderr, "rights are not what is missing"


def test_a_port_in_use_is_told_once_and_nothing_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        result = serving("--data", str(tmp_path / "data"), "--listen", place)
    assert result.exit_code == 1
    assert result.stderr.count(place) == 1
    assert "in use" in result.stderr
    assert "--listen" in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("place", "advice"), [("192.0.2.1:5570", "0.0.0.0"), ("[2001:db8::1]:5570", "0.0.0.0")])
def test_an_address_that_is_not_ours_is_told(tmp_path: Path, place: str, advice: str) -> None:
    result = serving("--data", str(tmp_path / "data"), "--listen", place)
    assert result.exit_code == 1
    assert f"Can't listen on {place}: " in result.stderr
    assert advice in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_service_that_cannot_start_is_named_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Supervisor) -> int:
        self.unable = "store"
        return 1

    monkeypatch.setattr(Supervisor, "run", run)
    result = serving("--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
    assert result.exit_code == 1
    assert "The store could not start, for the reason that it gives above." in result.stderr


def test_a_place_of_an_interface_is_left_to_the_broker() -> None:
    serve.check_place(serve.Place(host="eth0", port=5570))
