"""Starts an authentication worker: `python -P -m auth_service --data DIR --broker ENDPOINT`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from auth_service.service import running
from auth_service.settings import PROG, Settings
from runtime import logging
from runtime.errors import SetupError
from runtime.settings import fail, load


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Returns the exit code: 1 if it can't start, or left something unanswered."""
    settings = load(Settings, PROG, sys.argv[1:] if argv is None else argv, os.environ)
    logging.configure("auth", level=settings.log_level)
    try:
        with running(settings) as service:
            return 0 if service.run() else 1
    except SetupError as error:
        return fail(PROG, error)


if __name__ == "__main__":
    sys.exit(main())
