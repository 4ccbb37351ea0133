"""Profiles: what `chat login` leaves so that the next command is logged in.

A profile is a server's address, an account and its token: one file of mode 0600 a profile, JSON, in `profiles/` of the
user's configuration folder, replaced as a whole. A file that others can read is not used: its token may be theirs by
now.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from typing import TYPE_CHECKING, Final

import msgspec

from restante.files import read_file, write_private
from restante.places import in_user_config
from restante.wire.errors import SettingsError
from restante.wire.limits import TOKEN_BYTES

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT: Final = "default"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Profile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who one is, and where. Its text form never shows the token."""

    address: str
    account: int = 0
    """The account's number; 0: not logged in."""
    name: str = ""
    token: str = ""
    """As `show_token` writes it; empty: not logged in."""

    def __repr__(self) -> str:
        token = "…" if self.token else ""
        return f"Profile({self.address!r}, account={self.account}, name={self.name!r}, token={token!r})"


def show_token(token: bytes) -> str:
    """A token as text: base64url without padding, 43 characters."""
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def read_token(text: str) -> bytes:
    """The token that `show_token` showed. Raises SettingsError, which does not repeat it."""
    text = text.strip()
    try:
        token = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        token = b""
    if len(token) != TOKEN_BYTES:
        raise SettingsError("that is no token: one is 43 characters of A-Z a-z 0-9 _ -, and `chat login` makes it")
    return token


def path_of(name: str) -> Path:
    """A profile's file. Raises SettingsError for a name that no file should have."""
    from pathlib import Path

    return Path(_place(name))


def _place(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} is no name for a profile: use letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return in_user_config(f"profiles/{name}.json")


def load(name: str = DEFAULT) -> Profile | None:
    """A profile, or None if there is none of this name.

    Raises SettingsError for one that others may read or write, or that is no profile.
    """
    path = _place(name)
    try:
        raw = read_file(path, lambda status: refuse_if_open(path, status))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"the profile {path} cannot be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(raw, type=Profile)
    except msgspec.DecodeError as error:
        raise SettingsError(f"the profile {path} is damaged: remove it and log in again") from error


def save(profile: Profile, name: str = DEFAULT) -> Path:
    """Write a profile, atomically; gives its path. Raises SettingsError if that fails."""
    path = path_of(name)
    try:
        write_private(path, msgspec.json.encode(profile) + b"\n")
    except OSError as error:
        raise SettingsError(f"the profile {path} cannot be written: {error.strerror}") from error
    return path


def remove(name: str = DEFAULT) -> None:
    """Remove a profile; one that isn't there is removed already. Raises SettingsError if it stays."""
    path = path_of(name)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"the profile {path} cannot be removed: {error.strerror}") from error


def refuse_if_open(path: str, status: os.stat_result) -> None:
    """Raise SettingsError if others than its owner can read or write a file that holds a token."""
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise SettingsError(
            f"{path} holds a token, and others can read it (mode {mode:04o}), so it was not used. "
            f"Run `chmod 600 {path}`; if somebody may have seen it, run `chat logout` and log in again"
        )
