"""Standard output and standard error that are closed, full, not read, or cannot say what they are given."""

import io
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest

from pyro_vae.cli.outputs import Lost, outputs


@pytest.mark.parametrize(
    ("after", "status", "said"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        (">/dev/full", 1, "pyro-vae: standard output cannot be written: No space left on device\n"),
        ("2>/dev/full", 0, ""),
        ("| true", 0, ""),  # 141 is what a shell's pipefail would see, and nothing is said
    ],
)
def test_help_bears_outputs_that_are_not_there(after, status, said):
    command = f"{shlex.quote(sys.executable)} -m pyro_vae train --help {after}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, said)


def test_wrong_input_is_2_where_nobody_can_be_told():
    command = f"{shlex.quote(sys.executable)} -m pyro_vae train --latent x 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 2


def test_who_is_not_read_any_more_ends_quietly():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "pyro_vae", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


class Broken(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


def test_reports_that_nobody_reads_stop_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Broken())
    with outputs():
        print("progress", file=sys.stderr, flush=True)
    assert isinstance(sys.stderr, Broken)


def test_results_that_nobody_reads_are_lost_once(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken())
    with pytest.raises(Lost) as lost, outputs():
        print("result")
    assert lost.value.unread


def test_names_move_no_cursor(cli):
    np.save("x.npy", np.random.default_rng(0).integers(0, 255, (20, 4), dtype=np.uint8))
    os.rename("x.npy", "a\x1b[2J\x07.npy")
    result = cli("data", "a\x1b[2J\x07.npy")
    assert result.status == 0
    # click takes whole sequences out, what is left of others is a question mark.
    assert result.out.splitlines()[0] == f"{'data':<20} a?.npy"


def test_a_terminal_gets_its_colours_and_nothing_else(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    with outputs():
        print("\x1b[1;32mgood\x1b[0m \x1b]0;title\x07\x1b[2J\r\tname")
    assert terminal.getvalue() == "\x1b[1;32mgood\x1b[0m ?]0;title??[2J?\tname\n"


def test_a_name_that_the_encoding_lacks_is_told(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with outputs():
        print("名 \udcff")
    sys.stdout.flush()
    assert raw.getvalue() == b"\\u540d ?\n"


def test_names_that_the_font_lacks_are_drawn_without_a_word(cli):
    np.save("名前🦆\x01.npy", np.random.default_rng(0).integers(0, 255, (200, 4), dtype=np.uint8))
    tiny = ("--hidden", "3", "--samples", "200", "--compile", "off")
    result = cli("train", "--data", "名前🦆\x01.npy", *tiny, "--out", "run")
    assert result.status == 0
    assert "Glyph" not in result.err
    assert "figure run/samples.png" in result.out
