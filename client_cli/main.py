"""`chat`, and the same as `restante`: finds the command, runs it, and turns what goes wrong into words and an exit.

A command's module is imported when that command is called, and no other: a slow start is felt at every prompt.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import Any, Final, NoReturn

import click

from client_cli import exits
from client_cli.options import Helpful, Options, common_options, options_of, telling_option
from restante import __version__
from restante.wire.errors import ChatError

COMMANDS: Final[dict[str, str]] = {
    "serve": "Run a server on this machine.",
    "register": "Make an account.",
    "login": "Log in with a name and a password.",
    "logout": "End this profile's login.",
    "passwd": "Change the password.",
    "send": "Send a message, or a batch of them.",
    "inbox": "Show what is unread, and mark it read.",
    "ack": "Mark messages read.",
    "unread": "Mark messages unread again.",
    "status": "Who am I; or how far a sent message has come.",
    "address": "Print the server's address, to hand to others.",
    "health": "Whether the server and its parts answer.",
    "version": "The versions of both ends.",
    "admin": "Back up a server, and restore it.",
}
"""Every command and what it does, so that the list is shown without importing them."""


class LazyGroup(Helpful, click.Group):
    """Imports a command when it is called. All errors end here, as a sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"client_cli.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, and exit: with 0 only if what the command says has happened has happened (G8)."""
        sys.exit(self._run(*args, **{**kwargs, "standalone_mode": False}))

    def _run(self, *args: Any, **kwargs: Any) -> int:
        options = Options(str(kwargs.get("prog_name") or "chat"))
        try:
            result = super().main(*args, **{"obj": options, **kwargs})
            return result if isinstance(result, int) else exits.DONE
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort:
            return exits.INTERRUPTED
        except (exits.Failure, OSError, ChatError) as error:
            return _told(options, error)


def _told(options: Options, error: exits.Failure | OSError | ChatError) -> int:
    from client_cli.telling import tell, tell_os

    if isinstance(error, OSError):
        return tell_os(options, error)
    return tell(options, error if isinstance(error, exits.Failure) else exits.failure_of(error))


@click.group(
    cls=LazyGroup,
    params=[
        *common_options(),
        telling_option("--version", help="Show the version and exit.", tell=lambda _: f"chat {__version__}"),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  chat serve                          # start a server here; its address is the first line
  chat register alice                 # make an account, and log in
  echo "backup done" | chat send bob  # prints the message's id
  chat inbox                          # what is unread

\b
Exit codes: 0 done · 1 refused for good · 2 usage · 3 part of a batch failed · 4 not logged in or
forbidden · 5 unknown or unreachable, safe to repeat with the same --once · 6 waited, nothing came ·
130 interrupted.

\b
Completion of commands and options, here for bash (also: zsh_source, fish_source):
  eval "$(_CHAT_COMPLETE=bash_source chat)"
""",
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Messages for people and scripts: on disk before you are told OK, kept until they are read.

    A command's own help has examples: chat send --help
    """
    options_of(ctx)


def main() -> NoReturn:
    """The entry point of both names of the command."""
    name = sys.argv[0].rpartition(os.sep)[2]
    try:
        cli.main(prog_name=name if name in ("chat", "restante") else "chat")
    except SystemExit as end:
        _leave_at_once(end)
        raise


def _leave_at_once(end: SystemExit) -> None:
    """End the process without taking the interpreter apart, which is a tenth of a command's time and changes nothing:
    what was opened is closed, what was written is flushed. Where that isn't sure, do nothing.
    """
    if not isinstance(end.code, int) or threading.active_count() > 1:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # full, gone, closed, or never there
        return
    os._exit(end.code)


if __name__ == "__main__":
    main()
