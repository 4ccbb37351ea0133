"""Start a store: `python -P -m store_worker`."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from runtime import settings as runtime_settings
from runtime.errors import SetupError
from runtime.logging import configure
from store_worker.journal import JournalError
from store_worker.service import running
from store_worker.settings import Settings
from store_worker.sqlite import SqliteJournal

PROG = "store"

GC_THRESHOLD = 50_000
"""What a commit makes dies with it, by reference counting: looking for cycles in it costs 12 % and finds none."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit code."""
    settings = runtime_settings.load(Settings, PROG, sys.argv[1:] if argv is None else argv, os.environ)
    configure(PROG, level=settings.log_level)
    try:
        journal = SqliteJournal(settings.database)
    except JournalError as error:
        return runtime_settings.fail(PROG, error)
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    try:
        with running(settings, journal) as service:
            finished = service.run()
    except (SetupError, JournalError) as error:
        return runtime_settings.fail(PROG, error)
    journal.close()
    return 0 if finished else 1


if __name__ == "__main__":
    sys.exit(main())
