"""`pyro-vae check`: how parts are found, what is printed, and that every part of the shelves passes."""

import json
from pathlib import Path

import pytest

from pyro_vae.analysis.check.check import CHECKS, check
from pyro_vae.errors import InputError
from pyro_vae.run import parts

EXAMPLES = Path(__file__).parents[3] / "examples"
# Every part of the shelves learns compiled as plain, and has its posterior by HMC, in tests of their own.
SHELF = [(kind, name) for kind in ("model", "prior", "guide") for name in parts.names(kind)]
QUICK = ("compiled", "calibration")


@pytest.mark.parametrize(("kind", "name"), SHELF)
def test_every_part_of_the_shelves_passes(kind, name):
    report = check(name, kind, shape=(3, 4), skip=QUICK)
    assert not report.failed, report.verdicts


@pytest.mark.parametrize("name", parts.names("inference"))
def test_every_algorithm_passes(name):
    report = check(name, skip=QUICK)
    assert not report.failed, report.verdicts


@pytest.mark.parametrize(
    ("spec", "kind", "shape", "own"),
    [
        ("own_model.py", "pair", (12,), {}),
        ("own_model.py:TwoLayerModel", "model", (12,), {}),
        ("tutorial_vae.py", "pair", (12,), {"model": {"z_dim": 2, "hidden_dim": 10}}),
        ("conv_decoder.py", "model", (4, 4), {"model": {"channels": 2}}),
        ("colour_images.py", "pair", (4, 4, 3), {"model": {"channels": 2}, "guide": {"channels": 2}}),
    ],
)
def test_every_part_of_the_examples_passes(spec, kind, shape, own):
    report = check(str(EXAMPLES / spec), shape=shape, skip=QUICK, set=own)
    assert report.kind == kind
    assert not report.failed, report.verdicts


def test_a_check_is_a_table_or_one_object(cli):
    result = cli(
        "check", "normal", "--kind", "prior", "--features", 6, "--skip", "compiled", "--only", "integrates to 1"
    )
    assert result.status == 0, result.err
    assert "prior normal" in result.out
    assert "integrates to 1 │ passes" in " ".join(result.out.replace("│", " │ ").split())
    result = cli("check", "normal", "--kind", "prior", "--features", 6, "--only", "shapes", "--json")
    told = json.loads(result.out)
    assert (told["part"], told["kind"], told["failed"]) == ("normal", "prior", 0)
    assert told["checks"][0] == {
        "check": "builds",
        "verdict": "passes",
        "finding": "model bernoulli, guide gaussian, prior normal; 6 simulated cells",
        "mend": "",
    }


def test_a_failing_check_is_a_failure(cli):
    Path("bad.py").write_text(
        "import pyro.distributions as dist\nimport torch\nfrom torch import nn\n\n\n"
        "class Bad(nn.Module):\n    def __init__(self, latent):\n        super().__init__()\n"
        "        self.loc = torch.zeros(latent)\n\n    def forward(self):\n        return dist.Normal(self.loc, 1.0)\n"
    )
    result = cli("check", "bad.py")
    assert result.status == 1
    assert "make it one event of shape (2,), by .to_event(1)" in " ".join(result.out.replace("│", " ").split())
    assert result.err.splitlines()[-1] == "pyro-vae: bad.py fails 1 of its checks: builds"


def test_data_of_ones_own_are_held_against_the_likelihood(cli):
    result = cli("check", "poisson", "--data", "digits", "--only", "support", "--json")
    assert result.status == 1
    support = next(each for each in json.loads(result.out)["checks"] if each["check"] == "support")
    assert "site 'x' of --model poisson allows whole numbers from 0 on" in support["finding"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.py"], "FILE nothing.py cannot be read: No such file"),
        (["gaussian"], "gaussian is a model and a guide: give --kind model or --kind guide"),
        (["nope"], "nope is on none of the shelves of model, prior, guide, inference"),
        (["importance", "--kind", "inference"], "--inference importance is unknown"),
        (["bernoulli", "--features", "0"], "--features 0 is not possible"),
        (
            ["bernoulli", "--features", "9999x9999"],
            "--features 9999x9999 is not possible: give N, HxW or HxWxC, 100,000 cells",
        ),
        (["bernoulli", "--features", "8", "--data", "digits"], "--features is for simulated data"),
        (["bernoulli", "--model", "beta"], "--model beta goes with no model bernoulli, which is one itself"),
        (["bernoulli", "--skip", "nothing"], "check 'nothing' is unknown: choose from builds, support, "),
        (["bernoulli", "--set", "model.deep=2"], "--set model.deep is unknown: BernoulliModel takes "),
        (["two.py"], "two.py has several parts: say which, two.py:One or two.py:Two"),
        (["net.py"], "net.py has no part that can be told: give --kind"),
    ],
)
def test_a_users_mistake_is_one_line(cli, arguments, message):
    prior = "    def forward(self):\n        return None\n"
    Path("two.py").write_text(f"class One:\n{prior}class Two:\n{prior}")
    Path("net.py").write_text("class Net:\n    def forward(self, h):\n        return h\n")
    result = cli("check", *arguments)
    assert result.status == 2
    assert result.err.startswith(f"pyro-vae: {message}")
    assert len(result.err.splitlines()) == 1
    assert not result.out


def test_a_check_that_is_unknown_is_refused():
    with pytest.raises(InputError, match="check 'x' is unknown"):
        check("bernoulli", only=["x"])
    assert next(iter(CHECKS)) == "builds"
