"""`chat send --batch`: lines of JSON in, one message each, streamed; a broken line keeps none of the others.

Lines are read as the server takes them, never the whole file. What became of each is told in the lines' order.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from client_cli import exits
from client_cli.ledger import Entry, Ledger, Totals
from client_cli.options import Options
from client_cli.output import CantWrite, Output
from client_cli.stdin import stdin
from restante.wire.errors import ChatError, IdConflict
from restante.wire.ids import show_id

if TYPE_CHECKING:
    from client_cli.progress import Progress
    from restante.messages import Outcome

FAILURES_SHOWN_MAX: Final = 100
"""Failed lines told one by one to a person; a million of them hide the sentence at the end."""

ENDING: Final = (exits.FORBIDDEN, exits.UNKNOWN)
"""Exits that end a batch: who isn't logged in isn't with the next line either, and a server that could not be reached
in the time allowed would cost each further line as much time again."""


class Report:
    """Tells what became of each line: the accepted ones' ids, or all as JSON, on stdout; the failures on stderr."""

    def __init__(self, options: Options, ledger: Ledger, progress: Progress | None) -> None:
        self._output = Output()
        self._json = options.json
        self._ids = not (options.json or options.quiet)
        self._ledger = ledger
        self._progress = progress
        self._shown = 0

    def broken(self) -> None:
        """Tell of the broken lines that are next in order. Raises CantWrite."""
        for entry in self._ledger.broken():
            self._failed(entry, "broken_line", entry.broken, "it was not sent")

    def outcome(self, outcome: Outcome) -> None:
        """Tell of an outcome, and of the broken lines before it.

        Raises Failure for one that ends the batch, CantWrite if nobody can be told.
        """
        self.broken()
        entry = self._ledger.settle(outcome)
        receipt = outcome.receipt
        if receipt is None:
            self._refused(entry, outcome)
        elif self._json:
            self._write(entry, ok=True, id=show_id(receipt.id), seq=receipt.seq, again=receipt.again)
        elif self._ids:
            self._output.write(f"{show_id(receipt.id)}\n")
        if self._progress is not None:
            self._progress.show(self._ledger.totals)

    def _refused(self, entry: Entry, outcome: Outcome) -> None:
        assert outcome.error is not None
        failure = exits.failure_of(outcome.error)
        text = failure.text
        if isinstance(outcome.error, IdConflict) and outcome.outgoing.once is not None:
            from client_cli.telling import taken

            text = taken(outcome.outgoing.once)
        if failure.advice.exit in ENDING:
            self._write_failed(entry, failure.code, text)
            raise failure  # which tells people of it
        self._failed(entry, failure.code, text, exits.data_of(failure.advice, "send", text))

    def _failed(self, entry: Entry, code: str, text: str, data: str) -> None:
        from client_cli.telling import sentence

        self._write_failed(entry, code, text)
        self._shown += 1
        if self._shown <= FAILURES_SHOWN_MAX:
            from client_cli.render import escape_line

            meaning = f" ({data[0].lower()}{data[1:].rstrip('.')})" if data else ""
            self._say(f"Line {entry.number}: {escape_line(sentence(text).rstrip('.'))}{meaning}.")
        elif self._shown == FAILURES_SHOWN_MAX + 1:
            self._say("More lines failed; only the first hundred are shown. --json tells of all.")

    def _write_failed(self, entry: Entry, code: str, text: str) -> None:
        if self._json:
            known = {} if entry.message_id is None else {"id": show_id(entry.message_id)}
            self._write(entry, ok=False, **known, error=code, text=text)

    def _write(self, entry: Entry, **fields: Any) -> None:
        from client_cli.render import json_line

        self._output.write(json_line({"line": entry.number, **fields}))

    def _say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.say(text)
        else:
            click.echo(text, err=True)


def send_batch(options: Options, path: str) -> int:
    """Send the lines of a file, `-` for stdin; the exit code. Raises click.UsageError if it can't be opened."""
    with _opened(path) as file:
        from client_cli.progress import progress_for

        ledger = Ledger()
        with progress_for(options, file) as progress:
            report = Report(options, ledger, progress)
            stopped = _stream(options, file, ledger, report)
    totals = ledger.totals
    if isinstance(stopped, KeyboardInterrupt):
        click.echo(_standing(totals, "Interrupted"), err=True)
        return exits.INTERRUPTED
    if stopped is not None:
        raise _ended_early(stopped, totals)
    options.say(_summary(totals) if totals.read else "There were no lines: nothing was sent.")
    return exits.PARTLY if totals.failed else exits.DONE


def _opened(path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if path == "-":
        return contextlib.nullcontext(stdin())
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise click.UsageError(f"The batch {path} can't be read: {error.strerror}. Nothing was sent.") from None


def _stream(
    options: Options, file: IO[bytes], ledger: Ledger, report: Report
) -> ChatError | exits.Failure | OSError | KeyboardInterrupt | None:
    """Send until the lines or the server are at an end; what stopped it, None if nothing did."""
    try:
        with options.connect() as client:
            for outcome in client.send_many(ledger.outgoing(file)):
                report.outcome(outcome)
            report.broken()
    except (ChatError, exits.Failure, OSError, KeyboardInterrupt) as error:
        return error
    return None


def _ended_early(error: ChatError | exits.Failure | OSError, totals: Totals) -> exits.Failure:
    """What a batch that was cut short ends with: why, and how things stand, which no table of errors knows."""
    if isinstance(error, CantWrite):
        code = exits.PARTLY if totals.failed else exits.REFUSED
        failure = exits.Failure(f"The results could not be written: {error.reason}", exits.Advice(code, "", ""))
    elif isinstance(error, OSError):
        failure = exits.Failure(f"The lines could not be read: {error.strerror}", exits.SYSTEM, "os_error")
    else:
        failure = error if isinstance(error, exits.Failure) else exits.failure_of(error)
    if not totals.read:
        return failure
    standing = _standing(totals, "The batch ended early")
    return exits.Failure(failure.text, failure.advice._replace(data=standing), failure.code)


def _summary(totals: Totals) -> str:
    again = f" ({totals.again:,} of them had been before)" if totals.again else ""
    failed = f", {totals.failed:,} failed" if totals.failed else ""
    return f"{totals.accepted:,} accepted{again}{failed}."


def _standing(totals: Totals, why: str) -> str:
    """What can be relied on when a batch was cut short, and how to go on."""
    from client_cli.render import count

    waiting = f", {totals.waiting:,} not known" if totals.waiting else ""
    text = f"{why}: {_summary(totals)[:-1]}{waiting}, of {count(totals.read, 'line')} read."
    if not totals.without_once:
        return f'{text} All of them carry "once": the same command can be repeated, and nothing is doubled.'
    return (
        f'{text} Repeating the command doubles no line that carries "once"; '
        "lines without it have a random id each, and would be sent as new messages."
    )
