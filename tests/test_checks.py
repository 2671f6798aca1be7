"""A user's mistakes in a model or guide are answered by one line, before anything is trained or written."""

from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.checks import check_pair
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.marginal import bound
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.split import Split

PLATE = "must be sampled inside pyro.plate('data', n, dim=-1)"

# A file that is right, and what is put in the place of what.
GOOD = """\
import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import nn


class OwnModel(PyroModule):
    def __init__(self, features, latent):
        super().__init__("model")
        self.latent, self.decoder = latent, nn.Linear(latent, features)

    def forward(self, x=None, size=None):
        size = len(x) if x is not None else size
        with pyro.plate("data", size, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.latent), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)


class OwnGuide(PyroModule):
    def __init__(self, features, latent):
        super().__init__("guide")
        self.encoder = nn.Linear(features, latent)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))
            return z
"""
MISTAKES = {
    "no site x": (
        [('sample("x"', 'sample("y"')],
        ["own.py:OwnModel does not observe the data", "sample a site 'x' with obs=x"],
    ),
    "x not observed": (
        [(".to_event(1), obs=x)", ".to_event(1))")],
        ["own.py:OwnModel does not observe the data", "sample a site 'x' with obs=x"],
    ),
    "no plate in the model": (
        [('with pyro.plate("data", size, dim=-1):', "if True:"), ("torch.zeros(self", "torch.zeros(size, self")],
        ["site 'z' of own.py:OwnModel", PLATE],
    ),
    "no plate in the guide": (
        [('with pyro.plate("data", len(x), dim=-1):', "if True:")],
        ["site 'z' of own.py:OwnGuide", PLATE],
    ),
    "pixels are no event": (
        [("self.decoder(z), 1.0).to_event(1)", "self.decoder(z), 1.0)")],
        ["site 'x' of own.py:OwnModel", PLATE, ".to_event(1)"],
    ),
    "latent variables are no event": (
        [("self.encoder(x), 1.0).to_event(1)", "self.encoder(x), 1.0)")],
        ["site 'z' of own.py:OwnGuide", PLATE, ".to_event(1)"],
    ),
    "too few pixels": (
        [("nn.Linear(latent, features)", "nn.Linear(latent, features - 1)")],
        ["site 'x' of own.py:OwnModel has event shape (63,), and a datapoint has (64,)", "give the likelihood as many"],
    ),
    "one value for all pixels": (  # which would be broadcast in silence
        [("nn.Linear(latent, features)", "nn.Linear(latent, 1)")],
        ["site 'x' of own.py:OwnModel has event shape (1,), and a datapoint has (64,)", "give the likelihood as many"],
    ),
    "latent variables of another number": (
        [("nn.Linear(features, latent)", "nn.Linear(features, latent + 1)")],
        ["site 'z' has event shape (3,) in own.py:OwnGuide and (2,) in own.py:OwnModel", "give both the same"],
    ),
    "a site that the guide lacks": (
        [
            (
                "            return pyro",
                '            pyro.sample("w", dist.Normal(torch.zeros(size), 1.0))\n            return pyro',
            )
        ],
        ["own.py:OwnGuide does not sample site 'w' of own.py:OwnModel", "give it one of that name, it has 'z'"],
    ),
    "a site that the model lacks": (
        [("            return z", '            pyro.sample("w", dist.Normal(torch.zeros(len(x)), 1.0))')],
        ["own.py:OwnGuide samples site 'w', which own.py:OwnModel lacks", "its latent sites, 'z', or leave it out"],
    ),
    "a value outside the support": (
        [("dist.Normal(self.decoder(z), 1.0)", "dist.LogNormal(self.decoder(z), 1.0)")],
        ["site 'x' of --model own.py:OwnModel allows numbers above 0, and digits has 0 in column 1, row", "gaussian"],
    ),
}


def test_the_file_without_a_mistake_trains(cli):
    Path("own.py").write_text(GOOD)
    result = cli("train", "--model", "own.py:OwnModel", "--guide", "own.py:OwnGuide", "--samples", "300")
    assert result.status == 0, result.err


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_users_file_is_named_with_its_mend(cli, mistake):
    changes, messages = MISTAKES[mistake]
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    Path("own.py").write_text(text)
    result = cli("train", "--model", "own.py:OwnModel", "--guide", "own.py:OwnGuide", "--out", "run")
    assert result.status == 2
    assert result.err.count("\n") == 1
    for message in messages:
        assert message in result.err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("dist.Normal(torch.zeros(2), 1.0)", "returns site 'z' with batch shape (2,) and event shape (): make it one"),
        ("dist.Normal(torch.zeros(3), 1.0).to_event(1)", "event shape (3,): make it one event of shape (2,)"),
        ("torch.zeros(2)", "does not return a distribution when it is called: AttributeError"),
    ],
)
def test_a_mistake_in_a_users_prior_is_named_with_its_mend(cli, returned, message):
    Path("own.py").write_text(
        "import pyro.distributions as dist\nimport torch\nfrom torch import nn\n\n"
        "class OwnPrior(nn.Module):\n    def __init__(self, latent):\n        super().__init__()\n\n"
        f"    def forward(self):\n        return {returned}\n"
    )
    result = cli("train", "--prior", "own.py", "--out", "run")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "--prior own.py" in result.err
    assert message in result.err
    assert not Path("run").exists()


class _Swapped(nn.Module):
    """A model or guide of one line, for what check_pair must refuse."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x=None, size=None):
        return self.body(x)


def _without_event(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(torch.zeros(12), 1.0).to_event(1), obs=x)
    pyro.sample("w", dist.Normal(0.0, 1.0), obs=torch.zeros(()))


def _of_z(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def _stored(x):
    loc = pyro.param("loc", torch.zeros(2))
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (_without_event, _of_z, "site 'w' of test_checks.py:_Swapped must be sampled inside"),
        (None, _stored, "pyro.param 'loc' does not belong to a module"),
    ],
)
def test_check_pair_says_what_does_not_fit(pixels, model, guide, message):
    model = BernoulliModel(12, 2, hidden=3) if model is None else _Swapped(model)
    with pytest.raises(InputError, match=message):
        check_pair(model, _Swapped(guide), pixels.first(5))


def test_check_pair_wants_the_features_of_the_data(pixels):
    with pytest.raises(InputError, match=r"gaussian.py:GaussianGuide cannot be run on data of shape \(5, 12\)"):
        check_pair(BernoulliModel(12, 2, hidden=3), GaussianGuide(11, 2, hidden=3), pixels.first(5))


def test_check_pair_uses_up_no_draws(pixels):
    # What a seed trains to must not depend on the checks.
    model, guide, x = BernoulliModel(12, 2, hidden=3), GaussianGuide(12, 2, hidden=3), pixels.first(5)
    torch.manual_seed(0)
    check_pair(model, guide, x)
    after = torch.rand(())
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(()))


def test_functions_are_no_modules():
    """Their parameters could not be found; `pyro_vae.train` takes them."""
    data = Split(torch.rand(20, 4))
    model, guide = BernoulliModel(4, 2, hidden=3), GaussianGuide(4, 2, hidden=3)
    for call in (lambda: AEVB(model.forward, guide, data), lambda: bound(model.forward, guide, data)):
        with pytest.raises(InputError, match=r"^model Model\.forward is no torch\.nn\.Module: give one, or train by"):
            call()
    with pytest.raises(InputError, match=r"^guide Guide\.forward is no torch\.nn\.Module"):
        AEVB(model, guide.forward, data)
