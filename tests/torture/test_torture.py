"""A minute of real crashes, for CI; and that a run ends by itself, tells what broke, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.local_server import ROOT
from tests.e2e.server import wait_for
from tests.torture.crowd import PEOPLE
from tests.torture.places import Apart, Serve
from tests.torture.report import Round, Violation, table
from tests.torture.torture import main, run, tell


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_minute_of_crashes_loses_doubles_and_disorders_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAT_TORTURE_SEED", "3"))
    results = run(60, 2, seed, tmp_path)
    print(f"seed {seed}\n{table(results)}")
    found = [text for result in results for text in (*map(str, result.violations), *result.complaints)]
    assert not found, "\n".join([f"seed {seed}, kept in {tmp_path}", *found[:20]])
    apart, serve = results
    for result, services in ((apart, Apart.services), (serve, Serve.services)):
        assert set(services) <= result.kills.keys(), f"not all of them were killed: {result.kills}"
        assert result.accepted > 500, "hardly anything was sent: it shows nothing"
        assert result.read > result.accepted // 2
        assert result.net["cuts"] + result.net["half-opens"] > 0
        assert result.reconnects > 0
        assert len(set(PEOPLE) & result.kills.keys()) > len(PEOPLE) // 2
    assert not list(tmp_path.iterdir()), "a sound round leaves nothing"


def processes_of(folder: Path) -> list[str]:
    """The command lines of living processes that name a folder, or work in it."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                words = (process / "cmdline").read_bytes().decode("utf-8", "replace")
                place = str((process / "cwd").readlink())
            except OSError:
                continue  # it has ended, or is another user's
            if str(folder) in words or place.startswith(str(folder)):
                found.append(words.replace("\0", " "))
    return found


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process_and_no_folder(tmp_path: Path, how: signal.Signals) -> None:
    argv = [sys.executable, "-P", "-m", "tests.torture.torture", "--seconds", "60", "--rounds", "1", "--seed", "1"]
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(argv, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: len(list(tmp_path.glob("*/round-1/people/*.journal"))) > 3, "people are at work", wait_s=60)
        assert len(processes_of(tmp_path)) > 6
        process.send_signal(how)
        out, _ = process.communicate(timeout=40)
    finally:
        process.kill()
    wait_for(lambda: not processes_of(tmp_path), "its processes are gone")
    if how is signal.SIGKILL:
        return  # who is killed can't tidy up
    assert process.returncode == 130, out.decode()
    assert b"interrupted" in out
    assert not list(tmp_path.glob("restante-torture-*"))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_fault_in_the_real_processes_is_seen(tmp_path: Path) -> None:
    """By hand, in more time, so are rarer ones: `--fault resend_out_of_order --seconds 60`."""
    argv = [sys.executable, "-P", "-m", "tests.torture.torture", "--rounds", "1", "--seed", "1", "--seconds", "15"]
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*argv, "--fault", "accept_before_persisted"],
        env=env,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=220,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    lost = next(line for line in done.stdout.splitlines() if line.startswith("lost"))
    assert lost.split()[-1] != "0"
    assert "seed 1: journals, logs and data are kept in" in done.stdout


def test_what_broke_is_told_with_the_seed_and_where_all_of_it_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell([Round("apart", 7), Round("serve", 8, violations=[Violation("G1", "gone")])], 4711, tmp_path) == 1
    out = capsys.readouterr().out
    assert "round 2 (serve): G1: gone" in out
    assert f"seed 4711: journals, logs and data are kept in {tmp_path}" in out
    assert tmp_path.exists()


def test_a_sound_run_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    assert tell([Round("apart", 7)], 4711, folder) == 0
    assert "lost" in capsys.readouterr().out
    assert not folder.exists()


def test_a_complaint_is_no_sound_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell([Round("apart", 7, complaints=["broker ended by itself, with 1"])], 4711, tmp_path) == 1
    assert "broker ended by itself" in capsys.readouterr().out


def test_the_command_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--seconds" in capsys.readouterr().out
