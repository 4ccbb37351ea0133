"""What all commands have in common: their options, where a client comes from, and how they speak.

An option may stand before the command or after it: `chat --json inbox` and `chat inbox --json` are the same. Only
these have a variable (`CHAT_ADDRESS`, `CHAT_PROFILE`, `CHAT_TOKEN`, `CHAT_TOKEN_FILE`, `CHAT_TIMEOUT`), which the
library reads: a flag's own variable would be set by accident (Kubernetes' `CHAT_PORT`, a handler's `CHAT_ID`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any

import click

from client_cli import exits

if TYPE_CHECKING:
    from restante.client import Client
    from restante.settings import Settings


class Options:
    """The common options as given; None means that the library's own order of sources decides."""

    def __init__(self, prog: str = "chat") -> None:
        self.prog = prog
        self.command = ""
        """The command's name, once it runs."""
        self.address: str | None = None
        self.profile: str | None = None
        self.timeout_s: float | None = None
        self.json = False
        self.quiet = False
        self.no_input = False

    def settings(self) -> Settings:
        """What the options, the environment, the profile and the files come to. Raises Failure, SettingsError."""
        from restante.settings import read_settings

        settings = read_settings(self.address, profile=self.profile, timeout_s=self.timeout_s)
        if settings.address is None:
            raise exits.Failure("No server was named, and none runs on this machine.", exits.NO_ADDRESS, "no_address")
        return settings

    def connect(self) -> Client:
        """A client; it connects when it is first asked something. Raises Failure, SettingsError."""
        from restante import __version__
        from restante.client import Client

        self.settings()
        name = f"chat {__version__}"
        return Client(self.address, profile=self.profile, timeout_s=self.timeout_s, client_name=name)

    @property
    def chat(self) -> str:
        """How to call the command so that it speaks with the same server as the same person."""
        return self.without_profile + (f" --profile {self.profile}" if self.profile else "")

    @property
    def without_profile(self) -> str:
        """The same, as whoever."""
        return self.prog + (f" --address {self.address}" if self.address else "")

    def say(self, text: str) -> None:
        """Tell the person something that is not data, unless they want quiet."""
        if not self.quiet:
            click.echo(text, err=True)

    def may_ask(self) -> bool:
        """Whether a question would be answered by somebody."""
        return not self.no_input and is_terminal(sys.stdin)


def is_terminal(stream: IO[Any]) -> bool:
    """Whether a person sits at the stream's other end; a closed stream, or None, has nobody."""
    try:
        return stream.isatty()
    except (ValueError, AttributeError):
        return False


def is_lively(stream: IO[Any]) -> bool:
    """Whether the stream may be drawn on: a terminal that is not dumb."""
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def is_colourful(stream: IO[Any]) -> bool:
    """Whether the stream may have colours: lively, and nobody has said NO_COLOR."""
    return is_lively(stream) and not os.environ.get("NO_COLOR")


def _note(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Keep what was given, wherever it stood; what was not given overrules nothing."""
    options = ctx.ensure_object(Options)
    if value is not None and value is not False:
        setattr(options, str(param.name), value)


def _profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The profiles there are that begin so."""
    from restante.places import in_user_config

    try:
        files = os.listdir(in_user_config("profiles"))  # noqa: PTH208 - pathlib would cost every command
    except OSError:
        return []
    names = sorted(name.removesuffix(".json") for name in files if name.endswith(".json") and name[0] != ".")
    return [name for name in names if name.startswith(incomplete)]


def common_options() -> list[click.Parameter]:
    """The options that every command takes."""

    def flag(*names: str, help: str) -> click.Option:
        return click.Option(names, is_flag=True, default=False, expose_value=False, callback=_note, help=help)

    def value(
        *names: str,
        kind: click.ParamType[Any] | None = None,
        metavar: str,
        complete: Callable[[click.Context, click.Parameter, str], list[str]] | None = None,
        help: str,
    ) -> click.Option:
        return click.Option(
            names,
            type=kind,
            metavar=metavar,
            default=None,
            expose_value=False,
            callback=_note,
            shell_complete=complete,
            help=help,
        )

    return [
        value("--address", metavar="ADDR", help="The server, as `chat address` prints it. [CHAT_ADDRESS]"),
        value("--profile", metavar="NAME", complete=_profiles, help="Whose login and server to use. [CHAT_PROFILE]"),
        value(
            "--timeout",
            "timeout_s",
            kind=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="How long to wait for the server, 30 unless told otherwise. [CHAT_TIMEOUT]",
        ),
        flag("--json", help="Data as JSON, one object a line."),
        flag("-q", "--quiet", help="Say nothing but data and errors."),
        flag("--no-input", help="Never ask; fail instead."),
    ]


class Helpful(click.Command):
    """Its `--help` is as click makes it, but for the search for translations: 2 % of a command's time."""

    _own_help: click.Option | None = None

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        names = self.get_help_option_names(ctx)
        if self._own_help is None and names:
            self._own_help = telling_option(*names, help="Show this message and exit.", tell=click.Context.get_help)
        return self._own_help


def telling_option(*names: str, help: str, tell: Callable[[click.Context], str]) -> click.Option:
    """An option that tells something instead of running the command."""

    def told(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            click.echo(tell(ctx), color=ctx.color)
            ctx.exit()

    return click.Option(names, is_flag=True, is_eager=True, expose_value=False, callback=told, help=help)


class ChatCommand(Helpful):
    """A command with the common options, which its help shows apart from its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._common = common_options()
        self.params.extend(self._common)

    def invoke(self, ctx: click.Context) -> Any:
        options_of(ctx).command = str(ctx.info_name)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [one for one in self.get_params(ctx) if one not in self._common and isinstance(one, click.Option)]
        for title, params in (("Options", own), ("Common options", self._common)):
            _write_options(ctx, formatter, title, params)


def _write_options(
    ctx: click.Context, formatter: click.HelpFormatter, title: str, params: Sequence[click.Parameter]
) -> None:
    records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
    if records:
        with formatter.section(title):
            formatter.write_dl(records)


def options_of(ctx: click.Context) -> Options:
    """The common options of a command that runs."""
    return ctx.ensure_object(Options)
