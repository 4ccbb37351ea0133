"""A bar for a batch, on stderr and on a terminal only; elsewhere there is none, and rich isn't imported."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from client_cli.options import Options, is_colourful, is_lively, is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from client_cli.ledger import Totals


class Progress:
    """A bar of bytes read, where the file's size is known, and the numbers of lines accepted and failed."""

    def __init__(self, bar: Bar, task: TaskID, file: IO[bytes]) -> None:
        self._bar = bar
        self._task = task
        self._file = file

    def show(self, totals: Totals) -> None:
        self._bar.update(
            self._task,
            completed=self._file.tell() if self._file.seekable() else None,
            text=f"{totals.accepted:,} accepted, {totals.failed:,} failed",
        )

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress_for(options: Options, file: IO[bytes]) -> Iterator[Progress | None]:
    """A bar while a file is sent; None where nobody would see it, or where the results on stdout would break it."""
    if options.quiet or not is_lively(sys.stderr) or is_terminal(sys.stdout):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, no_color=not is_colourful(sys.stderr))
    columns = (BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        yield Progress(bar, bar.add_task("", total=_size(file), text="…"), file)


def _size(file: IO[bytes]) -> int | None:
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None
