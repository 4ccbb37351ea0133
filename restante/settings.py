"""How a client is configured, in one place for the command and for programs.

Each setting comes from the first that names it, an argument being the command's flag:

    argument > environment > profile > user's config.toml > machine's config.toml > default

    setting    argument    environment                     config.toml    default
    profile    profile     CHAT_PROFILE                    profile        "default"
    address    address     CHAT_ADDRESS                    address        the server on this machine
    token      token       CHAT_TOKEN, CHAT_TOKEN_FILE     token_file     none: not logged in
    timeout    timeout_s   CHAT_TIMEOUT, in seconds        timeout        30 seconds

A profile's token is for the server whose key the profile's address holds, and is shown to no other.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from restante.files import read_file
from restante.places import in_system_config, in_user_config
from restante.wire import limits
from restante.wire.address import Address, parse_address
from restante.wire.errors import SettingsError

if TYPE_CHECKING:
    from restante.profiles import Profile

TIMEOUT_S: Final = limits.REQUEST_S
"""How long a call may take unless told otherwise: long enough for a server that restarts."""

TIMEOUT_S_MAX: Final = 86_400.0
"""A day: more is a mistake in the unit."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs to know."""

    address: Address | None
    """None: none was named, and no server has announced itself on this machine."""
    profile: str
    """The profile's name, whether or not there is one."""
    name: str = ""
    """The profile's account name; empty if it isn't known."""
    token: bytes | None = None
    timeout_s: float = TIMEOUT_S


class ConfigFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may stand in a config.toml."""

    address: str | None = None
    profile: str | None = None
    token_file: str | None = None
    timeout: float | None = None


def read_settings(
    address: str | None = None,
    *,
    profile: str | None = None,
    token: bytes | str | None = None,
    timeout_s: float | None = None,
) -> Settings:
    """The settings that hold for this process, now. Raises SettingsError."""
    from restante import profiles

    files = [read_config(in_user_config("config.toml")), read_config(in_system_config("config.toml"))]
    profile_name = _first(profile, _variable("CHAT_PROFILE"), *(file.profile for file in files)) or profiles.DEFAULT
    explicit = _first(address, _variable("CHAT_ADDRESS"))
    own_token = _token(token)
    # a broken profile must not stand in the way of somebody who told everything without it
    known = None if explicit and own_token else profiles.load(profile_name)
    where = _address(explicit, known, files)
    if own_token is None and known is not None and known.token and _same_server(known, where):
        return Settings(
            address=where,
            profile=profile_name,
            name=known.name,
            token=profiles.read_token(known.token),
            timeout_s=_timeout(timeout_s, files),
        )
    return Settings(
        address=where,
        profile=profile_name,
        token=own_token or _token_of_files(files),
        timeout_s=_timeout(timeout_s, files),
    )


def read_config(path: str) -> ConfigFile:
    """A config.toml; an absent one says nothing. Raises SettingsError that names file and field."""
    try:
        raw = read_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return ConfigFile()
    except OSError as error:
        raise SettingsError(f"the settings {path} cannot be read: {error.strerror}") from error
    import tomllib

    try:
        return msgspec.convert(tomllib.loads(raw.decode()), ConfigFile)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the settings {path} are not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise SettingsError(f"the settings {path} are wrong: {_wrong_field(str(error))}") from error


def _wrong_field(told: str) -> str:
    """What msgspec says of a field, in words for whoever wrote the file."""
    _, _, place = told.partition(" - at `$.")
    field = place.rstrip("`")
    if field in ConfigFile.__struct_fields__:
        return f"{field} must be {'a number of seconds' if field == 'timeout' else 'text'}"
    return f"{told}; they may have {', '.join(ConfigFile.__struct_fields__)}"


def _first(*values: str | None) -> str | None:
    return next((value for value in values if value), None)


def _variable(name: str) -> str | None:
    """An environment variable; an empty one is as good as none."""
    return os.environ.get(name, "").strip() or None


def _address(explicit: str | None, profile: Profile | None, files: list[ConfigFile]) -> Address | None:
    from restante.local import find_local

    text = _first(explicit, profile.address if profile else None, *(file.address for file in files))
    if text is None:
        announced = find_local()
        return None if announced is None else announced.here
    try:
        address = parse_address(text)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if explicit is None:
        # A profile remembers where its server was. If that server is beside us it says itself where it is now.
        announced = find_local(address.key)
        if announced is not None:
            return announced.here
    return address


def _same_server(profile: Profile, address: Address | None) -> bool:
    """Whether it is the profile's server: the one that holds its key, whatever name it is reached by."""
    try:
        return address is not None and parse_address(profile.address).key == address.key
    except ValueError:
        return False


def _token(argument: bytes | str | None) -> bytes | None:
    from restante import profiles

    if isinstance(argument, bytes):
        if len(argument) != limits.TOKEN_BYTES:
            raise SettingsError(f"a token has {limits.TOKEN_BYTES} bytes, this one has {len(argument)}")
        return argument
    text = argument or _variable("CHAT_TOKEN")
    if text:
        try:
            return profiles.read_token(text)
        except SettingsError as error:
            raise SettingsError(str(error) if argument else f"CHAT_TOKEN: {error}") from None
    path = _variable("CHAT_TOKEN_FILE")
    return _token_file(path, "CHAT_TOKEN_FILE") if path else None


def _token_of_files(files: list[ConfigFile]) -> bytes | None:
    path = _first(*(file.token_file for file in files))
    return _token_file(path, "token_file") if path else None


def _token_file(path: str, told_by: str) -> bytes:
    """The token in a file. Unlike a profile's others may read it: containers mount their secrets so."""
    from restante import profiles

    try:
        return profiles.read_token(read_file(os.path.expanduser(path)).decode())  # noqa: PTH111 - see places
    except SettingsError as error:
        raise SettingsError(f"{told_by} names {path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{told_by} names {path}, which cannot be read: {error}") from error


def _timeout(argument: float | None, files: list[ConfigFile]) -> float:
    text = _variable("CHAT_TIMEOUT")
    value: float | None = argument
    if value is None and text is not None:
        try:
            value = float(text)
        except ValueError:
            raise SettingsError(f"CHAT_TIMEOUT is {text!r}, which is not a number of seconds") from None
    if value is None:
        value = next((file.timeout for file in files if file.timeout is not None), TIMEOUT_S)
    if not 0 < value <= TIMEOUT_S_MAX:
        raise SettingsError(f"a timeout is more than 0 and at most {TIMEOUT_S_MAX:.0f} seconds, not {value}")
    return value
