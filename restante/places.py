"""Where things lie on this machine: settings, profiles, and the address of a server that runs here.

The places are platformdirs'. On Linux they are worked out here by the same rules (the XDG base directory
specification), because importing platformdirs costs a tenth of what `chat send` may take; a test holds the two
together.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

APP: Final = "restante"

_BY_HAND: Final[bool] = str(sys.platform) == "linux"

CONFIG_DIR_VARIABLE: Final = "CHAT_CONFIG_DIR"
"""Overrides `user_config`: for tests, and for a demo that leaves nothing behind."""

STATE_DIR_VARIABLE: Final = "CHAT_STATE_DIR"
"""Overrides `user_state`, likewise."""


def user_config() -> Path:
    """The user's folder for `config.toml` and `profiles/`."""
    override = os.environ.get(CONFIG_DIR_VARIABLE)
    if override:
        return Path(override)
    if _BY_HAND:
        return _xdg("XDG_CONFIG_HOME", ".config")
    import platformdirs

    return platformdirs.user_config_path(APP)


def user_state() -> Path:
    """The user's folder for what a running program tells others of the same user."""
    override = os.environ.get(STATE_DIR_VARIABLE)
    if override:
        return Path(override)
    if _BY_HAND:
        return _xdg("XDG_STATE_HOME", ".local/state")
    import platformdirs

    return platformdirs.user_state_path(APP)


def system_config() -> Path:
    """The folder of the machine's `config.toml`."""
    if _BY_HAND:
        first = os.environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep)[0].strip()
        return Path(first or "/etc/xdg") / APP
    import platformdirs

    return platformdirs.site_config_path(APP)


def _xdg(variable: str, default: str) -> Path:
    base = os.environ.get(variable, "").strip()
    return (Path(base) if base else Path.home() / default) / APP
