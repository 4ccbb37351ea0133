"""Passwords: from a prompt, a file or stdin, and never from an argument, which every user of the machine could read."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from client_cli.options import Options
from client_cli.stdin import stdin
from restante.wire.limits import PASSWORD_BYTES_MAX

password_file = click.option(
    "--password-file",
    "source",
    metavar="FILE",
    default=None,
    help="Read the password from the first line of FILE; - is stdin.",
)


def read_password(options: Options, source: str | None, prompt: str, *, twice: bool = False) -> str:
    """The password from `source`, or asked for; `twice` for a new one, which nobody sees typed.

    Raises click.UsageError where there is none, and nobody to ask.
    """
    if source is not None:
        return _from_source(source)
    if not options.may_ask():
        raise click.UsageError(
            "A password is needed, and nobody can be asked: give --password-file FILE, or - for stdin."
        )
    return str(click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))


def _from_source(source: str) -> str:
    if source == "-":
        return _first_line(stdin(), "stdin")
    with Path(source).open("rb") as file:
        return _first_line(file, source)


def _first_line(file: IO[bytes], where: str) -> str:
    line = file.readline(PASSWORD_BYTES_MAX + 3)
    try:
        password = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"The password in {where} is not UTF-8 text.") from None
    if not password:
        raise click.UsageError(f"There is no password in {where}: its first line is empty.")
    return password
