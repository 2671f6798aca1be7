"""`pyro-vae explore`, run as a user would, but for the browser (see tests/browser)."""

import os
import re
import select
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from pyro_vae import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("explored") / "run", samples=2000, hidden=20, progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none",), "none is not a run folder"),
        (("none", "--port", "70000"), "--port 70000 is not possible"),
        (("none", "--port", "x"), "--port x is not possible"),
        (("none", "--limit", "1"), "--limit 1 is not possible"),
        (("none", "--html", "page.txt"), "--html page.txt is not possible: give the name of an .html file in a folder"),
        (("none", "--html", "nowhere/page.html"), "--html nowhere/page.html is not possible"),
        (("none", "--html", "page.html", "--open"), "--html page.html has no server: leave --port and --open out"),
    ],
)
def test_wrong_input_is_one_line(cli, arguments, message):
    result = cli("explore", *arguments)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.err


def test_without_bokeh_it_says_how_to_get_it(cli, monkeypatch):
    monkeypatch.setattr("pyro_vae.cli.explore.find_spec", lambda name: None)
    result = cli("explore", "none")
    assert result.status == 2
    assert result.err == ("pyro-vae: explore needs Bokeh, which is not installed: pip install 'pyro-vae[explore]'\n")


def test_a_page_without_a_server_holds_all_that_it_shows(cli, run, tmp_path):
    result = cli("explore", run.path, "--html", "page.html")
    assert (result.status, result.out) == (0, "page.html\n")
    page = (tmp_path / "page.html").read_text()
    assert len(page) < 6_000_000
    # Nothing is loaded from elsewhere.
    assert not re.findall(r'<(?:script|link)[^>]+(?:src|href)="(?!data:)', page)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_ends_on_signals(run, number, status, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pyro_vae", "explore", str(run.path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # What runs in the background of a shell is started with SIGINT ignored, and so would be its children.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with (
        subprocess.Popen(command, **pipes, env=environment, cwd=tmp_path, preexec_fn=heed) as process,
        ExitStack() as at_the_end,
    ):
        at_the_end.callback(process.kill)  # a test that fails does not wait for it
        assert select.select([process.stdout], [], [], 120)[0]
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{43}/", address)
        with urllib.request.urlopen(address, timeout=60) as page:
            assert page.status == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "")
    # The first newline is click's, for the line on which a terminal shows ^C.
    assert err == ("\npyro-vae: interrupted\n" if number == signal.SIGINT else "")
