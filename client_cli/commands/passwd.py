"""`chat passwd`: a new password; every other login of the account ends with the old one."""

from __future__ import annotations

import click

from client_cli.logins import keep_login
from client_cli.options import ChatCommand, options_of
from client_cli.passwords import read_password


@click.command(
    "passwd",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat passwd
  chat passwd --old-password-file old --password-file new
  printf '%s\\n' "$OLD" "$NEW" | chat passwd --old-password-file - --password-file -
""",
)
@click.option(
    "--old-password-file", "old_source", metavar="FILE", default=None, help="Read the old password; - is stdin."
)
@click.option("--password-file", "source", metavar="FILE", default=None, help="Read the new password; - is stdin.")
@click.pass_context
def command(ctx: click.Context, old_source: str | None, source: str | None) -> None:
    """Change the password. Logins elsewhere end; this profile stays logged in.

    If both passwords come from stdin, the old one is its first line and the new one its second.
    """
    options = options_of(ctx)
    settings = options.settings()
    old = read_password(options, old_source, "Old password")
    new = read_password(options, source, "New password", twice=True)
    with options.connect() as client:
        keep_login(settings, client, client.passwd(old, new))
    options.say("The password is changed; every other login of this account has ended.")
