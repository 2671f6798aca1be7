"""Programs as people bring them: each gives the right value, or one line that names the thing and its mend.

The model of most of them is linear-Gaussian and fixed, z ~ N(0, I_2) and x given z ~ N(W^T z, 0.5^2 I_3), and its guide
is the posterior: bound and importance weights are log p(x) = log N(x; 0, W^T W + 0.25 I) without any error, whatever is
drawn, and a step size of 1e-7 leaves them so. What else a program does must not show, or show as its case derives.
"""

import json
import math
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import pyro_vae
from pyro_vae.errors import InputError

OWN = """
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn

W = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5]])


class OwnModel(nn.Module):
    def __init__(self, features, latent):
        super().__init__()
        # SETUP

    def forward(self, x=None, size=None):
        n = size if x is None else len(x)
        # FIRST
        with pyro.plate("data", n, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = z @ W
            # BETWEEN
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=x)


class OwnGuide(nn.Module):
    def __init__(self, features, latent):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2))
        # GUIDE SETUP

    def forward(self, x):
        precision = torch.eye(2) + W @ W.T / 0.25
        loc = x @ W.T / 0.25 @ precision.inverse() + self.shift
        with pyro.plate("data", len(x), dim=-1):
            # GUIDE
            return pyro.sample("z", dist.MultivariateNormal(loc, precision_matrix=precision))
"""
W = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5]])
PRIOR = 'pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))'
LIKELIHOOD = "dist.Normal(loc, 0.5).to_event(1)"
POSTERIOR = 'pyro.sample("z", dist.MultivariateNormal(loc, precision_matrix=precision))'


def program(*replaced, **pieces):
    """The program with lines put in at `setup`, `first`, `between`, `guide_setup` and `guide`, and texts replaced."""
    text = OWN
    for place, lines in pieces.items():
        before, _, after = text.partition(f"# {place.upper().replace('_', ' ')}\n")
        assert after
        text = before + f"\n{' ' * (len(before) - before.rfind(chr(10)) - 1)}".join(lines.splitlines()) + "\n" + after
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def data():
    """A hundred datapoints of the model, of which 80 train."""
    torch.manual_seed(0)
    return (torch.randn(100, 2) @ W + 0.5 * torch.randn(100, 3)).numpy()


@pytest.fixture
def run(cli, data, monkeypatch):
    """Writes a program, trains it into the folder `run` and returns the result."""
    monkeypatch.setattr("pyro_vae.run.training._DRAWS", 100)
    monkeypatch.setattr("pyro_vae.run.training._FITTED", 5)
    np.save("x.npy", data[:, None])  # images of a row

    def trained(text, *options):
        Path("own.py").write_text(text)
        parts = ("--model", "own.py:OwnModel", *([] if "mcem" in options else ("--guide", "own.py:OwnGuide")))
        learning = ("--samples", "1e3", "--batch", 20, "--step-size", "1e-7", "--optimizer", "sgd")
        learning = learning[:2] if "mcem" in options else learning
        return cli("train", "--data", "x.npy", *parts, *learning, "--no-figures", "--out", "run", *options)

    return trained


def gaussian(x, weight=W, noise=(0.25, 0.25, 0.25)):
    """The mean log density of x = weight^T z + noise."""
    covariance = weight.T @ weight + torch.tensor(noise).diag()
    return torch.distributions.MultivariateNormal(torch.zeros(len(covariance)), covariance).log_prob(x).mean().item()


# --- The right value --------------------------------------------------------------------------------------------------

WITH_SCALE = (f"z = {PRIOR}", f"with poutine.scale(scale=4.0):\n                z = {PRIOR}")
VALUES = {
    "as it is": (program(), gaussian),
    # Weights on terms train, and are no part of what is reported.
    "a weight on the model's term": (program(WITH_SCALE), gaussian),
    "a weight on both": (
        program(WITH_SCALE, (POSTERIOR, f"pyro.poutine.scale(lambda: {POSTERIOR}, 4.0)()")),
        gaussian,
    ),
    "a plate that subsamples": (program(('"data", n,', '"data", 10 * n, subsample_size=n,')), gaussian),
    "a plate of another name": (program(('"data", n, dim=-1', '"batch", n')), gaussian),
    # The third cell is not seen: of the others x is N(0, V^T V + 0.25 I) with V the first two columns of W.
    "a mask": (
        program(
            (LIKELIHOOD, "dist.Normal(loc, 0.5).mask(torch.tensor([True, True, False])).to_event(1)"),
            ("precision =", "V, x = W[:, :2], x[:, :2]\n        precision ="),
            ("torch.eye(2) + W @ W.T", "torch.eye(2) + V @ V.T"),
            ("loc = x @ W.T", "loc = x @ V.T"),
        ),
        lambda x: gaussian(x[:, :2], W[:, :2], (0.25, 0.25)),
    ),
    "a function of the latent variables": (program(between='pyro.deterministic("radius", z.norm(dim=-1))'), gaussian),
    "a function outside the plate": (program(first='pyro.deterministic("weights", W)'), gaussian),
    "a function in the guide": (program(guide='pyro.deterministic("loc", loc, event_dim=1)'), gaussian),
    # A factor adds its value to log p(x, z), and so to log p(x), where it is the same for all z.
    "a factor": (program(between='pyro.factor("f", torch.full((n,), -0.7))'), lambda x: gaussian(x) - 0.7),
    # exp(-c |z|^2 / 2) makes of the prior N(0, I / (1 + c)), times (1 + c)^-1 in two dimensions. With c = 3 the
    # posterior has the precision 4 I + W W^T / 0.25.
    "a factor of the latent variables": (
        program(("torch.eye(2) + W", "4 * torch.eye(2) + W"), between='pyro.factor("f", -1.5 * z.square().sum(-1))'),
        lambda x: gaussian(x, W / 2) - math.log(4),
    ),
    # z = 2 u, and q(z) = q(u) / 4 in two dimensions.
    "an auxiliary draw": (
        program(
            (
                f"return {POSTERIOR}",
                "q = dist.MultivariateNormal(loc / 2, precision_matrix=4 * precision)\n"
                '            u = pyro.sample("u", q, infer={"is_auxiliary": True})\n'
                '            return pyro.sample("z", dist.Delta(2 * u, -torch.tensor(4.0).log(), event_dim=1))',
            )
        ),
        gaussian,
    ),
    "a likelihood in float64": (program((LIKELIHOOD, "dist.Normal(loc.double(), 0.5).to_event(1)")), gaussian),
    # What is reported is of the model in evaluation mode: without dropout.
    "dropout": (program(setup="self.drop = nn.Dropout()", between="loc = self.drop(loc)"), gaussian),
    "words on standard output": (program(between='print("the shape is", loc.shape)'), gaussian),
    "what is kept of the last call": (program(between="self.last, self.q = loc, dist.Normal(loc, 1.0)"), gaussian),
    "a store that is cleared": (program(first="pyro.clear_param_store()"), gaussian),
    "its own validation": (program(first="pyro.enable_validation(True)"), gaussian),
    "nothing returned": (program(("return pyro.sample(", "pyro.sample(")), gaussian),
    # All weights of a datapoint are tied: x is N(0, 0.25 I) whatever z, and the guide is the prior.
    "a model without a use for z": (
        program(("loc = z @ W", "loc = 0 * z @ W"), ("+ W @ W.T / 0.25", ""),
                ("loc = x @ W.T / 0.25 @ precision.inverse()", "loc = 0 * x @ W.T")),
        lambda x: gaussian(x, 0 * W),
    ),
}  # fmt: skip


QUICK = ("--set", "ais.temperatures=30", "--set", "ais.chains=50")


@pytest.mark.parametrize("name", VALUES)
def test_the_value_is_that_of_the_model(name, run, cli):
    text, exact = VALUES[name]
    result = run(text)
    assert result.status == 0, result.err
    asked = ("--marginal", "importance", "--marginal", "ais", *QUICK)
    evaluated = cli("evaluate", "run", "--trust", "--json", "--particles", 10, *asked)
    assert evaluated.status == 0, evaluated.err
    found = json.loads(evaluated.out)
    expected = exact(pyro_vae.Run.open("run", trust=True).dataset.test.first())
    assert found["bound"] == pytest.approx(expected, abs=1e-3)
    assert found["importance"]["log_px"] == pytest.approx(expected, abs=1e-3)
    # Weights of 50 chains are no Gaussian, and their log lies below by half their variance.
    assert abs(found["ais"]["log_px"] - expected) < 5 * found["ais"]["se"] + 0.01
    assert ("weighted" in found) == (
        name in ("a weight on the model's term", "a weight on both", "a plate that subsamples")
    )
    assert ("terms of " in result.err) == ("weighted" in found)
    assert ("(collapsed)" in result.err) == (name == "a model without a use for z")


def test_two_observed_sites(run, cli):
    # y repeats the first cell with a noise of 1: (x, y) is Gaussian with weights W and their first column again. The
    # guide knows nothing of y, so that the bound lies below and importance weights have an error.
    assert (
        run(
            program(between='pyro.sample("y", dist.Normal(loc[..., 0], 1.0), obs=None if x is None else x[:, 0])')
        ).status
        == 0
    )
    found = json.loads(cli("evaluate", "run", "--trust", "--json", "--particles", 500).out)
    x = pyro_vae.Run.open("run", trust=True).dataset.test.first()
    exact = gaussian(torch.cat([x, x[:, :1]], 1), torch.cat([W, W[:, :1]], 1), (0.25, 0.25, 0.25, 1.0))
    assert found["bound"] + 3 * found["bound_se"] < exact
    assert abs(found["importance"]["log_px"] - exact) < 4 * found["importance"]["se"]
    result = cli("analyze", "run", "--trust", "--limit", 3, "--draws", 20, "--warmup", 10, "--quick")
    assert result.status == 0, result.err


def test_what_is_drawn_has_its_place(run, cli, data):
    text = program(between='pyro.deterministic("radius", z.norm(dim=-1))\npyro.factor("f", -0.1 * z.square().sum(-1))')
    assert run(text).status == 0
    opened = pyro_vae.Run.open("run", trust=True)
    tree = pyro_vae.to_arviz(
        opened.model, opened.guide, opened.dataset.test.first(3), chains=2, draws=8, warmup=4, predictive=4
    )
    z, radius = tree.posterior["z"].values, tree.posterior["radius"].values
    np.testing.assert_allclose(radius, np.linalg.norm(z, axis=-1), rtol=1e-5)
    assert [*tree.observed_data.data_vars] == [*tree.log_likelihood.data_vars] == ["x"]


# --- One line, before anything is trained -----------------------------------------------------------------------------

AUTO = """
from pyro.infer.autoguide import {0}
class Own{0}({0}):
    def __init__(self, features, latent):
        super().__init__(OwnModel(features, latent))
    def forward(self, x):
        return super().forward(x)
"""
REFUSED = {
    "torch's own distribution": (
        program((LIKELIHOOD, "torch.distributions.Independent(torch.distributions.Normal(loc, 0.5), 1)")),
        "'Independent' object is not callable .*: take distributions from pyro.distributions, torch's own cannot be",
    ),
    "a flow of zuko's as it is": (
        program(("dist.Normal(torch.zeros(2), 1.0).to_event(1)", "self.flow()"),
                setup="import zuko\nself.flow = zuko.flows.NSF(2, transforms=1, hidden_features=(4,))"),
        "'NormalizingFlow' object is not callable .*zuko's are wrapped by pyro.contrib.zuko.ZukoToPyro",
    ),
    "a parameter of the store": (
        program(first='pyro.param("scale", torch.ones(()))'),
        "pyro.param 'scale' does not belong to a module: make it an nn.Parameter",
    ),
    "batch norm": (
        program(setup="self.norm = nn.BatchNorm1d(3)", between="loc = self.norm(loc)"),
        r"several particles: they come as leading dimensions, .*BatchNorm1d takes one, \(n, features\): flatten",
    ),
    "a shape that is written out": (
        program(between="loc = loc.view(n, 3)"),
        "several particles: they come as leading dimensions, .*which networks must accept",
    ),
    "no size": (
        program(("x=None, size=None", "x"), ("size if x is None else len(x)", "len(x)")),
        r"unexpected keyword argument 'size': a model is called as model\(x\), and as model\(None, size=n\)",
    ),
    "one batch size alone": (
        program(first="if x is not None and n != 20: raise ValueError('twenty')"),
        "runs on 20 datapoints and not on 1, but minibatches differ",
    ),
    "not a number": (program(between="loc = loc * float('nan')"), "own.py:OwnModel cannot be run .*Expected param"),
    "a latent variable of all datapoints": (
        program(first='pyro.sample("w", dist.Normal(0.0, 1.0))'),
        "own.py:OwnGuide does not sample site 'w' of own.py:OwnModel",
    ),
    "another dimension": (
        program(('"data", n, dim=-1', '"data", n, dim=-2')),
        r"site 'z' of own.py:OwnModel must be sampled inside pyro.plate\('data', n, dim=-1\)",
    ),
    "a way out": (program(first="if x is not None: exit(3)"), "SystemExit: 3"),
    "a seed": (program(first="torch.manual_seed(0)"), "own.py:OwnModel sets the seed of torch in its forward"),
    "Pyro's seed, in the guide": (
        program(guide="pyro.set_rng_seed(1)"), "own.py:OwnGuide sets the seed of torch in its forward",
    ),
    "data that are written into": (
        program(first="if x is not None: x += 1.0"),
        r"own.py:OwnModel changes the x that it is given: work on a copy, x = x.clone\(\)",
    ),
    "nothing that learns": (
        program(guide_setup="self.requires_grad_(False)"),
        "OwnModel and OwnGuide has no parameter that learns: give it an nn.Parameter",
    ),
    # log q(u) would add the entropy of u to the bound, 1.4 nats above log p(x).
    "an auxiliary draw of no use": (
        program(guide='pyro.sample("u", dist.Normal(torch.zeros(len(x)), 1.0), infer={"is_auxiliary": True})'),
        "own.py:OwnGuide has the auxiliary site 'u', and its latent variables are no function of it, one to one: .*D",
    ),
    "weights that are random": (
        program(("nn.Module)", "pyro.nn.PyroModule)"), ("z @ W\n", "z @ self.weight\n"),
                setup="self.weight = pyro.nn.PyroSample(dist.Normal(0.0, 1.0).expand([2, 3]).to_event(2))"),
        "does not sample site 'weight'|site 'weight' of own.py:OwnModel is a PyroSample, .*full_vb",
    ),
    "a guide outside the prior's support": (
        program((PRIOR, 'pyro.sample("z", dist.Gamma(torch.ones(2), 1.0).to_event(1))')),
        r"site 'z' of own.py:OwnGuide draws from all reals, and own.py:OwnModel has it in \(0, inf\): give the guide",
    ),
    "a float64 model": (
        program(("loc = z @ W", "loc = z @ W.double()")),
        r"the same dtype.*: data are torch.float32: leave torch.set_default_dtype at that, or convert x, x.double\(\)",
    ),
    "an import by a call": (
        program(setup="import importlib\nimportlib.import_module('blocks')"),
        "blocks",
    ),
    **{
        f"{auto} of the rows": (
            program() + AUTO.format(auto),
            "an autoguide has parameters for each row: write one that computes them from x",
        )
        for auto in ("AutoNormal", "AutoDelta", "AutoDiagonalNormal")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_one_line(name, run):
    text, message = REFUSED[name]
    auto = name.partition(" ")[0]
    result = run(text, *(("--guide", f"own.py:Own{auto}") if auto.startswith("Auto") else ()))
    assert (result.status, result.err.count("\n")) == (2, 1), result.err
    assert re.search(message, result.err), result.err
    assert "Trace Shapes" not in result.err
    assert not Path("run").exists()


def test_a_prior_that_pyro_cannot_sample_is_told_how_to_be_wrapped(cli):
    Path("own.py").write_text(
        "import torch, zuko\nfrom torch import nn\n"
        "class Flow(nn.Module):\n    def __init__(self, latent):\n        super().__init__()\n"
        "        self.flow = zuko.flows.NSF(latent, transforms=1, hidden_features=(4,))\n"
        "    def forward(self):\n        return self.flow()\n"
        "class Plain(Flow):\n    def forward(self):\n        return torch.distributions.Normal(torch.zeros(2), 1.0)\n"
    )
    for name, mend in (("Flow", "wrap it, pyro.contrib.zuko.ZukoToPyro"), ("Plain", "take it from pyro.distributions")):
        result = cli("train", "--prior", f"own.py:{name}", "--hidden", 5, "--samples", 200, "--out", "run")
        assert (result.status, result.err.count("\n")) == (2, 1), result.err
        assert re.search(f"--prior own.py:{name} .*which Pyro cannot sample: {mend}", result.err), result.err


@pytest.mark.parametrize("value", ["abc", "-1", "nan", "[1, 2]", "2020-01-01"])
def test_a_setting_of_another_type_is_one_line(value, run):
    result = run(program(), "--inference", "mcem", "--set", f"inference.shared_step={value}")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert f"--set inference.shared_step {value.replace(', ', ', ')}" in result.err
    assert "is not possible" in result.err


def test_objects_in_an_array_are_one_line(cli):
    np.save("x.npy", np.array([[1, None], ["a", 2.0]], dtype=object), allow_pickle=True)
    result = cli("train", "--data", "x.npy", "--samples", 200)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "--data x.npy" in result.err


def test_a_notebook_in_float64_is_one_line(tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(InputError, match=r"the same dtype.*data are torch.float32: leave torch.set_default_dtype"):
            pyro_vae.train(tmp_path / "run", hidden=5, samples=200, progress=False)
    finally:
        torch.set_default_dtype(torch.float32)


# --- One line, where it shows later only ------------------------------------------------------------------------------

SPHERE = program((f"z = {PRIOR}", 'z = pyro.sample("z", dist.ProjectedNormal(torch.zeros(2)))'),
                 (POSTERIOR, 'pyro.sample("z", dist.ProjectedNormal(loc))'))  # fmt: skip
CATEGORICAL = program(
    (f"z = {PRIOR}", 'z = torch.eye(2)[pyro.sample("z", dist.Categorical(torch.ones(2)))]'),
    (POSTERIOR, 'pyro.sample("z", dist.Categorical(logits=loc))'),
)
POINT = program((POSTERIOR, 'pyro.sample("z", dist.Delta(loc, event_dim=1))'))
ANALYZE = ("analyze", "--limit", 3, "--draws", 20, "--warmup", 10)
LATER = [
    (program(first="if size and n > 60: raise ValueError('sixty')"), ("sample",), "drawing from OwnModel .*: sixty"),
    (
        program(first="if x is not None and n == 7: raise ValueError('seven')"),
        ("reconstruct", "--number", 7),
        r"drawing from OwnModel failed: ValueError: seven \(.*py:\d+\)",
    ),
    (
        program(first="if n == 49: raise KeyError('a')"),
        ("manifold", "--grid", 7),
        "drawing from OwnModel failed: KeyError: 'a'",
    ),
    (
        program(first="if not torch.is_grad_enabled() and n > 18: raise ValueError('nineteen')"),
        ("evaluate", "--split", "test"),
        "looking at OwnModel failed: ValueError: nineteen",
    ),
    (
        POINT,
        ("evaluate",),
        "OwnGuide is a point at site 'z', which has no density, .*--local .*or --marginal ais alone",
    ),
    (SPHERE, ("evaluate", "--marginal", "ais"), "site 'z' has the support .*, and HMC .*need a bijection"),
    (SPHERE, ("evaluate", "--marginal", "reciprocal"), "site 'z' has the support .*, and HMC .*need a bijection"),
    (SPHERE, ANALYZE, "site 'z' .*support"),
    (
        CATEGORICAL,
        ("evaluate", "--marginal", "ais"),
        "OwnModel has no latent variable but discrete ones, .*: use importance",
    ),
    (CATEGORICAL, ANALYZE, "site 'z' .*support"),
    (
        program(setup="self.own = torch.Generator()", between="loc = loc + torch.randn(3, generator=self.own)"),
        ANALYZE,
        "gives the same draws another density at each call: what it draws must be pyro.sample sites",
    ),
]


@pytest.mark.parametrize(("text", "command", "message"), LATER)
def test_what_fails_later_is_one_line(text, command, message, run, cli):
    # The test split has 20 datapoints, minibatches have 20 and evaluations on the way draw for 20 or fewer.
    evaluating = "nineteen" in text
    result = run(text.replace("n > 18", "False") if evaluating else text)
    assert result.status == 0, result.err
    if evaluating:
        Path("run/parts/model.py").write_text(text)
        Path("run/parts/guide.py").write_text(text)
    name, *options = command
    result = cli(name, "run", "--trust", *options)
    assert result.status == 2, result.err
    assert re.search(message, result.err.splitlines()[-1]), result.err
    assert "Traceback" not in result.err


def test_mcem_says_first_what_it_cannot_move(run):
    learning = (
        "super().__init__()\n        #",
        "super().__init__()\n        self.bias = nn.Parameter(torch.ones(1))\n        #",
    )
    result = run(CATEGORICAL.replace(*learning), "--inference", "mcem")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "OwnModel has no latent variable but discrete ones" in result.err


def test_a_point_is_judged_by_what_needs_no_density(run, cli):
    assert run(POINT).status == 0
    x = pyro_vae.Run.open("run", trust=True).dataset.test.first()
    found = json.loads(cli("evaluate", "run", "--trust", "--json", "--marginal", "ais", *QUICK).out)
    assert abs(found["ais"]["log_px"] - gaussian(x)) < 4 * found["ais"]["se"] + 1e-3
    found = json.loads(cli("evaluate", "run", "--trust", "--json", "--local").out)
    assert found["bound"] < gaussian(x)
    assert found["importance"]["log_px"] == pytest.approx(gaussian(x), abs=0.05)


# --- What changes by step: see tests/test_what_changes.py -------------------------------------------------------------

HISTORY = program(setup="self.history = []", between="self.history.append(float(n))")
COUNTER = program(
    ("= pyro.sample", "= poutine.scale(pyro.sample, scale=self.step / 40)"),
    setup="self.step = 0",
    first="self.step += 1",
)
NEIGHBOUR = {"warm.py": "STATE = {'step': 0}\ndef weight():\n    STATE['step'] += 1\n    return STATE['step'] / 40\n"}
BY_NEIGHBOUR = "from warm import weight\n" + program(("= pyro.sample", "= poutine.scale(pyro.sample, scale=weight())"))


@pytest.mark.parametrize(
    ("text", "named"),
    [(HISTORY, "OwnModel.history"), (COUNTER, "OwnModel.step"), (BY_NEIGHBOUR, "warm.STATE.step")],
)
def test_what_a_trace_would_freeze_is_named(text, named, run, caplog):
    for path, content in NEIGHBOUR.items():
        Path(path).write_text(content)
    result = run(text, "--compile", "on")
    assert result.status == 0, result.err
    (line,) = (record.getMessage() for record in caplog.records if "uncompiled" in record.getMessage())
    assert f": {named}" in line
    assert "changes from call to call" in line


RESUMED = {
    "a counter": COUNTER,
    "a history": HISTORY,
    "weights that are taken": program(
        ("= pyro.sample", "= poutine.scale(pyro.sample, scale=self.weights.pop(0) if self.training else 1.0)"),
        setup="self.weights = [k / 500 for k in range(1, 500)]",
    ),
    "a buffer": program(
        ("= pyro.sample", "= poutine.scale(pyro.sample, scale=self.step / 40)"),
        setup="self.register_buffer('step', torch.zeros(()))", first="self.step += 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RESUMED)
def test_what_it_counts_is_resumed(name, run, cli):
    ends = {}
    for out, samples in (("whole", 2000), ("part", 1000)):
        result = run(RESUMED[name], "--step-size", "1e-2", "--samples", samples, "--out", out)
        assert result.status == 0, result.err
    result = cli("train", "--resume", "--samples", 2000, "--out", "part", "--trust", "--no-figures")
    assert result.status == 0, result.err
    for out in ("whole", "part"):
        rows = [row.split(",") for row in Path(out, "metrics.csv").read_text().splitlines()]
        # The shorter run has an evaluation at its end, and each of them counts.
        ends[out] = [(samples, *bounds) for samples, _, *bounds in rows]
        ends[out].append(Path(out, "weights.safetensors").read_bytes())
    assert ends["whole"] == ends["part"] or name in ("a counter", "a history", "a buffer")
    assert ends["whole"][-1] == ends["part"][-1]


FORGOTTEN = {
    "OwnModel.step": program(setup="self.step = torch.zeros(())", first="self.step += 1"),
    "own.STEP": "STEP = 0\n" + program(first="global STEP\nSTEP += 1"),
    "warm.STATE.step": BY_NEIGHBOUR,
    "OwnModel.count": program(setup="import itertools\nself.count = itertools.count()", first="next(self.count)"),
    "OwnModel.steps": program(first="OwnModel.steps = getattr(OwnModel, 'steps', 0) + 1"),
    "OwnModel.own": program(setup="import random\nself.own = random.Random(0)", first="self.own.random()"),
}


@pytest.mark.parametrize("named", FORGOTTEN)
def test_what_no_checkpoint_holds_is_not_resumed(named, run, cli):
    for path, content in NEIGHBOUR.items():
        Path(path).write_text(content)
    result = run(FORGOTTEN[named])
    assert result.status == 0, result.err
    result = cli("train", "--resume", "--samples", 2000, "--out", "run", "--trust", "--no-figures")
    assert (result.status, result.err.count("\n")) == (2, 1)
    name = "model.STEP" if named == "own.STEP" else named
    assert re.search(f"run cannot be resumed: ({named}|{name}) changes as the model trains, and no chec", result.err)


# --- Several runs in one process --------------------------------------------------------------------------------------


def test_threads_train_one_after_the_other(tmp_path):
    def train(seed, out):
        run = pyro_vae.train(tmp_path / out, hidden=5, samples=1500, seed=seed, train_size=200, progress=False)
        found[out] = [(samples, *bounds) for samples, _, *bounds in run.rows]

    found = {}
    threads = [threading.Thread(target=train, args=(seed, f"together-{seed}")) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(3):
        train(seed, f"alone-{seed}")
        assert found[f"together-{seed}"] == found[f"alone-{seed}"]
