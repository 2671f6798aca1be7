"""Programs with discrete latent variables: trained as SVI trains them, evaluated exactly, or refused in one line."""

import copy
import json
import logging
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceEnum_ELBO
from torch import nn

from pyro_vae import to_arviz
from pyro_vae.analysis.encode import encode
from pyro_vae.checks import check_pair
from pyro_vae.elbo import log_weights
from pyro_vae.errors import InputError
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.ais import AIS
from pyro_vae.inference.importance import Importance
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.local import fit_gaussian
from pyro_vae.marginal import bound
from pyro_vae.split import Split
from pyro_vae.wrapped import SumsOut

from .test_enumerated import PI, PRECISION, SUMMED, Chain, Marginal, Mixture, Nothing, Posterior, W, drawn, joint

M = torch.tensor([[-2.0, 0.0], [1.0, 2.0], [2.0, -1.0]])


@pytest.fixture
def interpreted(monkeypatch):
    """Runs traced functions as torch records them, not compiled."""
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda graph, *_, **__: graph)


class Learns(nn.Module):
    """The mixture with its means and weights as parameters, and what a program may put around its sites."""

    def __init__(self, around=None, infer=SUMMED, kind="categorical"):
        super().__init__()
        self.loc, self.weight = nn.Parameter(M.clone()), nn.Parameter(W.clone())
        self.logits = nn.Parameter(PI.log())
        self.around, self.infer, self.kind = around, infer, kind

    def forward(self, x=None, size=None):
        n = size if x is None else len(x)
        with pyro.plate("data", n, dim=-1):
            if self.around == "scale":
                with poutine.scale(scale=0.3):
                    return self.inside(x)
            if self.around == "mask" and x is not None:
                with poutine.mask(mask=torch.arange(n) % 3 > 0):
                    return self.inside(x)
            return self.inside(x)

    def inside(self, x):
        if self.kind == "one-hot":
            y = pyro.sample("y", dist.OneHotCategorical(logits=self.logits), infer=self.infer)
            loc = y @ self.loc
        elif self.kind == "two":
            y = pyro.sample("y", dist.Categorical(logits=self.logits), infer=self.infer)
            v = pyro.sample("v", dist.Bernoulli(torch.tensor(0.4)), infer=self.infer)
            loc = self.loc[y] + v.unsqueeze(-1)
        else:
            y = pyro.sample("y", dist.Categorical(logits=self.logits), infer=self.infer)
            loc = self.loc[y]
        z = pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(z @ self.weight, 0.5).to_event(1), obs=x)


class LearnsToo(nn.Module):
    """q(z | x), or q(y | x) and q(z | y, x)."""

    def __init__(self, labels=False, infer=SUMMED):
        super().__init__()
        self.net, self.labels, self.infer = nn.Linear(3, 2), nn.Linear(3, 3) if labels else None, infer
        self.shift = nn.Parameter(torch.zeros(3, 2))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            loc = self.net(x)
            if self.labels is not None:
                y = pyro.sample("y", dist.Categorical(logits=self.labels(x)), infer=self.infer)
                loc = loc + self.shift[y]
            return pyro.sample("z", dist.Normal(loc, 0.7).to_event(1))


class NestedLearns(nn.Module):
    """A label for each of two parts of a datapoint, and z given both."""

    def __init__(self):
        super().__init__()
        self.loc, self.weight = nn.Parameter(M[:, 0].clone()), nn.Parameter(W.clone())

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            drawn = pyro.sample("x", dist.Normal(z @ self.weight, 0.5).to_event(1), obs=x)
            with pyro.plate("parts", 2, dim=-2):
                y = pyro.sample("y", dist.Categorical(PI), infer=SUMMED)
                loc = self.loc[y] + z[..., 0]
                pyro.sample("part", dist.Normal(loc, 1.0), obs=None if x is None else x[:, :2].T)
            return drawn


class ChainLearns(Chain):
    """The chain with the transition as a parameter, and nothing to draw."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(Chain.transition.log())

    @property
    def transition(self):
        return self.logits.softmax(-1)


def sequential():
    return {"enumerate": "sequential"}


PAIRS = {
    "in the model": (Learns(), LearnsToo(), {}),
    "in the guide": (Learns(), LearnsToo(labels=True), {}),
    "marked in the guide alone": (Learns(infer={}), LearnsToo(labels=True), {}),
    "in sequence": (Learns(), LearnsToo(labels=True, infer=sequential()), {}),
    "by the wrapper": (SumsOut(Learns(infer={})), SumsOut(LearnsToo(labels=True, infer={})), {}),
    "several draws": (Learns(), LearnsToo(labels=True), {"particles": 3}),
    "vectors": (Learns(kind="one-hot"), LearnsToo(), {}),
    "two sites": (Learns(kind="two"), LearnsToo(), {"particles": 2}),
    "a weight": (Learns(around="scale"), LearnsToo(), {}),
    "masked rows": (Learns(around="mask"), LearnsToo(), {}),
    "a plate inside": (NestedLearns(), LearnsToo(), {}),
    "a chain": (ChainLearns(), Nothing(), {}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_it_trains_as_svi_by_pyros_estimator(name, interpreted):
    # The same draws, minibatches and optimiser; what is left is float32 in another order.
    model, guide, settings = PAIRS[name]
    particles = settings.get("particles", 1)
    steps = 20 if name in ("in the model", "in the guide", "a plate inside") else 6
    data, ends = Split(drawn(60)), {}
    for compile in (False, True):
        pair = copy.deepcopy(model), copy.deepcopy(guide)
        learner = AEVB(*pair, data, batch=20, optimizer="Adam", step_size=1e-2, weight_prior=math.inf,
                       compile=compile, **settings)  # fmt: skip
        torch.manual_seed(1)
        for _ in range(steps):
            learner.step()
        assert (type(learner.elbo), learner.update.compiles) == (TraceEnum_ELBO, compile)
        ends[compile] = [p.detach() for part in pair for p in part.parameters()]
    pair = copy.deepcopy(model), copy.deepcopy(guide)
    nesting = 2 if name == "a plate inside" else 1
    elbo = TraceEnum_ELBO(num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=nesting)
    torch.manual_seed(1)
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        svi = SVI(_with_module("model", pair[0]), _with_module("guide", pair[1]), pyro.optim.Adam({"lr": 1e-2}), elbo)
        for _ in range(steps):
            svi.step(data.minibatch(20))
    for plain, traced, own in zip(
        ends[False], ends[True], [p for part in pair for p in part.parameters()], strict=True
    ):
        torch.testing.assert_close(plain, own, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(traced, own, rtol=1e-3, atol=1e-4)


def _with_module(name, part):
    def program(x):
        pyro.module(name, part)
        return part(x)

    return program


class Labelled(nn.Module):
    """The mixture with a label, -1 where it is missing, in the fourth column of x."""

    def __init__(self, way="obs_mask"):
        super().__init__()
        self.way = way

    def forward(self, x=None, size=None):
        label = torch.full((size,), -1) if x is None else x[:, 3].long()
        there = label >= 0
        with pyro.plate("data", len(label), dim=-1):
            if self.way == "obs_mask":
                y = pyro.sample("y", dist.Categorical(PI), obs=label.clamp(0), obs_mask=there, infer=SUMMED)
            else:  # the label is an observation of y without noise
                y = pyro.sample("y", dist.Categorical(PI), infer=SUMMED)
                with poutine.mask(mask=there):
                    point = dist.Categorical(logits=torch.eye(3).log()[y])
                    pyro.sample("label", point, obs=label.clamp(0))
            z = pyro.sample("z", dist.Normal(M[y], 1.0).to_event(1))
            cells = pyro.sample("x", dist.Normal(z @ W, 0.5).to_event(1), obs=None if x is None else x[:, :3])
            return torch.cat([cells, label[:, None].float()], dim=1) if x is None else cells


class GuideOfLabelled(nn.Module):
    """q(z | x), or the posterior of y, which a label makes a point, and that of z given y."""

    def __init__(self, labels=False):
        super().__init__()
        self.labels = labels

    def forward(self, x):
        if not self.labels:
            return Marginal()(x[:, :3])
        label = x[:, 3].long()
        known = torch.eye(3).log()[label.clamp(0)]
        logits = torch.where(label[:, None] >= 0, known, joint(x[:, :3]).T)
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=logits), infer=SUMMED)
            loc = (M[y] + x[:, :3] @ W.T / 0.25) @ PRECISION.inverse()
            return pyro.sample("z", dist.MultivariateNormal(loc, precision_matrix=PRECISION))


@pytest.mark.parametrize("way", ["obs_mask", "a point"])
def test_a_label_that_is_there_is_observed_and_one_that_is_missing_summed_out(way):
    # log p(x, y) where there is a label, log p(x) where there is none.
    cells = drawn(6)
    label = torch.tensor([0.0, 1.0, 2.0, -1.0, -1.0, 2.0])
    x = torch.cat([cells, label[:, None]], dim=1)
    each = joint(cells)
    expected = torch.where(label >= 0, each[label.long().clamp(0), torch.arange(6)], each.logsumexp(0)).double()
    torch.manual_seed(1)
    log_w = log_weights(Labelled(way), GuideOfLabelled(), x, 20_000)
    se = (log_w - log_w.logsumexp(0)).exp().std(0) * math.sqrt(20_000)
    assert (log_w.logsumexp(0) - math.log(20_000) - expected).abs().le(4 * se + 1e-4).all()
    assert se.max() < 0.05
    if way == "a point":  # with the posterior in the guide, without any error
        torch.testing.assert_close(
            log_weights(Labelled(way), GuideOfLabelled(True), x)[0], expected, rtol=1e-5, atol=1e-4
        )
        found = bound(Labelled(way), GuideOfLabelled(True), Split(x), 2).mean
        assert found == pytest.approx(expected.mean().item(), abs=1e-4)


def test_wake_sleep_sums_out_of_the_wake_phase_what_its_guide_lacks():
    # Its loss is the mean of one draw for each of 2,000 datapoints, drawn with replacement: 4 standard errors of it.
    data = Split(drawn(2000))
    model, guide = Learns(), LearnsToo()
    each = log_weights(model, guide, data.values)[0]
    learner = WakeSleep(model, guide, data, batch=2000, optimizer="Adam", step_size=1e-5)
    learner.step()
    within = 4 * each.std().item() * math.sqrt(2 / 2000)
    assert -learner.loss.item() == pytest.approx(each.mean().item(), abs=within)
    for particles, insomnia, labels in ((1, 0.0, False), (4, 0.5, False), (4, 0.5, True)):  # True draws y in the guide
        model, guide = Learns(), LearnsToo(labels=labels)
        start = bound(model, guide, data, 5).mean
        settings = {"particles": particles, "insomnia": insomnia}
        learner = WakeSleep(model, guide, data, optimizer="Adam", step_size=1e-2, **settings)
        for _ in range(40):
            learner.step()
        assert bound(model, guide, data, 5).mean > start + 0.5


def test_a_gaussian_of_each_datapoint_leaves_discrete_sites_out():
    x = drawn(20)
    log_px = joint(x).logsumexp(0).double()
    found = Importance(particles=2000).estimate(Mixture(), None, Split(x)).estimates
    assert found.values.mean().item() == pytest.approx(log_px.mean().item(), abs=3 * found.mean().se + 2e-3)
    assert [*fit_gaussian(Mixture(), x, steps=1).sites] == ["z"]


def test_encode_gives_probabilities():
    # The posterior as the guide gives q(y | x) = p(y | x); its draws of z give means of p(y | x, z) that come to it.
    x = drawn(30)
    expected = joint(x).softmax(0).T.double().numpy()
    table = encode(Mixture(), Posterior(), Split(x), particles=50)
    names = ["y_p_0", "y_p_1", "y_p_2"]
    assert abs(table[names].to_numpy() - expected).max() < 1e-5
    assert (table["y"].to_numpy() == expected.argmax(1)).all()
    assert table["bound"].to_numpy() == pytest.approx(joint(x).logsumexp(0).numpy(), abs=1e-4)
    assert [*table.columns[-3:]] == ["bound", "log_px", "khat"]
    table = encode(Learns(kind="one-hot"), LearnsToo(), Split(x), particles=50)
    assert table[names].sum(axis=1).to_numpy() == pytest.approx(1.0)


@pytest.mark.parametrize("guide", [Posterior(), Marginal()], ids=["in the guide", "in the model"])
def test_arviz_gets_probabilities_and_draws_with_their_values(guide):
    x = drawn(6)
    tree = to_arviz(Mixture(), guide, x, chains=4, draws=60, warmup=40, predictive=8)
    posterior = tree["posterior"]
    assert posterior["y_probability"].dims == ("chain", "draw", "datapoint", "y_value")
    assert posterior["y_value"].values.tolist() == [0, 1, 2]
    assert posterior["y"].dims == ("chain", "draw", "datapoint")
    assert {"discrete"} <= posterior["y"].attrs.keys()
    assert tree["log_likelihood"]["x"].shape == (4, 60, 6)
    # A mean over 240 correlated draws, of numbers from 0 to 1.
    means = posterior["y_probability"].mean(("chain", "draw")).values
    assert abs(means - joint(x).softmax(0).T.numpy()).max() < 0.25
    shares = (posterior["y"] == posterior["y_value"]).mean(("chain", "draw")).transpose("datapoint", "y_value").values
    assert abs(shares - means).max() < 0.12
    assert ("y" in tree["guide_posterior"]) is isinstance(guide, Posterior)


def test_what_is_discrete_alone_is_exact_without_hmc():
    x = Split(drawn(4))
    found = Importance(particles=30).estimate(Chain(), Nothing(), x)
    assert found.se.abs().max() < 1e-6
    assert bound(Chain(), None, x, 2).mean == pytest.approx(found.log_px.mean().item(), abs=1e-5)
    with pytest.raises(InputError, match=r"Chain has no latent .* discrete ones.*use importance, which is exact"):
        AIS().estimate(Chain(), None, x)


class Wrong(Learns):
    """Programs that cannot be summed out."""

    def inside(self, x):
        y = pyro.sample("y", self.of_y(), infer=self.infer)
        z = pyro.sample("z", dist.Normal(self.of_z(y), 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(z @ self.weight, 0.5).to_event(1), obs=x)

    def of_y(self):
        return dist.Poisson(torch.tensor(2.0)) if self.kind == "endless" else dist.Categorical(PI)

    def of_z(self, y):
        if self.kind == "endless":
            return self.loc[y.long() % 3]
        if self.kind == "flat":
            return self.loc[y.reshape(-1)].reshape(-1, 2)[: y.shape[-1]]
        if self.kind == "branches":
            return self.loc[0] if bool((y == 0).all()) else self.loc[y]
        return self.loc[y] - self.loc[y].mean(0, keepdim=True).mean(-2, keepdim=True) * (y.dim() > 1)


class Masked(LearnsToo):
    def forward(self, x):
        with poutine.mask(mask=torch.arange(len(x)) > 2):
            return super().forward(x)


MISTAKES = {
    "endless": (Wrong(kind="endless"), LearnsToo(), {}, "site 'y' of .*Wrong is marked to be summed out, and Poisson"),
    "flat": (Wrong(kind="flat"), LearnsToo(), {}, "site 'y' other log densities together than one by one"),
    "another value": (Wrong(kind="mean"), LearnsToo(), {}, "site 'y' other log densities together than one by one"),
    "unmarked": (Learns(infer={}), LearnsToo(), {}, "does not sample site 'y' .* or sum it out, --enumerate$"),
    "masked": (Learns(), Masked(labels=True), {}, "site 'y' of .*Masked is masked .* give the guide logits of -inf"),
    "an estimator": (Learns(), LearnsToo(), {"elbo": RenyiELBO}, "elbo = RenyiELBO cannot sum out"),
    "one of that kind": (Learns(), LearnsToo(), {"elbo": type("Own", (Trace_ELBO,), {})}, "Own cannot .* derive it"),
    "iwae": (Learns(), LearnsToo(labels=True), {"objective": "iwae", "particles": 2}, "sums site 'y' out of its"),
    "analytic": (Learns(), LearnsToo(), {"kl": "analytic"}, "no closed form where sites are summed out"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name):
    model, guide, settings, message = MISTAKES[name]
    with pytest.raises(InputError, match=message) as told:
        AEVB(model, guide, Split(drawn(40)), batch=20, **settings)
    assert "\n" not in str(told.value)


def test_the_importance_weighted_objective_trains_what_the_model_sums_out():
    data = Split(drawn(200))
    model, guide = Learns(), LearnsToo()
    learner = AEVB(model, guide, data, objective="iwae", particles=5, optimizer="Adam", step_size=1e-2)
    before = bound(model, guide, data, 20).mean
    for _ in range(60):
        learner.step()
    assert bound(model, guide, data, 20).mean > before + 0.3


def test_what_is_drawn_is_said_once(caplog):
    caplog.set_level(logging.WARNING, logger="pyro_vae")
    learner = AEVB(Learns(infer={}), LearnsToo(labels=True, infer={}), Split(drawn(40)), batch=20)
    learner.step()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("LearnsToo draws the discrete site 'y': gradients are noisy")
    assert type(learner.elbo) is Trace_ELBO


def test_looking_at_a_pair_changes_nothing():
    x = drawn(5)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    log_weights(Chain(), Nothing(), x)
    check_pair(Mixture(), Posterior(), x)
    torch.testing.assert_close(torch.rand(3), expected)


FILE = """
import pyro
import pyro.distributions as dist
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, features, latent):
        super().__init__()
        self.loc, self.decoder = nn.Parameter(torch.randn(4, latent)), nn.Linear(latent, features)

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.ones(4) / 4))
            z = pyro.sample("z", dist.Normal(self.loc[y], 1.0).to_event(1))
            pixels = dist.Bernoulli(logits=self.decoder(z), validate_args=False)
            return pyro.sample("x", pixels.to_event(1), obs=x)
"""


def test_a_file_without_a_mark_is_summed_out_by_enumerate(cli, tmp_path):
    (tmp_path / "own.py").write_text(FILE)
    settings = ("--model", "own.py", "--samples", 300, "--no-figures", "--out", "run")
    asked = cli("train", *settings)
    assert asked.status == 2
    assert asked.err.endswith("does not sample site 'y' of own.py:Own: give it one of that name, it has 'z', or sum it "
                              "out, --enumerate\n")  # fmt: skip
    assert cli("train", "--enumerate", *settings).status == 0
    assert cli("train", "--resume", "--trust", "--samples", 600, "--out", "run").status == 0
    scored = cli("evaluate", "run", "--trust", "--limit", 20, "--particles", 50, "--json")
    found = json.loads(scored.out)
    assert found["bound"] < found["importance"]["log_px"]
    assert cli("encode", "run", "--trust", "--out", "z.csv").status == 0
    assert (tmp_path / "z.csv").read_text().startswith("row,y,y_p_0,y_p_1,y_p_2,y_p_3,z_1,")
    assert cli("traverse", "run", "--trust").status == 0
    needless = cli("train", "--enumerate", "--out", "none")
    assert needless.status == 2
    assert "--enumerate finds no discrete latent variable that could be summed out: leave it out" in needless.err
    wrong = cli("train", "--enumerate", "perhaps", "--out", "none")
    assert (wrong.status, "choose from true, false" in wrong.err) == (2, True)
