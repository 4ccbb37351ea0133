"""Passwords: from a prompt, a file or stdin, and never from an argument, which every user of the machine could read."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from client_cli.options import Options
from client_cli.stdin import stdin
from restante.wire.limits import PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN

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
    check = _long_enough if twice else None
    return str(click.prompt(prompt, hide_input=True, confirmation_prompt=twice, value_proc=check, err=True))


def _long_enough(password: str) -> str:
    """A new password that the server would take for its length, so that none is typed twice in vain."""
    if len(password) < PASSWORD_CHARS_MIN:
        raise click.UsageError(f"A password has at least {PASSWORD_CHARS_MIN} characters, and this is shorter.")
    return password


def _from_source(source: str) -> str:
    if source == "-":
        return _first_line(stdin(), "stdin")
    try:
        with Path(source).open("rb") as file:
            return _first_line(file, source)
    except OSError as error:
        raise click.UsageError(f"There is no password to be had from {source}: {error.strerror}.") from None


def _first_line(file: IO[bytes], where: str) -> str:
    line = file.readline(PASSWORD_BYTES_MAX + 3)
    try:
        password = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"The password in {where} is not UTF-8 text.") from None
    if not password:
        raise click.UsageError(f"There is no password in {where}: its first line is empty.")
    return password
