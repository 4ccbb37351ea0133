"""The power goes at every write and sync of a random workload, and nothing answered is lost or doubled (G1, G2)."""

from __future__ import annotations

import re
import shlex
from random import Random

import pytest

from tests.disk.cuts import KINDS, cut_power, main
from tests.disk.platter import LOSSES, Platter
from tests.disk.runs import Violation
from tests.disk.vfs import Op

SEEDS = (1, 2)

CUTS = 600
"""A seed's: four of them make 2,400. `make power CUTS=100000` makes more."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_store_keeps_what_it_answered_whenever_the_power_goes(seed: int) -> None:
    assert cut_power("store", seed, CUTS) > CUTS // 2, "so short a workload that its ops are cut again and again"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_accounts_keep_what_they_answered_whenever_the_power_goes(seed: int) -> None:
    assert cut_power("accounts", seed, CUTS) > CUTS // 2, "so short a workload that its ops are cut again and again"


def test_at_least_a_thousand_cuts_are_made() -> None:
    assert len(SEEDS) * len(KINDS) * CUTS >= 1_000


@pytest.mark.parametrize("kind", KINDS)
def test_with_synchronous_normal_it_does_not(kind: str) -> None:
    """So the cuts are cuts, and the checks see what is lost."""
    with pytest.raises(Violation, match="answered, and not so after the cut"):
        cut_power(kind, SEEDS[0], CUTS, synchronous="normal")


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_names_the_command_that_shows_it_again(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Violation) as failed:
        cut_power(kind, SEEDS[1], CUTS, synchronous="normal")
    command = re.search(r"again: python -m tests\.disk\.cuts (.*)", str(failed.value))
    assert command is not None
    assert main(shlex.split(command[1])) == 1
    again = capsys.readouterr().err
    assert again.splitlines()[1:] == str(failed.value).splitlines()[1:]


class TestPlatter:
    """What is not synced may be lost in every way, what is synced in none."""

    def fed(self, *ops: Op) -> Platter:
        platter = Platter()
        for op in ops:
            platter.feed(op)
        return platter

    SYNCED = (Op("create", "f"), Op("write", "f", 0, b"a" * 2_000), Op("sync", "f"), Op("sync_directory", "f"))

    @pytest.mark.parametrize("loss", LOSSES)
    def test_what_was_synced_is_there(self, loss: str) -> None:
        for seed in range(20):
            assert self.fed(*self.SYNCED).cut(loss, Random(seed)) == {"f": b"a" * 2_000}  # type: ignore[arg-type]

    def test_what_was_not_is_lost_kept_or_there_in_part(self) -> None:
        platter = self.fed(*self.SYNCED, Op("write", "f", 500, b"b" * 1_500), Op("write", "f", 2_000, b"c" * 1_500))
        found = {loss: {platter.cut(loss, Random(seed))["f"] for seed in range(60)} for loss in LOSSES}
        before, after = b"a" * 2_000, b"a" * 500 + b"b" * 1_500 + b"c" * 1_500
        assert found["all lost"] == {before}
        assert found["all kept"] == {after}
        assert any(len(image) % 512 for image in found["torn"]), "no sector was torn"
        assert all(image.startswith(after[:2_000]) for image in found["torn"])
        assert any(image[2_000:].strip(b"\0") and b"b" not in image for image in found["scattered"]), "always in order"
        assert all(b"c" not in image or image[500:2_000] == b"b" * 1_500 for image in found["in order"])

    def test_a_sync_that_failed_keeps_nothing_though_it_is_read(self) -> None:
        platter = self.fed(*self.SYNCED, Op("write", "f", 0, b"b"), Op("lose", "f"), Op("sync", "f"))
        assert platter.cut("all kept", Random(0)) == {"f": b"a" * 2_000}

    def test_a_file_is_there_for_good_when_its_directory_was_synced(self) -> None:
        made = self.fed(*self.SYNCED[:3])
        assert made.cut("all lost", Random(0)) == {}
        assert made.cut("all kept", Random(0)) == {"f": b"a" * 2_000}

    def test_so_is_one_gone_for_good(self) -> None:
        deleted = self.fed(*self.SYNCED, Op("delete", "f"))
        assert deleted.cut("all lost", Random(0)) == {"f": b"a" * 2_000}
        assert deleted.cut("all kept", Random(0)) == {}
        deleted.feed(Op("sync_directory", "f"))
        assert deleted.cut("all lost", Random(0)) == {}

    def test_a_truncation_too_waits_for_the_sync(self) -> None:
        platter = self.fed(*self.SYNCED, Op("truncate", "f", 10))
        assert platter.cut("all lost", Random(0)) == {"f": b"a" * 2_000}
        assert platter.cut("all kept", Random(0)) == {"f": b"a" * 10}
