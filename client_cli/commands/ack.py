"""`chat ack`: mark messages read by their ids."""

from __future__ import annotations

import click

from client_cli.lastmarked import LastMarked
from client_cli.marking import mark, named
from client_cli.options import ChatCommand, options_of


@click.command(
    "ack",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat ack 01970a5e-8c1f-7cc3-98c4-dc0c0c07398f
  chat inbox --json | jq -r 'select(.from == "ci") | .id' | chat ack -
""",
)
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.pass_context
def command(ctx: click.Context, ids: tuple[str, ...]) -> int:
    """Mark messages of your mailbox read, by id or seq; - reads them from stdin, a line each."""
    options = options_of(ctx)
    return mark(options, list(named(ids)), read=True, last=LastMarked(options.settings()))
