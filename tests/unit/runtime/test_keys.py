"""Keys: made once, readable by their owner alone, whole or not at all, enrolled by role."""

import threading
from pathlib import Path

import pytest

from runtime import keys
from runtime.errors import SetupError
from runtime.keys import KeyPair


def test_a_key_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    first = keys.load_or_make(tmp_path / "k")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "k/self.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "k/self.pub").read_bytes().strip() == first.public
    assert keys.load_or_make(tmp_path / "k") == first
    assert sorted(p.name for p in (tmp_path / "k").iterdir()) == ["self.key", "self.pub"], "no leftovers"


def test_two_that_make_it_at_once_get_the_same(tmp_path: Path) -> None:
    pairs: list[KeyPair] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        pairs.append(keys.load_or_make(tmp_path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pairs) == 8
    assert len(set(pairs)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    keys.load_or_make(tmp_path)
    (tmp_path / "self.key").chmod(mode)
    with pytest.raises(SetupError, match="chmod 600"):
        keys.load(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 20, 60, 95, 96, 97])
def test_a_half_written_file_is_refused(tmp_path: Path, kept: int) -> None:
    keys.load_or_make(tmp_path)
    whole = (tmp_path / "self.key").read_bytes()
    assert kept < len(whole)
    (tmp_path / "self.key").write_bytes(whole[:kept])
    with pytest.raises(SetupError, match="half-written"):
        keys.load(tmp_path)


def test_a_public_key_of_another_secret_is_refused(tmp_path: Path) -> None:
    pair, other = keys.make_pair(), keys.make_pair()
    text = f"public {other.public.decode()}\nsecret {pair.secret.decode()}\nend\n"
    (tmp_path / "self.key").write_text(text)
    (tmp_path / "self.key").chmod(0o600)
    with pytest.raises(SetupError, match="damaged"):
        keys.load(tmp_path)


def test_no_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"python -P -m runtime\.keys make"):
        keys.load(tmp_path)


def test_a_key_pair_prints_without_its_secret() -> None:
    pair = keys.make_pair()
    assert pair.secret.decode() not in repr(pair)


def test_secrets_are_only_where_they_belong(tmp_path: Path) -> None:
    pairs = keys.make_all(tmp_path)
    for role, pair in pairs.items():
        holders = {p for p in tmp_path.rglob("*") if p.is_file() and pair.secret in p.read_bytes()}
        assert holders == {tmp_path / role / "self.key"}
    assert keys.peer(tmp_path / "auth", "broker") == pairs["broker"].public
    assert keys.peers(tmp_path / "broker", "auth") == {pairs["auth"].public}
    assert keys.peers(tmp_path / "broker", "store") == {pairs["store"].public}
    assert keys.peers(tmp_path / "auth", "store") == frozenset()


def test_making_all_again_changes_nothing(tmp_path: Path) -> None:
    first = keys.make_all(tmp_path)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()}
    assert keys.make_all(tmp_path) == first
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()} == before


def test_an_enrolled_key_is_never_overwritten(tmp_path: Path) -> None:
    keys.enrol(tmp_path, "auth", keys.make_pair().public)
    with pytest.raises(SetupError, match="another key"):
        keys.enrol(tmp_path, "auth", keys.make_pair().public)


def test_every_file_that_begins_with_a_role_enrols_for_it(tmp_path: Path) -> None:
    enrolled = {name: keys.make_pair().public for name in ("auth", "auth-2", "auth.west", "auth3")}
    for name, public in enrolled.items():
        keys.enrol(tmp_path, name, public)
    keys.enrol(tmp_path, "author", keys.make_pair().public)
    keys.enrol(tmp_path, "store", keys.make_pair().public)
    assert keys.peers(tmp_path, "auth") == frozenset(enrolled.values())


def test_a_file_that_is_no_public_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers/auth.pub").write_text("hello")
    with pytest.raises(SetupError, match=r"auth\.pub is not a public key"):
        keys.peers(tmp_path, "auth")


def test_one_peer_is_needed_where_one_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"broker\.pub"):
        keys.peer(tmp_path, "broker")


def test_the_command_makes_them_by_root_and_by_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert keys.main(["make", str(tmp_path / "all")]) == 0
    apart = [f"--{role}={tmp_path / 'apart' / role}" for role in ("broker", "auth", "store")]
    assert keys.main(["make", *apart]) == 0
    assert keys.peer(tmp_path / "apart/auth", "broker") == keys.load(tmp_path / "apart/broker").public
    assert "broker " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        keys.main(["make"])


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys.make_all(tmp_path)
    (tmp_path / "store/self.key").chmod(0o644)
    assert keys.main(["make", str(tmp_path)]) == 1
    assert "chmod 600" in capsys.readouterr().err
