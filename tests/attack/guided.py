"""Every decoder under atheris (libFuzzer): it sees which branches an input reaches, and looks for those it hasn't seen.

    python -m tests.attack.guided -max_total_time=60

atheris has no wheel for every Python that Restante runs on, so it is in no lock: `make fuzz-guided` installs it.
msgpack's and msgspec's C code is not instrumented; what is, is ours.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

from restante.wire import codec
from restante.wire.errors import RemoteProtocolError
from tests.attack.house import READERS
from tests.attack.mutate import vectors

DIRECTIONS = list(READERS)


def one_input(data: bytes) -> None:
    """The first byte chooses the decoder, the second where the header ends; the first frame is the right one."""
    if len(data) < 2:
        return
    direction = DIRECTIONS[data[0] % len(DIRECTIONS)]
    header, body = data[2:], b""
    if data[1] & 1:
        header, body = header[: data[1]], header[data[1] :]
    try:
        READERS[direction].read([vectors()[direction][0][0], header, body])
    except RemoteProtocolError:
        return


def corpus(folder: Path) -> None:
    """The vectors, as inputs of `one_input`."""
    for at, direction in enumerate(DIRECTIONS):
        for number, frames in enumerate(vectors()[direction]):
            if len(frames) > 1:
                (folder / f"{at}-{number}").write_bytes(bytes([at, 0]) + frames[1])


def main() -> None:
    atheris = importlib.import_module("atheris")
    for function in (codec.Reader.read, codec.Reader.read_header, codec.Reader._other_protocol, codec._unfit):
        atheris.instrument_func(function)
    with tempfile.TemporaryDirectory() as folder:
        corpus(Path(folder))
        atheris.Setup([*sys.argv, folder], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
