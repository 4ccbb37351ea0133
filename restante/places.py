"""Where things lie on this machine: settings, profiles, and the address of a server that runs here.

The places are platformdirs'. On Linux they are worked out here by the same rules (the XDG base directory
specification), and as strings: importing platformdirs and pathlib would take a fifth of what `chat send` may. A test
holds the two together.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

APP: Final = "restante"

_BY_HAND: Final[bool] = str(sys.platform) == "linux"

CONFIG_DIR_VARIABLE: Final = "CHAT_CONFIG_DIR"
"""Overrides the user's configuration folder: for tests, and for a demo that leaves nothing behind."""

STATE_DIR_VARIABLE: Final = "CHAT_STATE_DIR"
"""Overrides the user's state folder, likewise."""


def in_user_config(name: str) -> str:
    """A file of the user's configuration folder: `config.toml`, or one in `profiles/`."""
    return f"{_user_folder(CONFIG_DIR_VARIABLE, 'XDG_CONFIG_HOME', '.config', 'user_config_dir')}/{name}"


def in_user_state(name: str) -> str:
    """A file of the folder for what programs of this user leave for each other."""
    return f"{_user_folder(STATE_DIR_VARIABLE, 'XDG_STATE_HOME', '.local/state', 'user_state_dir')}/{name}"


def in_system_config(name: str) -> str:
    """A file of the machine's configuration folder: `config.toml`."""
    if not _BY_HAND:
        import platformdirs

        return f"{platformdirs.site_config_dir(APP)}/{name}"
    first = os.environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep)[0].strip()
    return f"{first or '/etc/xdg'}/{APP}/{name}"


def user_state() -> Path:
    """The folder of `in_user_state`."""
    from pathlib import Path

    return Path(in_user_state(""))


def _user_folder(override: str, variable: str, default: str, elsewhere: str) -> str:
    told = os.environ.get(override)
    if told:
        return told
    if not _BY_HAND:
        import platformdirs

        folder: str = getattr(platformdirs, elsewhere)(APP)
        return folder
    base = os.environ.get(variable, "").strip()
    return f"{base or _home() + '/' + default}/{APP}"


def _home() -> str:
    return os.path.expanduser("~")  # noqa: PTH111 - pathlib is what is not to be loaded
