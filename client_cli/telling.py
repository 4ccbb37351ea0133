"""How a command says that it failed: what happened, what that means for the user's data, what to do about it.

Loaded when something went wrong, and only then.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

import click

from client_cli import exits
from client_cli.output import CantWrite
from client_cli.render import escape, json_line

if TYPE_CHECKING:
    from client_cli.options import Options

_OF_TOKENS: Final = ("not_logged_in", "bad_token", "session_ended")


def tell(options: Options, failure: exits.Failure) -> int:
    """Say on stderr what a command ends with, as JSON where JSON was asked for; the exit code."""
    failure = _about_login(options, failure)
    advice = failure.advice
    text = sentence(failure.text)
    data = exits.data_of(advice, options.command, text)
    do = advice.do.replace("{chat}", options.chat)
    if options.json:
        said = {"error": failure.code or "failed", "text": text, "data": data, "do": do}
        click.echo(json_line(said), err=True, nl=False)
    else:
        click.echo(f"chat: {escape(' '.join(filter(None, (text, data, do))))}", err=True)
    return advice.exit


def tell_os(options: Options, error: OSError) -> int:
    """The same of what the machine refused."""
    if error.errno == errno.EPIPE:
        return exits.REFUSED  # whoever stopped reading needs not be told
    if isinstance(error, CantWrite):
        text = f"The output could not be written: {error.reason}"
    else:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    return tell(options, exits.Failure(text, exits.SYSTEM, "os_error"))


def sentence(text: str) -> str:
    """With a capital where it begins with a word, and a full stop."""
    text = text.strip()
    first = text.split(maxsplit=1)[0] if text else ""
    if first.rstrip(",:").isalpha() and first.islower():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?", ":")) else text + "."


def _about_login(options: Options, failure: exits.Failure) -> exits.Failure:
    """For who isn't logged in, what to do depends on where the token should have come from."""
    if failure.code not in _OF_TOKENS:
        return failure
    variable = next((name for name in ("CHAT_TOKEN", "CHAT_TOKEN_FILE") if os.environ.get(name, "").strip()), None)
    if variable is not None:
        do = f"The token is that of {variable}: set another, or unset it to use a profile's login."
        return exits.Failure(failure.text, failure.advice._replace(do=do), failure.code)
    if failure.code != "not_logged_in":
        return failure
    elsewhere = _elsewhere(options)
    if elsewhere is not None:
        do = f"Give this server a profile of its own: {options.without_profile} --profile NAME login ACCOUNT"
        return exits.Failure(elsewhere, failure.advice._replace(do=do), failure.code)
    do = f"{failure.advice.do} (or set CHAT_TOKEN to a token)."
    return exits.Failure("Nobody is logged in with this profile", failure.advice._replace(do=do), failure.code)


def taken(once: str) -> str:
    """What to say of a key that belongs to another message."""
    return f"The --once key {once!r} was used before, for a message with other content or recipients"


def _elsewhere(options: Options) -> str | None:
    """That the profile's login is one of another server, if that is so."""
    from restante.profiles import load
    from restante.wire.address import parse_address
    from restante.wire.errors import SettingsError

    with contextlib.suppress(SettingsError, ValueError, exits.Failure):
        settings = options.settings()
        profile = load(settings.profile)
        if profile is None or not profile.token or settings.address is None:
            return None
        theirs, asked = parse_address(profile.address), settings.address
        if theirs.key != asked.key:
            there, here = (f"{one.host}:{one.port}" for one in (theirs, asked))
            return f"This profile is logged in as {profile.name} at {there}, which is another server than {here}"
    return None
