"""Profiles: who may read them, and what is left when writing fails."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from restante.profiles import Profile, load, path_of, read_token, remove, save, show_token
from restante.wire.errors import SettingsError

PROFILE = Profile(address="chat://host/" + "A" * 43, account=7, name="alice", token=show_token(b"\xff" * 32))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHAT_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_saved_is_loaded_and_nobody_else_can_read_it(folder: Path) -> None:
    old = os.umask(0)
    try:
        path = save(PROFILE, "work")
    finally:
        os.umask(old)
    assert load("work") == PROFILE
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert load() is None


@pytest.mark.parametrize("opened", [0o640, 0o604, 0o620, 0o660])
def test_a_profile_that_others_can_read_is_not_used(opened: int) -> None:
    path = save(PROFILE)
    path.chmod(opened)
    with pytest.raises(SettingsError, match=f"chmod 600 {path}"):
        load()


def test_what_is_removed_is_gone_and_stays_so() -> None:
    save(PROFILE)
    remove()
    remove()
    assert load() is None


def test_writing_replaces_the_whole_or_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(PROFILE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match="No space left"):
        save(Profile(address="elsewhere"))
    assert load() == PROFILE
    assert [path.name for path in (folder / "profiles").iterdir()] == ["default.json"]


def test_a_link_in_its_place_is_replaced_and_not_followed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("untouched", "utf-8")
    path_of("default").parent.mkdir(parents=True)
    path_of("default").symlink_to(target)
    save(PROFILE)
    assert target.read_text("utf-8") == "untouched"
    assert load() == PROFILE


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "a b", "x" * 65, "a\n"])
def test_a_name_that_no_file_should_have(name: str) -> None:
    with pytest.raises(SettingsError):
        path_of(name)


def test_a_profile_of_another_shape_is_told_to_be_damaged() -> None:
    path = save(PROFILE)
    path.write_text('{"address": 5}', "utf-8")
    with pytest.raises(SettingsError, match="log in again"):
        load()


def test_a_token_as_text() -> None:
    token = bytes(range(32))
    assert read_token(show_token(token)) == token
    assert len(show_token(token)) == 43
    assert read_token(f" {show_token(token)}\n") == token


@pytest.mark.parametrize("text", ["", "short", "ü" * 43, "!" * 43, "A" * 44, "A" * 42])
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(SettingsError):
        read_token(text)


def test_a_profile_never_shows_its_token() -> None:
    assert PROFILE.token not in repr(PROFILE)
