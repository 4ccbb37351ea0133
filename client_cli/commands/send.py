"""`chat send`: one message to one list of recipients, or a batch of lines."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final, NoReturn

import click

from client_cli import exits
from client_cli.options import ChatCommand, Options, is_terminal, options_of
from client_cli.output import CantWrite, Output
from client_cli.stdin import stdin
from restante.wire.errors import IdConflict, OutcomeUnknown
from restante.wire.ids import once_id, read_id, show_id, uuid7
from restante.wire.limits import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from restante.messages import Receipt

BYTES: Final = "application/octet-stream"
"""The type of what isn't UTF-8: Latin-1 from a cron job at 3 a.m. must not kill an alert."""


class SendCommand(ChatCommand):
    """Says what to do about a message that begins with a dash, which looks like an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = "If it is the message, give it with -m: chat send TO -m '-…'"
            raise click.UsageError(f"{error.format_message()} {hint}", ctx) from None

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", "TO[,TO…]", "[MESSAGE]"]


@click.command(
    "send",
    cls=SendCommand,
    epilog="""\b
Examples:
  chat send bob "lunch?"
  chat send bob,eve -m "-1 degrees"
  make 2>&1 | chat send bob
  chat send ops "backup done" --once "backup-$(date +%F)"   # repeated, it is stored once
  chat send --batch lines.jsonl                             # {"to": "bob", "body": "hi", "once": "k1"}
  while read -r line; do chat send bob "$line"; done        # without a message, send would eat the loop's lines
""",
)
@click.argument("to", required=False, default=None)
@click.argument("words", nargs=-1)
@click.option("-m", "--message", "text", metavar="TEXT", default=None, help="The message; it may begin with a dash.")
@click.option("--once", metavar="KEY", default=None, help="Stored once, however often it is sent with this key.")
@click.option("--content-type", metavar="TYPE", default=None, help="A media type, where it isn't plain text.")
@click.option("--reply-to", metavar="ID", default=None, help="The message that this one answers.")
@click.option("--skip-empty", is_flag=True, default=False, help="Send nothing, and succeed, if there is no content.")
@click.option("--batch", metavar="FILE", default=None, help="Send a line of JSON each; - is stdin.")
@click.pass_context
def command(
    ctx: click.Context,
    to: str | None,
    words: tuple[str, ...],
    text: str | None,
    once: str | None,
    content_type: str | None,
    reply_to: str | None,
    skip_empty: bool,
    batch: str | None,
) -> int:
    """Send a message, and print its id: it is then on the server's disk.

    Recipients are one list, separated by commas. The message is one argument; without it, it is read from stdin
    to its end. With --batch every line is a message: {"to": "bob" or ["bob","eve"], "body": "…", "once"?: "…"};
    the ids of those accepted are printed, or with --json what became of each line.
    """
    options = options_of(ctx)
    if batch is not None:
        if to is not None or text is not None or once is not None:
            raise click.UsageError("With --batch, recipients, messages and keys stand in its lines.")
        from client_cli.batch import send_batch

        return send_batch(options, batch)
    if to is None:
        raise click.UsageError("To whom? Give a recipient, or several: chat send bob,eve MESSAGE")
    names = recipients(to)
    _check_words(options, to, words, text)
    once = _checked_once(once)
    answered = _checked_id(reply_to)
    body = _content(options, text if text is not None else words[0] if words else None)
    if not body:
        return _empty(options, skip_empty)
    return _send(options, names, body, once, content_type or _type_of(body), answered)


def recipients(to: str) -> list[str]:
    """The names of a list such as `bob,eve`, each once. Raises click.UsageError for an empty one."""
    names = [name.strip() for name in to.split(",")]
    if not all(names):
        raise click.UsageError(f"{to!r} has an empty name. Recipients are separated by single commas: bob,eve")
    return list(dict.fromkeys(names))


def _check_words(options: Options, to: str, words: tuple[str, ...], text: str | None) -> None:
    if text is not None and words:
        raise click.UsageError("The message is given twice, with -m and as an argument. Nothing was sent.")
    if len(words) > 1:
        import shlex

        whole = f"  {options.chat} send {shlex.quote(to)} {shlex.quote(' '.join(words))}"
        list_ = f"  {options.chat} send {shlex.quote(','.join([to, *words[:-1]]))} {shlex.quote(words[-1])}"
        raise click.UsageError(
            f"One list of recipients and one message, please. Nothing was sent. If it is one message:\n{whole}\n"
            f"If it is for several people:\n{list_}"
        )


def _checked_once(once: str | None) -> str | None:
    if once is not None:
        try:
            once_id(0, once)
        except ValueError as error:
            from client_cli.telling import sentence

            raise click.UsageError(f"{sentence(str(error))} Nothing was sent.") from None
    return once


def _checked_id(text: str | None) -> bytes | None:
    try:
        return None if text is None else read_id(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is not a message's id. Nothing was sent.") from None


def _content(options: Options, given: str | None) -> bytes:
    """The message's bytes. Where one was given stdin is not touched: a `while read` loop around us needs it."""
    if given is not None:
        return os.fsencode(given)
    if is_terminal(sys.stdin):
        if options.no_input:
            raise click.UsageError("There is no message, and nobody can be asked. Nothing was sent.")
        options.say("Type the message, and end it with Ctrl-D on a line of its own.")
    body = stdin().read(MESSAGE_BYTES_MAX + 1)
    if len(body) > MESSAGE_BYTES_MAX:
        raise exits.Failure(
            f"What stands on stdin is more than {MESSAGE_BYTES_MAX:,} bytes.",
            exits.ADVICE["body_too_large"],
            "body_too_large",
        )
    return body


def _empty(options: Options, skip: bool) -> int:
    if not skip:
        raise click.UsageError("The message is empty. Nothing was sent. (--skip-empty makes that a success.)")
    options.say("The message is empty: nothing was sent, as --skip-empty wants it.")
    return exits.DONE


def _type_of(body: bytes) -> str | None:
    try:
        body.decode()
    except UnicodeDecodeError:
        return BYTES
    return None


def _send(
    options: Options,
    names: list[str],
    body: bytes,
    once: str | None,
    content_type: str | None,
    reply_to: bytes | None,
) -> int:
    # The id is ours before anything is asked: whatever happens then, we can say which message it happened to.
    own_id = None if once is not None else uuid7(time.time_ns() // 1000, os.urandom(10))
    with options.connect() as client:
        try:
            receipt = client.send(names, body, once=once, id=own_id, content_type=content_type, reply_to=reply_to)
        except OutcomeUnknown as error:
            _unknown(options, error.message_id or own_id, once, str(error))
        except IdConflict as error:
            if once is None:
                raise
            from client_cli.telling import taken

            raise exits.Failure(taken(once), exits.advice_for(error), error.code) from None
        except KeyboardInterrupt:
            click.echo(f"Whether the message was sent is not known. {_find_out(options, own_id, once)}", err=True)
            return exits.INTERRUPTED
    try:
        _print(options, Output(), receipt)
    except CantWrite as error:
        # What was wanted has happened: a script that took this for a failure would send it twice.
        click.echo(f"Sent, and stored; the id {receipt.id_text} could not be written: {error.reason}.", err=True)
    return exits.DONE


def _print(options: Options, output: Output, receipt: Receipt) -> None:
    if options.json:
        from client_cli.render import iso_time, json_line

        record = {
            "id": receipt.id_text,
            "seq": receipt.seq,
            "stored_at": iso_time(receipt.stored_at_us),
            "again": receipt.again,
        }
        output.write(json_line(record))
    elif not options.quiet:
        output.write(f"{receipt.id_text}\n")


def _unknown(options: Options, message_id: bytes | None, once: str | None, why: str) -> NoReturn:
    """End with 5: the id, and the command that finds out, on stderr (RULES 25)."""
    advice = exits.Advice(exits.UNKNOWN, exits.MAYBE_STORED, _find_out(options, message_id, once))
    raise exits.Failure(why, advice, "outcome_unknown")


def _find_out(options: Options, message_id: bytes | None, once: str | None) -> str:
    import shlex

    key = once or (message_id and show_id(message_id)) or "KEY"
    repeat = f"to repeat it safely, add --once {shlex.quote(key)}" if not once else "repeating the command is safe"
    if message_id is None:
        return f"{repeat[0].upper()}{repeat[1:]}."
    return f"Its id is {show_id(message_id)}. To find out: {options.chat} status {show_id(message_id)}; {repeat}."
