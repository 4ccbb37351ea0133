"""Adds vectors to schemas/vectors: frames as bytes, with their meaning as JSON.

    python -m tools.vectors            adds what is named in this folder and not there yet
    python -m tools.vectors --list     names what is there

A vector that exists is never written again: it is what other implementations were tested with. If an encoder
begins to write other bytes, tests turn red, and this does not make them green. The form: schemas/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.vectors import client, links, malformed, strings
from tools.vectors.form import Vector, written

FOLDER = Path(__file__).resolve().parents[2] / "schemas" / "vectors"

TOPICS: dict[str, Callable[[], Iterator[Vector]]] = {
    "session": client.session,
    "sending": client.sending,
    "reading": client.reading,
    "errors": client.errors,
    "leniency": client.leniency,
    "malformed": malformed.malformed,
    "auth_link": links.auth_link,
    "store_link": links.store_link,
    "ids": strings.ids,
    "addresses": strings.addresses,
}


def main(arguments: list[str] | None = None) -> int:
    """Add what is missing; the exit code."""
    parser = argparse.ArgumentParser(description="Add vectors to schemas/vectors; those that are there stay.")
    parser.add_argument("--list", action="store_true", help="name the vectors that are there, and write nothing")
    listing = parser.parse_args(arguments).list
    for topic, vectors in TOPICS.items():
        path = FOLDER / f"{topic}.json"
        held: list[Vector] = json.loads(path.read_text("utf-8")) if path.exists() else []
        names = {vector["name"] for vector in held}
        missing = [vector for vector in vectors() if vector["name"] not in names]
        if listing:
            print(*(f"{topic}: {name}" for name in sorted(names)), sep="\n")
        elif missing:
            path.write_text(written(held + missing), "utf-8")
            print(f"{topic}: {len(missing)} added")
    return 0


if __name__ == "__main__":
    sys.exit(main())
