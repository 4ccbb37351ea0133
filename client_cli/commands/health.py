"""`chat health`: whether broker, authentication and store answer."""

from __future__ import annotations

import click

from client_cli import exits
from client_cli.options import ChatCommand, options_of
from client_cli.output import Output


@click.command(
    "health",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat health
  chat -q --timeout 5 health && echo up
""",
)
@click.pass_context
def command(ctx: click.Context) -> int:
    """Exit with 0 if the server and both its parts answer, else with 5. No login is needed."""
    options = options_of(ctx)
    with options.connect() as client:
        welcome = client.hello()
        address = str(client.address)
    parts = {"broker": True, "auth": welcome.auth, "store": welcome.store}
    if options.json:
        from client_cli.render import json_line

        Output().write(json_line({"ok": all(parts.values()), **parts, "server": welcome.server, "address": address}))
    elif not options.quiet:
        Output().write("".join(f"{part:<7}{'ok' if ok else 'does not answer'}\n" for part, ok in parts.items()))
    return exits.DONE if all(parts.values()) else exits.UNKNOWN
