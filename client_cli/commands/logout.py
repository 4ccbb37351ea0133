"""`chat logout`: revoke the profile's token, and forget it."""

from __future__ import annotations

import click

from client_cli.logins import forget_login
from client_cli.options import ChatCommand, options_of
from restante.wire.errors import BadToken, NotLoggedIn, SessionEnded


@click.command(
    "logout",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat logout
  chat --profile work logout
""",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """End this profile's login, on the server too. Messages and account stay."""
    options = options_of(ctx)
    settings = options.settings()
    if settings.token is None:
        options.say("Nobody is logged in with this profile.")
        return
    try:
        with options.connect() as client:
            client.logout()
    except (BadToken, NotLoggedIn, SessionEnded):
        options.say("The login had ended before.")
    forget_login(settings)
    options.say("Logged out.")
