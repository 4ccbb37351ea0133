"""`chat login`: a name and a password become a token, which the profile keeps."""

from __future__ import annotations

import click

from client_cli.logins import device_name, keep_login
from client_cli.options import ChatCommand, options_of
from client_cli.output import Output
from client_cli.passwords import password_file, read_password


@click.command(
    "login",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat login alice
  chat --profile work --address chat://… login alice
  pass chat/alice | chat login alice --password-file -
""",
)
@click.argument("name")
@password_file
@click.option("--device", metavar="TEXT", default=None, help="What to call this login; the machine's name by default.")
@click.pass_context
def command(ctx: click.Context, name: str, source: str | None, device: str | None) -> None:
    """Log in. The profile then holds the server's address and a token, never the password."""
    options = options_of(ctx)
    settings = options.settings()
    password = read_password(options, source, f"Password of {name}")
    with options.connect() as client:
        session = client.login(name, password, device=device_name() if device is None else device)
        keep_login(settings, client, session)
    options.say(f"Logged in as {session.name}.")
    if options.json:
        from client_cli.render import iso_time, json_line

        record = {
            "account": session.account,
            "name": session.name,
            "profile": settings.profile,
            "expires_at": iso_time(session.expires_at_us),
        }
        Output().write(json_line(record))
