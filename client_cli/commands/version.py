"""`chat version`: the versions of both ends."""

from __future__ import annotations

import click

from client_cli.options import ChatCommand, options_of
from client_cli.output import Output
from client_cli.render import escape, json_line
from restante import __version__
from restante.wire.limits import VERSION


@click.command(
    "version",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat version
  chat --version      # this end's alone, without asking a server
""",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Print this end's version, then the server's."""
    options = options_of(ctx)
    if not options.json:
        Output().write(f"client  chat {__version__}, protocol {VERSION}\n")
    with options.connect() as client:
        welcome = client.hello()
    if options.json:
        ends = {"client": {"version": __version__, "protocol": VERSION}}
        server = {"version": welcome.server, "protocol": welcome.version}
        Output().write(json_line({**ends, "server": server}))
    else:
        Output().write(f"server  {escape(welcome.server)}, protocol {welcome.version}\n")
