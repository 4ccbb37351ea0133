"""A backup becomes the data of a server again.

    verify ─▶ lock the data ─▶ copy beside the places, sync, adopt ─▶ mark ─▶ old files aside ─▶ rename ─▶ unmark

Until the mark nothing is changed; while it stands `chat serve` refuses to start; after it the restore is whole. What
was there is moved aside, never deleted. *Adopt* gives the store a new history and lets numbers leap
(`store_worker.backup`, `auth_service.backup`): clients with an old cursor are told `history_changed` and begin anew.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from client_cli import datadir, exits
from client_cli.backups import DATABASES, Manifest, copy_file, examine, sync, verify
from client_cli.exits import Advice, Failure
from restante.files import write_private
from runtime.control import BackupFailed, Hello, Unanswered, ask
from runtime.errors import SetupError
from runtime.supervisor import take_lock

STAGED: Final = ".restoring"
"""What a file's name ends in until all are there."""

HELLO_S: Final = 3.0
"""How long a control socket that takes connections may take to say that it is there."""

_WAL: Final = ("", "-wal", "-shm", "-journal")
"""A database's files: an old log beside a new database would damage it."""

_NOT_DONE: Final = Advice(exits.REFUSED, "Nothing was changed.", "")
_FORCE: Final = Advice(exits.REFUSED, "Nothing was changed.", "--force moves what is there aside, and restores.")


def restore(directory: Path, data: Path, *, force: bool) -> tuple[Manifest, list[Path]]:
    """Make a backup the data of a server that does not run; also where what was there has gone. Raises Failure."""
    manifest = verify(directory)
    try:
        lock = take_lock(data / datadir.LOCK)
    except SetupError as error:
        raise Failure(str(error), _NOT_DONE, "in_use") from error
    try:
        _see_that_nobody_serves(data)
        return manifest, _put_in_place(directory, data, manifest, force=force)
    finally:
        os.close(lock)


def _put_in_place(directory: Path, data: Path, manifest: Manifest, *, force: bool) -> list[Path]:
    """With the lock held. Returns where what was there has gone."""
    places = _places(directory, data, manifest)
    old = [path for path in _there(data) if not _same_key(directory, data, path)]
    if old and not force:
        raise Failure(f"{old[0]} is there already", _FORCE, "exists")
    try:
        _stage(places)
        for service, name in DATABASES.items():
            examine("adopt", service, staged(place_of(data, name)), _NOT_DONE)
    except BaseException:
        for place in places.values():
            staged(place).unlink(missing_ok=True)
        raise
    write_private(data / datadir.RESTORING, f"{directory}\n".encode())
    aside = _move_aside(data, old)
    for place in places.values():
        staged(place).rename(place)
    for folder in {place.parent for place in places.values()}:
        sync(folder)
    (data / datadir.RESTORING).unlink()
    sync(data)
    return aside


def _places(directory: Path, data: Path, manifest: Manifest) -> dict[Path, Path]:
    """Where each file of the backup goes; keys that are there already go nowhere."""
    places = {directory / name: place_of(data, name) for name in manifest.files}
    return {source: place for source, place in places.items() if not _same_key(directory, data, place)}


def _same_key(directory: Path, data: Path, place: Path) -> bool:
    """Whether a file of keys is there just as the backup has it."""
    name = place.relative_to(data)
    source = directory / name
    return name.parts[0] == "keys" and place.exists() and source.exists() and source.read_bytes() == place.read_bytes()


def place_of(data: Path, name: str) -> Path:
    """Where a backup's file lies in the data."""
    service = next((service for service, database in DATABASES.items() if database == name), None)
    return data / name if service is None else data / service / name


def staged(place: Path) -> Path:
    """Where a file waits until all are there: beside its place, which may be a volume of its own."""
    return place.with_name(place.name + STAGED)


def _stage(places: dict[Path, Path]) -> None:
    for source, place in places.items():
        staged(place).unlink(missing_ok=True)  # of a restore that was killed
        copy_file(source, staged(place))


def _see_that_nobody_serves(data: Path) -> None:
    """Services in containers hold no lock on the data directory; their control sockets are there. Raises Failure."""
    for service in DATABASES:
        with contextlib.suppress(Unanswered, BackupFailed):
            ask(datadir.control_endpoint(datadir.run_of(data, service), service), Hello(), silence_s=HELLO_S)
            raise Failure(f"The {service} over {data} runs. Stop the server first", _NOT_DONE, "in_use")


def _there(data: Path) -> list[Path]:
    """Files that the restored ones would take the place of, or would be read beside them."""
    databases = [data / service / f"{name}{end}" for service, name in DATABASES.items() for end in _WAL]
    keys = [path for role in datadir.SERVICES for path in sorted((data / "keys" / role).glob("self.*"))]
    peers = [path for role in datadir.SERVICES for path in sorted((data / "keys" / role / "peers").glob("*.pub"))]
    return [path for path in [*databases, *keys, *peers] if path.exists() and path.suffix != STAGED]


def _move_aside(data: Path, old: list[Path]) -> list[Path]:
    """Into a folder in each service's own directory, named after the time. Returns those folders."""
    stamp = time.strftime("before-restore-%Y%m%dT%H%M%SZ", time.gmtime())
    folders: dict[Path, Path] = {}
    for path in old:
        depth = 2 if path.relative_to(data).parts[0] == "keys" else 1
        home = data.joinpath(*path.relative_to(data).parts[:depth])
        if home not in folders:
            folders[home] = _new_folder(home / stamp)
        aside = folders[home] / path.relative_to(home)
        aside.parent.mkdir(mode=0o700, exist_ok=True)
        path.rename(aside)
    for folder in {path.parent for path in old} | set(folders.values()):
        sync(folder)
    return list(folders.values())


def _new_folder(wanted: Path) -> Path:
    number, folder = 1, wanted
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    folder.mkdir(mode=0o700)
    return folder
