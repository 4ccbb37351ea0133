"""`chat register`: make an account."""

from __future__ import annotations

import click

from client_cli.options import ChatCommand, options_of
from client_cli.output import Output
from client_cli.passwords import password_file, read_password


@click.command(
    "register",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat register alice
  chat register backup-job --password-file /run/secrets/password
""",
)
@click.argument("name")
@password_file
@click.option("--display-name", metavar="TEXT", default="", help="What is shown beside the name.")
@click.option("--no-login", is_flag=True, default=False, help="Make the account, and no more.")
@click.pass_context
def command(ctx: click.Context, name: str, source: str | None, display_name: str, no_login: bool) -> None:
    """Make an account, and log in with it if this profile is not logged in.

    A profile that is logged in stays so: making an account for somebody else does not take yours away.
    """
    options = options_of(ctx)
    settings = options.settings()
    password = read_password(options, source, "New password", twice=True)
    with options.connect() as client:
        made = client.register(name, password, display_name=display_name)
        if not no_login and settings.token is None:
            from client_cli.logins import device_name, keep_login

            keep_login(settings, client, client.login(made.name, password, device=device_name()))
            options.say(f"The account {made.name} is made, and this profile is logged in with it.")
        elif settings.name:
            options.say(f"The account {made.name} is made. This profile stays logged in as {settings.name}.")
        else:
            options.say(f"The account {made.name} is made. To use it: {options.chat} login {made.name}")
    if options.json:
        from client_cli.render import json_line

        Output().write(json_line({"account": made.account, "name": made.name}))
