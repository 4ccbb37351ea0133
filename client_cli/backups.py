"""A server's backup: a directory that is whole, or isn't there.

    DIR/manifest.json    what is in it: when, of which history, how much, and every file's size and SHA-256
    DIR/restante.db      the messages, as one file that needs no log beside it
    DIR/accounts.db      the accounts and tokens
    DIR/keys/…           every service's keys, so that a restored server has the same address

It is made as DIR.partial, which gets its name when all of it is on disk. The messages are copied first, the accounts
after them: accounts are never taken away, so every account that a message names is there.

It is the services that write the databases' copies, straight into DIR.partial. A service in a container doesn't see
that, nor may it: there lie the other's data, and every key. It writes into its own directory; the copy is collected.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from client_cli import datadir, exits
from client_cli.exits import Advice, Failure
from runtime.control import BackUp, BackupFailed, Done, Facts, Progress, Refused, Unanswered, ask, parse_reply
from runtime.errors import SetupError
from runtime.supervisor import take_lock

FORMAT: Final = "restante-backup"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
PARTIAL: Final = ".partial"

DATABASES: Final = {"store": "restante.db", "auth": "accounts.db"}
"""A service's file, in a backup and in its own directory of the data."""

MODULES: Final = {"store": "store_worker.backup", "auth": "auth_service.backup"}
"""What reads a service's file: run as a process, since the command imports no service."""

OnProgress: TypeAlias = Callable[[str, Progress], None]
"""Hears which service is copying, and how far it is."""

_KEY_FILE: Final = re.compile(r"keys/(broker|auth|store)/(self\.key|self\.pub|peers/[A-Za-z0-9_-][A-Za-z0-9._-]*\.pub)")

NOT_MADE: Final = Advice(exits.REFUSED, "No backup was made, and nothing was changed.", "")
NOT_RUNNING: Final = Advice(exits.UNKNOWN, "No backup was made, and nothing was changed.", "Start it, or give --data.")
NOT_SOUND: Final = Advice(exits.REFUSED, "Nothing was changed.", "Use another backup.")


class File(Struct, frozen=True):
    """One file of a backup."""

    bytes: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup says of itself."""

    format: str
    version: int
    restante: str
    """The version of Restante that made it."""
    taken_at: str
    """When it was begun, ISO 8601 in UTC: all that was accepted before is in it."""
    store: Facts
    accounts: Facts
    files: dict[str, File]

    @property
    def bytes(self) -> int:
        """Its size."""
        return sum(file.bytes for file in self.files.values())


# --- making one -------------------------------------------------------------------------------------------


def make(data: Path, directory: Path, on_progress: OnProgress) -> Manifest:
    """Back up the server that runs over `data`. Raises Failure, and then leaves nothing behind."""
    partial = directory.with_name(directory.name + PARTIAL)
    if directory.exists() or directory.is_symlink():
        raise Failure(f"{directory} exists: a backup overwrites nothing.", NOT_MADE, "exists")
    for service in DATABASES:
        _see_that_it_is_ours(data, service)
    _make_partial(partial)
    try:
        manifest = _fill(partial, data, on_progress)
        partial.rename(directory)
        sync(directory.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def _fill(partial: Path, data: Path, on_progress: OnProgress) -> Manifest:
    from client_cli.render import iso_time
    from restante import __version__

    begun_us = time.time_ns() // 1_000
    store, accounts = (_copied(data, service, partial, on_progress) for service in ("store", "auth"))
    for source in sorted((data / "keys").rglob("*")):
        relative = source.relative_to(data)
        if source.is_file() and _KEY_FILE.fullmatch(relative.as_posix()):
            copy_file(source, partial / relative)
    files = {path.relative_to(partial).as_posix(): _file(path) for path in sorted(partial.rglob("*")) if path.is_file()}
    manifest = Manifest(
        format=FORMAT,
        version=VERSION,
        restante=__version__,
        taken_at=str(iso_time(begun_us)),
        store=store,
        accounts=accounts,
        files=files,
    )
    _write_manifest(partial, manifest)
    for folder in [partial, *(path for path in partial.rglob("*") if path.is_dir())]:
        sync(folder)
    return manifest


def _copied(data: Path, service: str, partial: Path, on_progress: OnProgress) -> Facts:
    """Have a service copy its database. Raises Failure."""
    run, target = datadir.run_of(data, service), partial / DATABASES[service]
    if not datadir.shares_nothing(data, service):
        return _written(run, service, target, on_progress)
    with _handing_over(run) as folder:
        facts = _written(run, service, folder / target.name, on_progress)
        copy_file(folder / target.name, target)
    return facts


@contextlib.contextmanager
def _handing_over(run: Path) -> Iterator[Path]:
    """A folder in the service's own directory, for one copy; what a killed backup left there goes. Raises Failure."""
    folder = run / "handover"
    try:
        lock = take_lock(run / "handover.lock", wait_s=0)
    except SetupError as error:
        raise Failure("Another backup is being made. Try again when it is done", NOT_MADE, "busy") from error
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _written(run: Path, service: str, path: Path, on_progress: OnProgress) -> Facts:
    """Have a service write its copy at a path that it sees as we do. Raises Failure."""
    endpoint, request = datadir.control_endpoint(run, service), BackUp(str(path))
    try:
        return ask(endpoint, request, on_progress=lambda progress: on_progress(service, progress))
    except Unanswered as error:
        raise Failure(f"The server's {service} does not answer: {error}", NOT_RUNNING, "unreachable") from error
    except BackupFailed as failed:
        raise Failure(failed.text, NOT_MADE, failed.code) from failed


def _see_that_it_is_ours(data: Path, service: str) -> None:
    """Raises Failure if there is no server, or if it is another user's."""
    try:
        found = datadir.run_of(data, service).stat()
    except FileNotFoundError:
        raise Failure(f"No server runs over {data}", NOT_RUNNING, "unreachable") from None
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        text = (
            f"The server over {data} is run by user {found.st_uid}. Run this command as that user, who writes the files"
        )
        raise Failure(text, NOT_MADE, "forbidden")


def _make_partial(partial: Path) -> None:
    try:
        partial.mkdir(mode=0o700)
    except FileExistsError:
        text = f"{partial} exists: another backup is being made there, or one was killed. If none is, remove it"
        raise Failure(text, NOT_MADE, "exists") from None


def _write_manifest(partial: Path, manifest: Manifest) -> None:
    path = partial / MANIFEST
    with path.open("xb") as file:
        path.chmod(0o600)
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())


# --- reading one ------------------------------------------------------------------------------------------


def verify(directory: Path) -> Manifest:
    """Read a backup through, every byte against its hash and every index against its table. Raises Failure."""
    manifest = read_manifest(directory)
    for name, file in manifest.files.items():
        path = directory / name
        try:
            sound = stat.S_ISREG(path.lstat().st_mode) and _file(path) == file
        except FileNotFoundError:
            raise Failure(f"{directory} is no whole backup: {name} is missing", NOT_SOUND, "damaged") from None
        if not sound:
            raise Failure(f"{path} is damaged: it is not what the manifest says", NOT_SOUND, "damaged")
    checked = {service: examine("check", service, directory / name, NOT_SOUND) for service, name in DATABASES.items()}
    if checked != {"store": manifest.store, "auth": manifest.accounts}:
        raise Failure(f"{directory} is damaged: it holds other than its manifest says", NOT_SOUND, "damaged")
    if int(checked["store"]["account_max"]) > int(checked["auth"]["account_max"]):
        text = f"The messages in {directory} are newer than its accounts: they name accounts that it does not know"
        raise Failure(text, NOT_SOUND, "damaged")
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """What a backup says of itself. Raises Failure if it is none, or of a form that this version doesn't know."""
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise Failure(f"{directory} is no whole backup: it has no {MANIFEST}", NOT_SOUND, "damaged") from None
    except ValueError as error:
        raise Failure(f"{directory / MANIFEST} is damaged: {error}", NOT_SOUND, "damaged") from None
    if manifest.format != FORMAT or manifest.version > VERSION:
        form = f"{manifest.format} {manifest.version}"
        text = f"{directory} is a backup of the form {form!r}, and this version reads '{FORMAT} {VERSION}'"
        raise Failure(text, NOT_SOUND, "too_new")
    needed = {*DATABASES.values(), "keys/broker/self.key"}
    foreign = sorted(name for name in manifest.files if not (name in needed or _KEY_FILE.fullmatch(name)))
    missing = sorted(needed - set(manifest.files))
    if foreign or missing:
        text = f"it names {foreign[0]!r}, which no backup has" if foreign else f"it does not name {missing[0]}"
        raise Failure(f"{directory / MANIFEST} is damaged: {text}", NOT_SOUND, "damaged")
    return manifest


def examine(what: str, service: str, path: Path, advice: Advice) -> Facts:
    """Have a service's own module "check" or "adopt" its file, in a process of its own. Raises Failure."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", MODULES[service], what, str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    try:
        reply = parse_reply(done.stdout)
    except ValueError:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise Failure(f"{path} can't be read: {last or done.returncode}", advice, "internal") from None
    if isinstance(reply, Refused):
        raise Failure(reply.text, advice, reply.code)
    assert isinstance(reply, Done), "these processes report no progress"
    return reply.facts


# --- files ------------------------------------------------------------------------------------------------


def copy_file(source: Path, target: Path) -> None:
    """Copy a file durably into a new one, for this user alone unless it is a public key. Raises OSError."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = 0o644 if ".pub" in target.suffixes else 0o600
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as written, source.open("rb") as read:
        os.fchmod(written.fileno(), mode)
        shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())


def sync(folder: Path) -> None:
    """Make a folder's names durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file(path: Path) -> File:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return File(bytes=file.tell(), sha256=digest)
