"""`chat admin`: for whoever runs the server, on its machine and as its user: back up, verify, restore."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client_cli import datadir
from client_cli.options import ChatCommand, Options, is_colourful, is_lively, options_of
from client_cli.output import Output

if TYPE_CHECKING:
    from client_cli.backups import Manifest, OnProgress

_DATA = click.option("--data", metavar="DIR", default=None, help="The server's data; by default your own data folder.")


@click.group(
    "admin",
    epilog="""\b
Examples:
  chat admin backup /backups/monday           # the server goes on meanwhile
  chat admin verify /backups/monday
  chat admin restore /backups/monday --data /srv/chat
""",
)
def command() -> None:
    """Back up a server while it runs, verify a backup, restore it.

    For whoever runs the server, on its machine and as its user.
    """


@command.command(
    "backup",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat admin backup /backups/monday
  restante -q admin backup --data /srv/chat "/backups/$(date +%F)"     # in a crontab: \\%F
""",
)
@click.argument("directory", metavar="DIR")
@_DATA
@click.pass_context
def backup(ctx: click.Context, directory: str, data: str | None) -> None:
    """Back up the running server into DIR, which must not exist: messages, accounts and keys.

    It holds all that was accepted before it began, and is whole or isn't there. It holds secrets: guard it as the
    server's own disk.
    """
    from client_cli import backups

    options = options_of(ctx)
    with _progress(options) as show:
        manifest = backups.make(datadir.data_of(data), Path(directory).absolute(), show)
    _tell(options, Path(directory).absolute(), manifest)


@command.command(
    "verify",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat admin verify /backups/monday
""",
)
@click.argument("directory", metavar="DIR")
@click.pass_context
def verify(ctx: click.Context, directory: str) -> None:
    """Read a backup through: every byte against its hash, both databases against themselves and each other."""
    from client_cli import backups

    path = Path(directory).absolute()
    _tell(options_of(ctx), path, backups.verify(path))


@command.command(
    "restore",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat admin restore /backups/monday --data /srv/chat
  chat admin restore /backups/monday --force          # over data that is there: it is moved aside
""",
)
@click.argument("directory", metavar="DIR")
@_DATA
@click.option("--force", is_flag=True, default=False, help="Move data that is there aside. Nothing is ever deleted.")
@click.pass_context
def restore(ctx: click.Context, directory: str, data: str | None, force: bool) -> None:
    """Make the backup in DIR the data of a server that is stopped. It is verified first; nothing is started.

    Everything is then as when the backup was made: passwords and logins too, also those ended since. Clients notice,
    and read on from what is unread.
    """
    from client_cli import restoring

    options = options_of(ctx)
    path, place = Path(directory).absolute(), datadir.data_of(data)
    manifest, aside = restoring.restore(path, place, force=force)
    for folder in aside:
        options.say(f"What was there is in {folder}")
    _tell(options, place, manifest)


def _tell(options: Options, path: Path, manifest: Manifest) -> None:
    """What is there now."""
    from client_cli.render import json_line

    if options.json:
        import msgspec

        record = {"path": str(path), "bytes": manifest.bytes, **msgspec.to_builtins(manifest)}
        Output().write(json_line(record))
    elif not options.quiet:
        messages, accounts = manifest.store["messages"], manifest.accounts["accounts"]
        size_mb = manifest.bytes / 1e6
        Output().write(
            f"{path}: {messages:,} messages, {accounts:,} accounts, {size_mb:,.1f} MB, of {manifest.taken_at}\n"
        )


@contextlib.contextmanager
def _progress(options: Options) -> Iterator[OnProgress]:
    """A bar for each database, on a terminal only; elsewhere rich isn't imported."""
    if options.quiet or not is_lively(sys.stderr):
        yield lambda _service, _progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:<8}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True, no_color=not is_colourful(sys.stderr)), transient=True) as bar:
        tasks = {"store": bar.add_task("messages", total=None), "auth": bar.add_task("accounts", total=None)}
        yield lambda service, far: bar.update(tasks[service], completed=far.done, total=far.total or None)
