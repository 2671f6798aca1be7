"""Progress on standard error: lines where there is no terminal, and nothing where it is not wanted."""

import re
from types import SimpleNamespace

import pytest
import torch

from pyro_vae.run.fit import Clock
from pyro_vae.run.progress import Progress, Stages

CLOCK = Clock(samples=20_000, seconds=4.0)
LEARNER = SimpleNamespace(loss=torch.tensor(25.0))


def test_an_evaluation_is_a_line_with_its_rate(capsys):
    with Progress(40_000, 0) as progress:
        progress.stepped(CLOCK, LEARNER)
        progress.note("[bold]steps are plain")
        progress.evaluated(CLOCK, -24.5, -26.25)
        progress.evaluated(Clock(), -44.0, -44.0)  # before the first step there is no rate
    out, err = capsys.readouterr()
    assert out == ""
    # 20,000 samples in 4 seconds.
    assert err.splitlines() == [
        "note: [bold]steps are plain",
        "     20,000 samples  train bound    -24.50  test bound    -26.25 nats  5,000 samples/s",
        "          0 samples  train bound    -44.00  test bound    -44.00 nats  ",
    ]


def test_the_loss_is_read_from_the_device_for_a_bar_alone():
    class Unread:
        @property
        def loss(self):
            pytest.fail("the loss was read")

    with Progress(40_000, 0) as progress:
        progress.stepped(CLOCK, Unread())


def test_a_stage_ends_with_its_time(capsys):
    with Stages().stage("[dim]drawing") as advance:
        advance(0.5)
    assert re.fullmatch(r"\[dim\]drawing: \d+ s\n", capsys.readouterr().err)


def test_what_is_not_shown_is_silent(capsys):
    with Progress(40_000, 0, shown=False) as progress:
        progress.stepped(CLOCK, LEARNER)
        progress.note("a note")
        progress.evaluated(CLOCK, -24.5, -26.25)
    with Stages(shown=False).stage("drawing"):
        pass
    assert capsys.readouterr() == ("", "")
