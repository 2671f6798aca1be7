"""One process at a time, and none after its death."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyro_vae.errors import InputError
from pyro_vae.run.lock import locked, wait_until_released

HOLD = "import sys; from pathlib import Path; from pyro_vae.run.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def holder(tmp_path):
    """Another process that trains in `tmp_path / "run"`."""
    command = [sys.executable, "-c", HOLD, tmp_path / "run"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_process_is_refused_and_a_dead_one_keeps_nothing(cli, tmp_path, holder):
    Path("run/run.toml").write_text("format = 1\nsettings = {}\n[data]\nchecksum = ''\n")
    before = sorted(Path("run").iterdir())
    with pytest.raises(InputError, match=r"run is being trained by another process: wait until it ends, or choose"):
        locked(tmp_path / "run").__enter__()
    result = cli("train", "--samples", "200", "--hidden", "5", "--out", "run", "--overwrite")
    assert result.status == 2
    assert result.err == (
        "pyro-vae: run is being trained by another process: wait until it ends, or choose another --out\n"
    )
    assert sorted(Path("run").iterdir()) == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert cli("train", "--samples", "200", "--hidden", "5", "--out", "run", "--overwrite").status == 0


def test_it_ends_with_the_block_and_does_not_follow_links(tmp_path):
    with locked(tmp_path / "a" / "run"), pytest.raises(InputError, match="trained by another"):
        locked(tmp_path / "a" / "run").__enter__()
    with locked(tmp_path / "a" / "run"):
        pass
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="cannot be written"):
        locked(tmp_path).__enter__()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    for _ in range(2):  # what is left behind stops no one
        with locked(tmp_path), locked(tmp_path):
            pass
    assert caplog.text.count("cannot be locked") == 4
    assert os.strerror(number) in caplog.text


@pytest.mark.parametrize("what", ["a folder", "a file above it", "a file in its place"])
def test_what_cannot_be_written_is_the_users_mistake(tmp_path, what):
    folder = tmp_path / "run" / "one"
    if what == "a folder":
        (folder / ".lock").mkdir(parents=True)
    elif what == "a file above it":
        folder.parent.write_text("")
    else:
        folder.parent.mkdir()
        folder.write_text("")
    with pytest.raises(InputError, match=r"--out .*/run/one cannot be written: "):
        locked(folder).__enter__()


def test_waiting_ends_with_the_lock(tmp_path, monkeypatch, holder):
    waits = []

    def wait(seconds):
        waits.append(seconds)
        holder.send_signal(signal.SIGKILL)
        holder.wait()

    monkeypatch.setattr("pyro_vae.run.lock.sleep", wait)
    wait_until_released(tmp_path / "run")
    assert waits == [0.5]
    wait_until_released(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    # And a process that lives on is not waited for without end: the first look at the clock, and one a minute later.
    clock = iter([0.0, 1.0, 61.0])
    monkeypatch.setattr("pyro_vae.run.lock.monotonic", lambda: next(clock))
    with locked(tmp_path / "run"):
        monkeypatch.setattr("pyro_vae.run.lock.sleep", waits.append)
        wait_until_released(tmp_path / "run")
    assert waits == [0.5, 0.5]
