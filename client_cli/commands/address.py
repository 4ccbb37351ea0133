"""`chat address`: the one string that others need to reach this server."""

from __future__ import annotations

import click

from client_cli.options import ChatCommand, options_of
from client_cli.output import Output


@click.command(
    "address",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat address
  export CHAT_ADDRESS="$(ssh server chat address)"
""",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Print the address of the server in use. It holds the server's public key, and no secret."""
    options = options_of(ctx)
    address = options.settings().address
    assert address is not None
    if options.json:
        from client_cli.render import json_line

        Output().write(json_line({"address": str(address), "host": address.host, "port": address.port}))
    else:
        Output().write(f"{address}\n")
