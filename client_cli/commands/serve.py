"""`chat serve`: the embedded server, three services as supervised processes over one data directory.

What lies where in it stands in `client_cli.datadir`.

The first line on stdout is the address, and comes when broker, authentication and store are ready.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click
import msgspec

from client_cli import datadir, exits
from client_cli.options import ChatCommand, Options, options_of
from client_cli.output import Output
from restante.files import write_private
from restante.wire.address import Address, parse_address
from restante.wire.limits import PORT_DEFAULT
from runtime import keys, logging
from runtime.errors import SetupError, cant_use
from runtime.ipc import DIRECTORY_BYTES_MAX, private_ipc_dir
from runtime.supervisor import ChildSpec, Supervisor, take_lock

if TYPE_CHECKING:
    from restante.local import Announced

LOCK_WAIT_S: Final = 15.0
"""The services of a killed predecessor see that it is gone, and end, within this: the loop's grace, and some."""

_SETUP: Final = exits.Advice(exits.REFUSED, "The server did not start; what is stored is untouched.", "")


class Place(msgspec.Struct, frozen=True):
    """Where to listen, and what others are told."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Only this machine can reach it."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        return False

    @property
    def everywhere(self) -> bool:
        """It is all of this machine's addresses, which is none that others can use."""
        return self.host in ("*", "0.0.0.0", "[::]")


def place_of(text: str, *, port: int) -> Place:
    """HOST, HOST:PORT or :PORT; IPv6 in brackets. Raises click.BadParameter."""
    host, separator, digits = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, digits = text, str(port)
    if not digits.isascii() or not digits.isdigit() or int(digits) > 65_535:
        raise click.BadParameter(f"{digits!r} in {text!r} is no port: give HOST:PORT, a port from 0 to 65535.")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise click.BadParameter(f"{text!r}: an IPv6 address stands in brackets, [::1]:5570")
    if host == "localhost":
        host = "127.0.0.1"  # libzmq binds numbers, not names
    return Place(host=host or "*", port=int(digits))


def check_place(place: Place) -> None:
    """See that one could listen there, before anything is made or started. Raises SetupError.

    Names of interfaces (`eth0`), which only libzmq knows, are left to the broker.
    """
    host = "0.0.0.0" if place.host == "*" else place.host.strip("[]")
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the broker does
        try:
            probe.bind((host, place.port))
        except OSError as error:
            advice = _LISTEN_ADVICE.get(error.errno or 0, "Give another place with --listen HOST:PORT.")
            raise SetupError(f"Can't listen on {place}: {os.strerror(error.errno or 0)}. {advice}") from None


_LISTEN_ADVICE: Final = {
    errno.EADDRINUSE: "Stop what has this port, or give another with --listen HOST:PORT; port 0 takes a free one.",
    errno.EADDRNOTAVAIL: "Give an address of this machine with --listen; 0.0.0.0 is all that it has.",
    errno.EACCES: "Give a port from 1024 on with --listen HOST:PORT: those below are for root.",
}


@click.command(
    "serve",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat serve
  chat serve --data /srv/chat --listen 0.0.0.0:5570 --advertise chat.example.org
  restante serve --registration closed        # the same command, for units and crontabs
""",
)
@click.option("--data", metavar="DIR", default=None, help="Where everything is kept; by default your own data folder.")
@click.option(
    "--listen",
    metavar="ADDR",
    default=f"127.0.0.1:{PORT_DEFAULT}",
    show_default=True,
    help="HOST:PORT for clients; port 0 takes a free one.",
)
@click.option("--advertise", metavar="HOST[:PORT]", default=None, help="How others reach it, where that is different.")
@click.option(
    "--registration",
    type=click.Choice(["open", "closed"]),
    default=None,
    help="Whether newcomers may register; open by default only where nobody else can connect.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What the log on stderr tells.",
)
@click.pass_context
def command(
    ctx: click.Context,
    data: str | None,
    listen: str,
    advertise: str | None,
    registration: Literal["open", "closed"] | None,
    log_level: str,
) -> int:
    """Run a server: broker, authentication and store, until Ctrl-C or SIGTERM.

    The first line on stdout is its address. On this machine `chat` finds it by itself; elsewhere it is given
    with CHAT_ADDRESS or --address.
    """
    options = options_of(ctx)
    place = place_of(listen, port=PORT_DEFAULT)
    told = place_of(advertise, port=0) if advertise is not None else None
    if told is None and place.everywhere:
        told = Place(host=socket.gethostname(), port=0)
        options.say(f"Telling others to connect to {told.host}; --advertise HOST says otherwise.")
    logging.configure("serve", level="warning" if options.quiet else log_level)
    try:
        server = Server(
            options,
            datadir.data_of(data),
            place,
            told,
            registration or ("open" if place.local else "closed"),
            log_level,
        )
        return server.run()
    except SetupError as error:
        raise exits.Failure(str(error), _SETUP, "setup") from None


class Server:
    """The supervisor's view: which children, with which arguments, and what to do when they are ready."""

    def __init__(
        self, options: Options, data: Path, place: Place, told: Place | None, registration: str, log_level: str
    ) -> None:
        self._options = options
        self._data = data
        self._place = place
        self._told = told
        self._registration = registration
        self._log_level = log_level
        self._address = ""
        self._announced: Announced | None = None

    def run(self) -> int:
        """Serve until stopped; the exit code. Raises SetupError if it can't begin."""
        lock = self._prepare()
        with _sockets(self._data) as run:
            supervisor = Supervisor(self._children(run), lock, on_note=self._on_note, args_for=self._args_for)
            try:
                status = supervisor.run()
            finally:
                self._withdraw()
        if supervisor.unable:
            raise SetupError(f"The {supervisor.unable} could not start, for the reason that it gives above.")
        return status

    def _prepare(self) -> int:
        """Take the data directory, and make what is not there; its lock. Raises SetupError, and then made little."""
        if not self._data.exists():  # else a predecessor may be ending, which the lock waits for
            check_place(self._place)
        lock = take_lock(self._data / datadir.LOCK, wait_s=LOCK_WAIT_S)
        check_place(self._place)
        if (self._data / datadir.RESTORING).exists():
            raise SetupError(f"A restore into {self._data} did not end. Repeat it: chat admin restore --force …")
        try:
            keys.make_all(self._data / "keys")
            for name in datadir.SERVICES:
                (self._data / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise cant_use(self._data, error) from error
        return lock

    def _children(self, run: Path) -> list[ChildSpec]:
        def spec(name: str, module: str, **settings: object) -> ChildSpec:
            flags = [f"--{flag.replace('_', '-')}={value}" for flag, value in settings.items()]
            argv = [sys.executable, "-P", "-m", module, *flags, f"--log-level={self._log_level}"]
            return ChildSpec(name=name, argv=argv)

        workers, confirms, store = (f"ipc://{run}/{name}.sock" for name in ("workers", "confirms", "store"))
        keys_of = self._data / "keys"
        told = {} if self._told is None else {"advertise": _advertised(self._told)}
        return [
            spec(
                "store",
                "store_worker",
                data=self._data / "store",
                listen=store,
                broker=confirms,
                keys=keys_of / "store",
                control=datadir.control_endpoint(run, "store"),
            ),
            spec(
                "auth",
                "auth_service",
                data=self._data / "auth",
                broker=workers,
                keys=keys_of / "auth",
                control=datadir.control_endpoint(run, "auth"),
            ),
            spec(
                "broker",
                "broker",
                workers=workers,
                confirms=confirms,
                store=store,
                keys=keys_of / "broker",
                data=self._data / "broker",
                registration=self._registration,
                **told,
            ),
        ]

    def _args_for(self, name: str) -> list[str]:
        """A restarted broker gets the port that the first one got: clients know no other."""
        return [f"--listen=tcp://{self._place}"] if name == "broker" else []

    def _on_note(self, name: str, note: dict[str, Any]) -> None:
        if name != "broker" or note.get("ready") is not True:
            return
        endpoint, address = str(note.get("endpoint", "")), str(note.get("address", ""))
        if endpoint:
            self._place = msgspec.structs.replace(self._place, port=int(endpoint.rpartition(":")[2]))
        if not self._address and address:
            self._announce(address)

    def _announce(self, address: str) -> None:
        """Tell where the server is: first in the files that others look into, then on stdout."""
        from restante.local import announce, find_local

        self._address = address
        public = parse_address(address)
        here = self._here(public)
        write_private(self._data / "address", f"{address}\n".encode())
        other = find_local()
        try:
            self._announced = announce(here, public)
        except OSError as error:
            self._options.say(f"Clients here must be told the address: it can't be announced ({error}).")
        else:
            if other is not None and other.here != here:
                self._options.say(
                    f"Another server runs on this machine, at {other.here.host}:{other.here.port}. Whoever names no "
                    f"address and is not logged in now finds this one, at {here.host}:{here.port}."
                )
        # Whoever started us may read the first line and close the pipe: that is no reason to stop serving.
        with contextlib.suppress(BrokenPipeError):
            Output().write(f"{address}\n")

    def _here(self, public: Address) -> Address:
        """How clients on this machine reach it, whatever others are told."""
        host = "127.0.0.1" if self._place.everywhere else self._place.host
        return Address(host=host, port=self._place.port, key=public.key)

    def _withdraw(self) -> None:
        with contextlib.suppress(OSError):
            if self._announced is not None:
                self._announced.withdraw()
            (self._data / "address").unlink(missing_ok=True)


def _advertised(told: Place) -> str:
    return str(told) if told.port else told.host


@contextlib.contextmanager
def _sockets(data: Path) -> Iterator[Path]:
    """A private directory for the sockets: in the data directory, or a short one where that path is too long."""
    run = data / "run"
    if len(os.fsencode(run)) <= DIRECTORY_BYTES_MAX:
        if run.is_symlink():  # of a time when the path was longer
            run.unlink()
        yield private_ipc_dir(run)
        return
    run = private_ipc_dir()
    try:
        datadir.link_run(data, run)
        yield run
    finally:
        shutil.rmtree(run, ignore_errors=True)
