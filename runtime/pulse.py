"""A service's pulse: a file that a turning loop touches, and the command that feels for it.

A process can live while its loop is stuck. Where something outside asks for health (a container's HEALTHCHECK), the
age of this file answers for the loop itself::

    python -P -m store_worker … --pulse /tmp/pulse
    python -P -m runtime.pulse /tmp/pulse        exit 0 if it beat within the last seconds
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

BEAT_S = 1.0
"""Between two touches."""

SILENCE_S_MAX = 10.0
"""A pulse older than this is none: the longest commit or drain takes a fraction of it."""


class Pulse:
    """Touches `path`, at most every BEAT_S."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.beat_at = 0.0
        """When the next touch is due."""

    def beat(self, now: float) -> None:
        """The loop turns, at monotonic `now`. A full disk stops a pulse, and no service."""
        if now < self.beat_at:
            return
        self.beat_at = now + BEAT_S
        with contextlib.suppress(OSError):
            self._path.touch(mode=0o644)


def pulse_at(path: Path | None) -> Pulse | None:
    """A pulse, where a place for it was given."""
    return None if path is None else Pulse(path)


def age_s(path: Path) -> float | None:
    """Seconds since the last beat, None if there was none."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 if the service beats, 1 with a sentence if not, 2 for a wrong call."""
    given = sys.argv[1:] if argv is None else argv
    if len(given) != 1:
        sys.stderr.write("usage: python -P -m runtime.pulse FILE\n")
        return 2
    age = age_s(Path(given[0]))
    if age is not None and age <= SILENCE_S_MAX:
        return 0
    sys.stderr.write(f"{given[0]}: {'no beat yet' if age is None else f'the last beat was {age:.0f} s ago'}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
