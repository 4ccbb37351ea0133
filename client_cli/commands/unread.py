"""`chat unread`: mark messages unread again, by their ids or those last marked read."""

from __future__ import annotations

import click

from client_cli.lastmarked import LastMarked
from client_cli.marking import mark, named
from client_cli.options import ChatCommand, options_of


@click.command(
    "unread",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat unread --last      # the terminal was closed before you had read them
  chat unread 01970a5e-8c1f-7cc3-98c4-dc0c0c07398f
""",
)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--last", "last", is_flag=True, default=False, help="Those that inbox or ack marked last.")
@click.pass_context
def command(ctx: click.Context, ids: tuple[str, ...], last: bool) -> int:
    """Mark messages of your mailbox unread, by id or seq; - reads them from stdin, a line each."""
    options = options_of(ctx)
    if bool(ids) == last:
        raise click.UsageError("Which messages? Give their ids, or --last for those that were marked last.")
    if not last:
        return mark(options, list(named(ids)), read=False)
    seqs, known = LastMarked(options.settings()).read()
    if not seqs and not known:
        options.say("Nothing was marked read with this profile.")
        return 0
    return mark(options, [*seqs, *known], read=False)
