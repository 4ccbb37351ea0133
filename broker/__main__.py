"""`python -P -m broker`: one broker, until it is told to stop."""

from __future__ import annotations

import gc
import os
import sys

from broker.service import running
from broker.settings import Settings
from runtime import logging, settings
from runtime.errors import SetupError

GC_THRESHOLD = 50_000
"""What an envelope makes dies with its answer, by reference counting: looking for cycles in it costs a seventh of all
that the broker does, and finds none."""


def main() -> int:
    """Run a broker; return the exit code: 0 after a wished stop, else another, with the reason on stderr."""
    given = settings.load(Settings, "broker", sys.argv[1:], os.environ)
    logging.configure("broker", level=given.log_level)
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    try:
        with running(given) as service:
            reason = service.run()
    except SetupError as error:
        return settings.fail("broker", error)
    if reason:
        logging.get_logger().error("ended", why=reason)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
