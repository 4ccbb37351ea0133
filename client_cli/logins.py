"""A profile's login: kept after `login` and `passwd`, taken away by `logout`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restante.client import Client
    from restante.settings import Settings
    from restante.wire.envelopes import LoggedIn


def keep_login(settings: Settings, client: Client, session: LoggedIn) -> None:
    """Write the session's token into the profile. Raises SettingsError if that can't be written."""
    from restante.profiles import Profile, save, show_token

    assert session.token is not None, "a login and a change of password bring a token"
    profile = Profile(
        address=str(client.address), account=session.account, name=session.name, token=show_token(session.token)
    )
    save(profile, settings.profile)


def forget_login(settings: Settings) -> None:
    """Take the token out of the profile; whose server it was stays. Raises SettingsError."""
    from restante.profiles import Profile, load, remove, save

    known = load(settings.profile)
    if known is None:
        return
    if known.address:
        save(Profile(address=known.address), settings.profile)
    else:
        remove(settings.profile)


def device_name() -> str:
    """What to call this machine in the list of an account's tokens."""
    import socket

    from restante.wire.limits import DEVICE_CHARS_MAX

    return socket.gethostname()[:DEVICE_CHARS_MAX]
