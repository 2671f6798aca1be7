"""Missing cells, scaling, labels and covariates against a model whose log p(x) is known."""

import math
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

import pyro_vae
from pyro_vae.bayesian import BayesianModel
from pyro_vae.checks import check_pair
from pyro_vae.data import adapted, load_data
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.ais import AIS
from pyro_vae.inference.importance import Importance
from pyro_vae.inference.mcem import MCEM
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.log_joint import LogJoint
from pyro_vae.marginal import Estimates, bound
from pyro_vae.measure import measure
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.normal import NormalModel
from pyro_vae.plates import traces
from pyro_vae.rows import observed
from pyro_vae.sites import isolated, sample_sites


def log_px(model, x):
    """The log density of the cells that are there, a Gaussian with the rows and columns of W W^T + s^2 I for them."""
    covariance = model.weight @ model.weight.T + model.noise**2 * torch.eye(len(model.bias))
    values = []
    for row in x:
        there = ~row.isnan()
        if there.any():
            part = dist.MultivariateNormal(model.bias[there], covariance[there][:, there])
            values.append(part.log_prob(row[there]))
        else:
            values.append(torch.zeros(()))
    return torch.stack(values)


@pytest.fixture
def holed(oracle):
    """The oracle's data with 30 % of the cells missing, one row without any, as the rows of its model."""
    x = oracle.x[:100].clone()
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(5)) < 0.3] = math.nan
    x[3] = math.nan
    data = load_data(x.numpy(), test_share=0.5)
    assert data.missing
    model, _, data = adapted(oracle.model, None, data)
    return model, data


def test_estimators_mean_log_p_of_what_is_there(oracle, holed):
    model, data = holed
    split = data.test.head(20)
    exact = log_px(oracle.model, split.first()).double()
    # A Gaussian is fitted to each posterior, which has correlations that it lacks: the bound lies below.
    lower = bound(model, None, split, 200)
    assert lower.mean < exact.mean() + 3 * lower.se
    assert lower.mean > exact.mean() - 0.5
    for estimator in (Importance(500), AIS(temperatures=30, chains=30)):
        found = estimator.estimate(model, None, split)
        mean, error = Estimates(found.log_px, found.se).mean()
        # Of AIS and importance the mean log is below by half the variance, which is 0.001 here.
        assert abs(mean - exact.mean().item()) < 3 * error + 0.002


def test_a_row_without_cells_has_log_p_of_0(oracle, holed):
    model, _ = holed
    rows = torch.full((2, 5), math.nan)
    with isolated():
        trace = poutine.trace(model).get_trace(rows)
    trace.compute_log_prob()
    assert torch.equal(trace.nodes["x"]["log_prob"], torch.zeros(2))


def test_missing_cells_change_no_gradient(oracle, holed):
    # The gradient of a masked cell is 0, and not 0 times an infinite one.
    model, _ = holed
    model.part.bias.requires_grad_()
    rows = oracle.x[:4].clone()
    rows[:, 2] = math.nan
    with isolated():
        log_p = sample_sites(poutine.trace(model).get_trace(rows))["x"]
        log_p["fn"].log_prob(log_p["value"]).sum().backward()
    assert model.part.bias.grad[2] == 0
    assert model.part.bias.grad.isfinite().all()


@pytest.mark.parametrize("scale", ["unit", "standard"])
def test_log_p_is_in_the_datas_own_units(oracle, scale):
    # x = a + b y with y from the oracle: log p(x) = log p(y) - sum log b. The model is one of scaled cells, so that
    # its y' = (x - c) / d is Gaussian with mean (a + b m - c) / d and factors b W / d, as long as it is built for them.
    b = torch.tensor([0.01, 1.0, 10.0, 300.0, 2.0])
    a = torch.tensor([5.0, 0.0, -20.0, 1000.0, 0.0])
    data = load_data((a + b * oracle.x).numpy(), scale=scale)
    c, d = data.scaled
    x = data.test.first()

    class Scaled(type(oracle.model)):
        def forward(self, x=None, size=None):
            with pyro.plate("data", size if x is None else len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                mean = (a + b * (z @ self.weight.T + self.bias) - c) / d
                return pyro.sample("x", dist.Normal(mean, b * self.noise / d).to_event(1), obs=x)

    model, _, rows = adapted(Scaled(oracle.model.weight, oracle.model.bias, oracle.model.noise), None, data)
    exact = oracle.model.log_px((x[:15] - a) / b) - b.log().sum()
    found = Importance(500).estimate(model, None, rows.test.head(15))
    mean, error = Estimates(found.log_px, found.se).mean()
    assert abs(mean - exact.double().mean().item()) < 3 * error + 0.005  # float32, a thousand away from 0
    # Draws and means are in those units as well.
    with isolated():
        site = sample_sites(poutine.trace(model).get_trace(None, size=4000))["x"]
    # The mean of 4,000 draws has a standard error of a 63rd of their standard deviation.
    spread = b * (oracle.model.weight.square().sum(1) + oracle.model.noise**2).sqrt()
    assert ((site["value"].mean(0) - (a + b * oracle.model.bias)).abs() < 5 * spread / 63).all()
    assert site["fn"].mean.shape == (4000, 5)
    torch.testing.assert_close(site["fn"].variance[0], (b * oracle.model.noise) ** 2)


def test_two_scalings_have_one_log_p(oracle):
    # One density in own units, told by models of data that are scaled in two ways and of data that are not.
    x = (torch.tensor([3.0, 0.1, 7.0, 1.0, 0.5]) * oracle.x + 4).numpy()
    x[::7, 1] = np.nan
    found = []
    for scale in ("none", "unit", "standard"):
        data = load_data(x, scale=scale)
        c, d = data.scaled or (torch.zeros(5), torch.ones(5))

        class Fixed(nn.Module):
            def __init__(self, c, d):
                super().__init__()
                self.c, self.d = c, d

            def forward(self, x=None, size=None):
                with pyro.plate("data", size if x is None else len(x), dim=-1):
                    z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                    mean = (torch.cat([z, z, z[..., :1]], -1) - self.c) / self.d
                    return pyro.sample("x", dist.Normal(mean, 2 / self.d).to_event(1), obs=x)

        model, _, rows = adapted(Fixed(c, d), None, data)
        z = torch.zeros(len(rows.test), 2)
        with isolated():
            site = sample_sites(poutine.trace(poutine.condition(model, {"z": z})).get_trace(rows.test.first()))["x"]
        found.append(site["fn"].log_prob(site["value"]))
        torch.testing.assert_close(found[-1], found[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("learner", [AEVB, WakeSleep, MCEM])
def test_algorithms_learn_from_what_is_there(oracle, learner):
    x = oracle.x.clone()
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(6)) < 0.3] = math.nan
    torch.manual_seed(0)
    data = load_data(x.numpy(), scale="unit")
    model, guide, data = adapted(NormalModel(5, 2, hidden=10), GaussianGuide(5, 2, hidden=10), data)
    guide = None if learner is MCEM else guide
    options = {"step_size": 0.05, "optimizer": "Adam"} | ({} if learner is MCEM else {"batch": 50})
    run = learner(model, guide, data.train, **options)
    run.step()
    before = run.loss.item()
    for _ in range(5 if learner is MCEM else 40):
        run.step()
    # Cells in [0, 1] want a smaller deviation than 1: there is most of a nat for each of the 3.5 that are there.
    assert run.loss.item() < before - 0.5


def test_compiled_and_plain_steps_agree(oracle):
    x = oracle.x.clone()
    x[::3, 0] = math.nan
    losses = []
    for compile in (False, True):
        torch.manual_seed(0)
        model, guide, data = adapted(
            NormalModel(5, 2, hidden=4), GaussianGuide(5, 2, hidden=4), load_data(x.numpy(), scale="standard")
        )
        run = AEVB(model, guide, data.train, batch=20, compile=compile)
        run.step()
        run.step()
        losses.append(run.loss)
        assert run.settled == compile
    torch.testing.assert_close(*losses)


class Conditional(nn.Module):
    """p(x | z, label, covariates), and what it was called with."""

    def __init__(self, features, latent, classes, covariates):
        super().__init__()
        self.table = nn.Embedding(classes + 1, features)
        self.slope = nn.Linear(covariates, features)
        self.decoder = nn.Linear(latent, features)

    def forward(self, x=None, size=None, label=None, covariates=None):
        self.seen = label, covariates
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = self.decoder(z) + self.table(label + 1) + self.slope(covariates)
            return pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)


class Recognition(GaussianGuide):
    def forward(self, x, label, observed):
        self.seen = x, label, observed
        return super().forward(x)


def test_parts_get_what_they_ask_for_by_name():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 3))
    x[5, 1] = np.nan
    labels = np.array(["a", None, "c", "b"] * 10, dtype=object)
    age, site = generator.normal(size=40), np.array(["one", "two"] * 20)
    data = load_data(x, labels=labels, age=age, site=site, covariates=["age", "site"])
    assert data.classes == ("a", "b", "c")
    assert data.offers == {"image_shape": None, "kinds": ("real",) * 3, "classes": 3, "covariates": 3}
    model, guide, rows = adapted(Conditional(3, 2, 3, 3), Recognition(3, 2, hidden=4), data)
    assert rows.train.values.shape == (32, 7)
    batch = rows.train.first(10)
    check_pair(model, guide, batch)
    with isolated():
        traces(model, guide, batch)
    label, covariates = model.part.seen
    order = data.rows[0][:10]
    assert label.tolist() == [{"a": 0, "b": 1, "c": 2, None: -1}[labels[n]] for n in order]
    torch.testing.assert_close(covariates[:, 0], torch.from_numpy(age[order]).float())
    assert covariates[:, 1:].tolist() == [[1.0, 0.0] if site[n] == "one" else [0.0, 1.0] for n in order]
    cells, label, there = guide.part.seen
    assert torch.equal(there, torch.from_numpy(~np.isnan(x[order])))
    assert torch.equal(cells, torch.from_numpy(np.nan_to_num(x[order])).float())
    # Generated datapoints have labels and covariates of the data.
    with isolated():
        model(None, size=50)
    label, covariates = model.part.seen
    assert set(label.tolist()) <= {-1, 0, 1, 2}
    assert np.isin(covariates[:, 0].numpy(), age.astype(np.float32)).all()
    # Cells alone are no rows of them.
    with isolated(), pytest.raises(InputError, match="without their label and covariates are given to a part"):
        guide(batch[:, :3])


class ByLabel(nn.Module):
    """x is ten times the label and the covariate, but for a little noise: who knows x knows what it belongs to."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.0))

    def forward(self, x=None, size=None, label=None, covariates=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = torch.cat([10.0 * label.unsqueeze(-1), 10.0 * covariates], dim=-1) + self.slope * z
            return pyro.sample("x", dist.Normal(mean, 0.01).to_event(1), obs=x)


class Watching(GaussianGuide):
    def forward(self, x, label, covariates):
        self.calls.append((x, label, covariates))
        return super().forward(x)


def _labelled(size=300):
    generator = np.random.default_rng(0)
    labels, age = generator.integers(0, 3, size), generator.normal(size=size).astype(np.float32)
    x = 10.0 * np.stack([labels, age], axis=1) + 0.01 * generator.normal(size=(size, 2))
    return load_data(x, labels=labels, age=age, covariates="age", scale="unit")


@pytest.mark.parametrize("insomnia", [0.0, 0.5])
def test_dreams_have_the_labels_and_covariates_that_they_were_dreamt_with(insomnia):
    torch.manual_seed(0)
    data = _labelled()
    guide = Watching(2, 2, hidden=4)
    guide.calls = []

    class Scaled(ByLabel):
        def forward(self, x=None, size=None, label=None, covariates=None):
            # In the units that networks see, as a model of scaled cells is one.
            c, d = data.scaled
            with pyro.plate("data", size if x is None else len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                mean = torch.cat([10.0 * label.unsqueeze(-1), 10.0 * covariates], dim=-1) + self.slope * z
                return pyro.sample("x", dist.Normal((mean - c) / d, 0.01 / d).to_event(1), obs=x)

    model, rows_guide, rows = adapted(Scaled(), guide, data)
    learner = WakeSleep(
        model, rows_guide, rows.train, batch=40, particles=2 if insomnia else 1, insomnia=insomnia, step_size=1e-6
    )
    guide.calls.clear()
    learner.step()
    # Wake, dream and, with insomnia, what was recognised.
    assert len(guide.calls) == (3 if insomnia else 2)
    c, d = data.scaled
    for x, label, covariates in guide.calls:
        own = c + d * x
        torch.testing.assert_close(own[:, 0], 10.0 * label, atol=0.1, rtol=0)
        torch.testing.assert_close(own[:, 1:], 10.0 * covariates, atol=0.1, rtol=0)
    # A dream is none of the data: its noise is its own.
    assert not torch.equal(guide.calls[0][0], guide.calls[1][0])
    assert learner.loss.isfinite()


@pytest.mark.parametrize("learner", [AEVB, WakeSleep, MCEM])
def test_algorithms_learn_from_labels_and_covariates(learner):
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    labels, age = np.array([0, 1, 2, -1] * 75), generator.normal(size=300).astype(np.float32)
    x = np.stack([labels * 2.0, age, -age], axis=1) + 0.3 * generator.normal(size=(300, 3))
    known = np.array([None if n < 0 else int(n) for n in labels], dtype=object)
    data = load_data(x, labels=known, age=age, covariates="age")
    model, guide, rows = adapted(Conditional(3, 2, 3, 1), Recognition(3, 2, hidden=4), data)
    options = {"step_size": 0.05, "optimizer": "Adam"} | ({} if learner is MCEM else {"batch": 50})
    run = learner(model, None if learner is MCEM else guide, rows.train, **options)
    for _ in range(40 if learner is MCEM else 200):
        run.step()
    # The best means of the first cell are 2 (y), of the others the covariate and its negative, and z has nothing to
    # say of them. A mean over 60 datapoints with noise of 1, the model's, is off by 1 / sqrt(60) = 0.13 at most here.
    table = model.part.table.weight + model.part.slope.bias + model.part.decoder.bias
    torch.testing.assert_close(table[:, 0].detach(), torch.tensor([-2.0, 0.0, 2.0, 4.0]), atol=0.4, rtol=0)
    torch.testing.assert_close(model.part.slope.weight[1:, 0].detach(), torch.tensor([1.0, -1.0]), atol=0.3, rtol=0)


def test_the_log_joint_of_a_row_is_that_of_its_label_and_covariates():
    data = _labelled(40)
    model, _, rows = adapted(ByLabel(), None, replace(data, scaled=None))
    batch = rows.train.first(5)
    with isolated(), torch.no_grad():
        log_joint = LogJoint(model, batch)
        found = log_joint(torch.zeros(1, 5, 2))
    mean = torch.cat([10.0 * batch[:, 2:3], 10.0 * batch[:, 3:]], dim=1)
    expected = dist.Normal(mean, 0.01).log_prob(batch[:, :2]).sum(1) - math.log(2 * math.pi)  # z = 0
    torch.testing.assert_close(found[0].float(), expected)


def test_a_label_that_is_not_there_is_asked_for_in_vain():
    data = load_data(np.random.default_rng(0).normal(size=(40, 3)))
    with pytest.raises(InputError, match=r"Recognition needs label, and .* has none: name it by --label"):
        adapted(NormalModel(3, 2, hidden=4), Recognition(3, 2, hidden=4), data)
    # One with a default can do without, and so can parts that ask for nothing.
    model, guide = NormalModel(3, 2, hidden=4), GaussianGuide(3, 2, hidden=4)
    assert adapted(model, guide, data) == (model, guide, data)


def test_the_state_has_the_parts_own_names(holed, oracle):
    model, guide = NormalModel(5, 2, hidden=4), GaussianGuide(5, 2, hidden=4)
    x = oracle.x.numpy().copy()
    x[0, 0] = np.nan
    rows, _, _ = adapted(model, guide, load_data(x, scale="unit"))
    state = rows.state_dict()
    assert state.keys() == model.state_dict().keys()
    other, _, _ = adapted(NormalModel(5, 2, hidden=4), None, load_data(x, scale="unit"))
    other.load_state_dict(state)
    assert all(map(torch.equal, other.state_dict().values(), state.values()))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})
    # Within another module too, and as weights that are random.
    wrapped = BayesianModel(rows)
    assert {f"mean.{name}" for name in state} < wrapped.state_dict().keys()
    wrapped.load_state_dict(wrapped.state_dict())
    assert rows.min_log_variance == -8.0
    with pytest.raises(AttributeError):
        _ = rows.nothing


def test_bytes_with_labels_stay_small():
    x = np.random.default_rng(0).integers(0, 256, (30, 6), dtype=np.uint8)
    data = load_data(x, labels=np.arange(30) % 3)

    class Labelled(GaussianGuide):
        def forward(self, x, label):
            return super().forward(x)

    model, _, rows = adapted(BernoulliModel(6, 2, hidden=3), Labelled(6, 2, hidden=3), data)
    assert rows.train.values.dtype == torch.int16
    assert torch.equal(rows.train.first()[:, :6], data.train.first())
    assert torch.equal(rows.train.first()[:, 6].long(), data.train.labels)
    assert measure(model, rows.train) == "relaxed"


def test_what_cannot_be_masked_is_refused():
    whole = dist.MultivariateNormal(torch.zeros(3), torch.eye(3))
    with pytest.raises(
        InputError, match="cells of MultivariateNormal cannot be masked one by one, and some are missing"
    ):
        observed(whole, torch.ones(3, dtype=torch.bool))
    assert observed(whole, None) is whole
    assert pyro_vae.observed is observed
    # In a user's own forward: one cell of two, each N(0, 1) at 0.
    cells = observed(dist.Normal(torch.zeros(2), 1.0).to_event(1), torch.tensor([True, False]))
    assert cells.log_prob(torch.zeros(2)).item() == pytest.approx(-0.5 * math.log(2 * math.pi))


def test_a_part_may_have_the_names_of_what_its_rows_are():
    class Named(NormalModel):
        def __init__(self):
            super().__init__(3, 2, hidden=4)
            self.loc, self.scale, self.fill, self.examples, self.layout = 1.0, 2.0, 3.0, 4.0, 5.0

    x = np.random.default_rng(0).normal(size=(40, 3))
    x[3, 1] = np.nan
    model, guide, rows = adapted(Named(), GaussianGuide(3, 2, hidden=4), load_data(x, scale="standard"))
    assert (model.loc, model.scale, model.fill, model.examples, model.layout) == (1.0, 2.0, 3.0, 4.0, 5.0)
    check_pair(model, guide, rows.train.first(10))
