"""A process that stores batches of 500 until it is killed, and says after each that it is stored."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from store_worker.sqlite import SqliteJournal
from tests.unit.store_worker.making import message, send


def main() -> None:
    path, first = Path(sys.argv[1]), int(sys.argv[2])
    journal = SqliteJournal(path)
    journal.start()
    for batch in count(first):
        send(journal, *(message(number) for number in range(batch * 500 + 1, batch * 500 + 501)))
        print(batch + 1, flush=True)


if __name__ == "__main__":
    main()
