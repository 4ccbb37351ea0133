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
    """Print the address to hand to others. It holds the server's public key, and no secret.

    A server on this machine says itself by which name others reach it (`chat serve --advertise`).
    """
    from restante.local import find_local

    options = options_of(ctx)
    address = options.settings().address
    assert address is not None
    announced = find_local(address.key)
    if announced is not None and announced.here == address:
        address = announced.public
    if options.json:
        from client_cli.render import json_line

        Output().write(json_line({"address": str(address), "host": address.host, "port": address.port}))
    else:
        Output().write(f"{address}\n")
