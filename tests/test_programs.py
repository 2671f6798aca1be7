"""Pyro programs as people write them: trained by `pyro.infer.SVI`, written out here, and by us, to the same numbers.

Each entry of the table makes a pair anew, with the same first values, since SVI trains nets where they are. Data and
draws are the same on both ways, so that parameters agree but for rounding.
"""

import copy
import math
from itertools import pairwise

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn
from torch.distributions import constraints

import pyro_vae
from pyro_vae.adopted import Adopted
from pyro_vae.errors import InputError
from pyro_vae.global_latents import with_globals
from pyro_vae.inference.aevb import AEVB
from pyro_vae.marginal import bound, weights_cost
from pyro_vae.programs import bind, create
from pyro_vae.sites import isolated
from pyro_vae.split import Split

FEATURES, LATENT, BATCH = 5, 2, 20


def normal_prior(x, name="z", size=LATENT):
    return pyro.sample(name, dist.Normal(x.new_zeros(size), 1.0).to_event(1))


def linear_guide(x, name="z"):
    """q(z | x) = N(A x, s^2), with parameters of Pyro's store."""
    weight = pyro.param("A", torch.full((FEATURES, LATENT), 0.1))
    scale = pyro.param("s", torch.full((LATENT,), 0.5), constraint=constraints.positive)
    with pyro.plate("data", len(x)):
        pyro.sample(name, dist.Normal(x @ weight, scale).to_event(1))


def linear_mean(z):
    weight = pyro.param("W", torch.linspace(-0.5, 0.5, LATENT * FEATURES).reshape(LATENT, FEATURES))
    return z @ weight + pyro.param("b", torch.zeros(FEATURES))


def observe(x, loc, name="x", scale=0.7):
    return pyro.sample(name, dist.Normal(loc, scale).to_event(1), obs=x)


def linear_model(x):
    with pyro.plate("data", len(x)):
        observe(x, linear_mean(normal_prior(x)))


def perceptron(*sizes, between=nn.Tanh):
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), between())]
    return nn.Sequential(*layers[:-1])


# --- The table --------------------------------------------------------------------------------------------------------


def functions_around_nets():
    decoder, encoder = perceptron(LATENT, 6, FEATURES), perceptron(FEATURES, 6, 2 * LATENT)

    def model(data):
        pyro.module("decoder", decoder)
        with pyro.plate("batch", data.shape[0]):
            observe(data, decoder(normal_prior(data, "latent")), "obs")

    def guide(data):
        pyro.module("encoder", encoder)
        with pyro.plate("batch", data.shape[0]):
            loc, log_scale = encoder(data).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, log_scale.exp()).to_event(1))

    return model, guide


class Tutorial(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder, self.encoder = perceptron(LATENT, 6, FEATURES), perceptron(FEATURES, 6, 2 * LATENT)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("latent", dist.Normal(x.new_zeros(x.shape[0], LATENT), 1.0).to_event(1))
            pyro.sample("obs", dist.Normal(self.decoder(z), 0.7).to_event(1), obs=x.reshape(-1, FEATURES))

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, log_scale.exp()).to_event(1))


class PlainObject:
    """Methods of an object that is no module, with nets in a list."""

    def __init__(self):
        self.nets = [perceptron(LATENT, 6, FEATURES), perceptron(FEATURES, 6, LATENT)]

    def model(self, x):
        pyro.module("p", self.nets[0])
        with pyro.plate("data", len(x)):
            observe(x, self.nets[0](normal_prior(x)))

    def guide(self, x):
        pyro.module("q", self.nets[1])
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.nets[1](x), 0.5).to_event(1))


def methods(kind):
    def made():
        pair = kind()
        return pair.model, pair.guide

    return made


def constrained(x):
    """A scale, and weights of two components of the noise."""
    scale = pyro.param("scale", lambda: torch.tensor([0.4, 1.5]), constraint=constraints.positive)
    share = pyro.param("share", torch.tensor([0.3, 0.7]), constraint=constraints.simplex)
    with pyro.plate("data", len(x)):
        loc = linear_mean(normal_prior(x)).unsqueeze(-1)
        parts = dist.Categorical(share.expand(*loc.shape[:-1], 2))
        noise = dist.MixtureSameFamily(parts, dist.Normal(loc.expand(*loc.shape[:-1], 2), scale))
        pyro.sample("x", noise.to_event(1), obs=x)


def cholesky_guide(x):
    weight = pyro.param("A", torch.full((FEATURES, LATENT), 0.1))
    root = pyro.param("root", torch.tensor([[0.5, 0.0], [0.1, 0.4]]), constraint=constraints.lower_cholesky)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.MultivariateNormal(x @ weight, scale_tril=root))


def bounded(x):
    scale = pyro.param("scale", lambda: torch.tensor(0.6), constraint=constraints.interval(0.1, 2.0))
    with pyro.plate("data", len(x)):
        observe(x, linear_mean(normal_prior(x)), scale=scale)


def shared_guide(x):
    """The guide's mean is the transpose of the model's weights, the same parameter by its name."""
    weight = pyro.param("W", torch.linspace(-0.5, 0.5, LATENT * FEATURES).reshape(LATENT, FEATURES))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x @ weight.T, 0.5).to_event(1))


def two_sites(x):
    with pyro.plate("data", len(x)):
        z = normal_prior(x)
        observe(x, linear_mean(z), "pixels")
        slope = pyro.param("slope", torch.tensor(0.3))
        pyro.sample("y", dist.Normal(slope * z.sum(-1), 1.0), obs=x[..., 0])


def transformed_data(x):
    """The site of the data comes second."""
    with pyro.plate("data", len(x)):
        z = normal_prior(x)
        pyro.sample("sign", dist.Bernoulli(logits=z.sum(-1)), obs=(x.sum(-1) > 0).float())
        observe(x, linear_mean(z), "values")


def with_deterministic(x):
    pyro.deterministic("noise", torch.tensor(0.7))
    with pyro.plate("data", len(x)):
        z = normal_prior(x)
        pyro.deterministic("radius", z.norm(dim=-1))
        observe(x, pyro.deterministic("loc", linear_mean(z), event_dim=1))


def with_factor(x):
    with pyro.plate("data", len(x)):
        z = normal_prior(x)
        pyro.factor("close", -0.1 * z.square().sum(-1))
        observe(x, linear_mean(z))


def weighted(weight):
    def model(x):
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=weight):
                z = normal_prior(x)
            observe(x, linear_mean(z))

    def guide(x):
        with poutine.scale(scale=weight):
            linear_guide(x)

    return model, guide


def masked(x):
    with pyro.plate("data", len(x)), poutine.mask(mask=torch.tensor(True)):
        z = normal_prior(x)
        seen = torch.arange(FEATURES) != 2
        pyro.sample("x", dist.Normal(linear_mean(z), 0.7).mask(seen).to_event(1), obs=x)


def rows_masked(x):
    """Datapoints whose first cell is low count half, as a mask: not at all."""
    with pyro.plate("data", len(x)):
        z = normal_prior(x)
        with poutine.mask(mask=x[..., 0] > -1):
            observe(x, linear_mean(z))


def auxiliary_guide(x):
    """z = 2 u + 1, so that q(z) = q(u) / 4."""
    weight = pyro.param("A", torch.full((FEATURES, LATENT), 0.1))
    with pyro.plate("data", len(x)):
        u = pyro.sample("u", dist.Normal(x @ weight, 0.3).to_event(1), infer={"is_auxiliary": True})
        pyro.sample("z", dist.Delta(2 * u + 1, log_density=-torch.tensor(4.0).log(), event_dim=1))


def pixels_in_turn(x):
    """An inner plate that is gone through in turn: a latent variable and a part of the noise for each."""
    loc = pyro.param("b", torch.zeros(FEATURES))
    slope = pyro.param("slope", torch.full((2, FEATURES), 0.2))
    with pyro.plate("data", len(x)):
        total = loc
        for i in pyro.plate("factors", 2):
            total = total + pyro.sample(f"z{i}", dist.Normal(0.0, 1.0)).unsqueeze(-1) * slope[i]
        observe(x, total)


def pixels_in_turn_guide(x):
    with pyro.plate("data", len(x)):
        for i in pyro.plate("factors", 2):
            loc = pyro.param(f"loc{i}", torch.tensor(0.1)) * x[..., i]
            pyro.sample(f"z{i}", dist.Normal(loc, 0.8))


def batch_norm():
    decoder, encoder = perceptron(LATENT, 6, FEATURES), perceptron(FEATURES, 6, LATENT)
    encoder[0] = nn.Linear(FEATURES, 6, bias=False)  # before a norm, its gradient would be rounding errors
    encoder.insert(1, nn.BatchNorm1d(6))

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            observe(x, decoder(normal_prior(x)))

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(encoder(x), 0.5).to_event(1))

    return model, guide


def dropout():
    decoder = perceptron(LATENT, 6, FEATURES, between=nn.Dropout)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            observe(x, decoder(normal_prior(x)))

    return model, linear_guide


class Loadings(PyroModule):
    def __init__(self):
        super().__init__("loadings")
        self.weight = nn.Parameter(torch.linspace(-0.5, 0.5, LATENT * FEATURES).reshape(LATENT, FEATURES))
        self.scale = PyroParam(torch.tensor(0.7), constraint=constraints.positive)
        self.inner = PyroModule[nn.Linear](FEATURES, FEATURES)

    def forward(self, z):
        return dist.Normal(self.inner(z @ self.weight), self.scale).to_event(1)


def pyro_module_in_a_function():
    loadings = Loadings()

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", loadings(normal_prior(x)), obs=x)

    return model, linear_guide


class ModuleModel(PyroModule):
    def __init__(self):
        super().__init__("model")
        self.loadings = Loadings()

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("obs", self.loadings(normal_prior(x)), obs=x)


def frozen():
    """A net that Pyro is not told of keeps its values."""
    fixed, decoder = perceptron(LATENT, 3, 3), perceptron(3, FEATURES)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            observe(x, decoder(fixed(normal_prior(x))))

    return model, linear_guide


def two_layers(x):
    with pyro.plate("data", len(x)):
        deep = normal_prior(x, "deep", 1)
        z = pyro.sample("z", dist.Normal(deep * pyro.param("up", torch.tensor([0.5, -0.5])), 1.0).to_event(1))
        observe(x, linear_mean(z))


def two_layers_guide(x):
    linear_guide(x)
    with pyro.plate("again", len(x)):
        pyro.sample("deep", dist.Normal(x[..., :1] * pyro.param("down", torch.tensor(0.2)), 0.9).to_event(1))


def discrete(x):
    """A binary latent variable, by the score function."""
    slope = pyro.param("slope", torch.full((FEATURES,), 0.2))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Bernoulli(0.4))
        observe(x, z.unsqueeze(-1) * slope)


def discrete_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Bernoulli(logits=x @ pyro.param("q", torch.full((FEATURES,), 0.1))))


def learnt_prior(x):
    loc = pyro.param("prior loc", torch.zeros(LATENT))
    scale = pyro.param("prior.scale", torch.ones(LATENT), constraint=dist.constraints.softplus_positive)
    with pyro.plate("data", len(x)):
        observe(x, linear_mean(pyro.sample("z", dist.Normal(loc, scale).to_event(1))))


def flow():
    shift = dist.transforms.affine_coupling(LATENT, hidden_dims=[4])

    def guide(x):
        pyro.module("flow", shift)
        weight = pyro.param("A", torch.full((FEATURES, LATENT), 0.1))
        with pyro.plate("data", len(x)):
            base = dist.Normal(x @ weight, 0.5).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [shift]))

    return linear_model, guide


def reparametrised():
    def guide(x):
        linear_guide(x, "z_decentered")

    def model(x):
        with pyro.plate("data", len(x)):
            loc = pyro.param("prior loc", torch.zeros(LATENT))
            observe(x, linear_mean(pyro.sample("z", dist.Normal(loc, 0.8).to_event(1))))

    return poutine.reparam(model, {"z": LocScaleReparam(0.0)}), guide


def subsampled(x):
    """A plate of all the data, of which the rows are a sample: it weighs them by ten."""
    with pyro.plate("data", 10 * len(x), subsample=torch.arange(len(x))):
        observe(x, linear_mean(normal_prior(x)))


def subsampled_guide(x):
    weight = pyro.param("A", torch.full((FEATURES, LATENT), 0.1))
    with pyro.plate("data", 10 * len(x), subsample=torch.arange(len(x))):
        pyro.sample("z", dist.Normal(x @ weight, 0.5).to_event(1))


def unsampled_guide(x):
    weight = pyro.param("A", torch.full((FEATURES, LATENT), 0.1))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x @ weight, 0.5).to_event(1))


def student(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.StudentT(5.0, torch.zeros(LATENT), 1.0).to_event(1))
        observe(x, linear_mean(z))


def mixture(x):
    """A mixture of linear models, of which the guide knows nothing: the component is summed out."""
    shares = pyro.param("shares", torch.tensor([0.2, 0.5, 0.3]), constraint=constraints.simplex)
    shifts = pyro.param("shifts", torch.linspace(-1.0, 1.0, 3 * FEATURES).reshape(3, FEATURES))
    with pyro.plate("data", len(x)):
        component = pyro.sample("c", dist.Categorical(shares), infer={"enumerate": "parallel"})
        observe(x, linear_mean(normal_prior(x)) + shifts[component])


def classified(x):
    shifts = pyro.param("shifts", torch.linspace(-1.0, 1.0, 3 * FEATURES).reshape(3, FEATURES))
    with pyro.plate("data", len(x)):
        component = pyro.sample("c", dist.Categorical(torch.ones(3) / 3))
        observe(x, shifts[component])


def classifier(x):
    with pyro.plate("data", len(x)):
        logits = x @ pyro.param("q", torch.full((FEATURES, 3), 0.1) * torch.arange(3))
        pyro.sample("c", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})


def inner_plate(x):
    """Two factors for each datapoint, in a plate of their own on the left of the datapoints'."""
    slope = pyro.param("slope", torch.linspace(-0.4, 0.4, 2 * FEATURES).reshape(2, FEATURES))
    with pyro.plate("data", len(x)):
        with pyro.plate("factors", 2):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        # Where draws lie on the left of it, what is summed over the plate keeps its dimension.
        observe(x, (z.unsqueeze(-1) * slope.unsqueeze(-2)).sum(-3, keepdim=z.dim() > 2))


def inner_plate_guide(x):
    weight = pyro.param("A", torch.full((2, FEATURES), 0.1))
    with pyro.plate("data", len(x)), pyro.plate("factors", 2):
        pyro.sample("z", dist.Normal(weight @ x.T, 0.5))


def of(model, guide=linear_guide):
    """A pair of functions that keep nothing."""
    return lambda: (model, guide)


def shifted(x, loc):
    w = pyro.sample("w", dist.Normal(torch.zeros(FEATURES), 2.0).to_event(1))
    with pyro.plate("data", 60, subsample_size=len(x)):
        observe(x, loc(normal_prior(x)) + w)


def shifted_model(x):
    shifted(x, linear_mean)


def shifted_guide(x):
    """q(z | x, w) looks at the global draw."""
    scale = pyro.param("w_scale", torch.full((FEATURES,), 0.3), constraint=constraints.positive)
    w = pyro.sample("w", dist.Normal(pyro.param("w_loc", torch.zeros(FEATURES)), scale).to_event(1))
    weight = pyro.param("A", torch.full((FEATURES, LATENT), 0.1))
    with pyro.plate("data", 60, subsample_size=len(x)):
        pyro.sample("z", dist.Normal((x - w) @ weight, 0.5).to_event(1))


class Shifted(nn.Module):
    """An autoguide of what is global beside an amortised guide of what is not."""

    def __init__(self):
        super().__init__()
        self.decoder, self.encoder = nn.Linear(LATENT, FEATURES), nn.Linear(FEATURES, LATENT)
        self.auto = AutoNormal(poutine.block(self.model, expose=["w"]))
        with isolated():
            self.auto(torch.zeros(BATCH, FEATURES))  # it draws where it begins

    def model(self, x):
        pyro.module("decoder", self.decoder)
        shifted(x, self.decoder)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        self.auto(x)
        with pyro.plate("data", 60, subsample_size=len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 0.5).to_event(1))


class RandomDecoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](LATENT, FEATURES)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([FEATURES, LATENT]).to_event(2))

    def forward(self, x):
        _ = self.linear.weight  # outside of the plate: one draw for all
        with pyro.plate("data", 60, subsample_size=len(x)):
            observe(x, self.linear(normal_prior(x)))


def random_decoder():
    encoder = nn.Linear(FEATURES, LATENT)

    def guide(x):
        pyro.module("encoder", encoder)
        loc = pyro.param("w_loc", torch.full((FEATURES, LATENT), 0.2))
        scale = pyro.param("w_scale", torch.full((FEATURES, LATENT), 0.1), constraint=constraints.positive)
        pyro.sample("linear.weight", dist.Normal(loc, scale).to_event(2))
        with pyro.plate("data", 60, subsample_size=len(x)):
            pyro.sample("z", dist.Normal(encoder(x), 0.5).to_event(1))

    return RandomDecoder(), guide


def all_global():
    def model(x):
        w = pyro.sample("w", dist.Normal(torch.zeros(FEATURES), 2.0).to_event(1))
        scale = pyro.sample("s", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", 60, subsample_size=len(x)):
            observe(x, w, scale=scale)

    guide = AutoMultivariateNormal(model)
    with isolated():
        guide(torch.zeros(BATCH, FEATURES))
    return model, guide


GLOBAL = {
    "a guide by hand": of(shifted_model, shifted_guide),
    "an autoguide beside a net": methods(Shifted),
    "PyroSample": random_decoder,
    "nothing else": all_global,
}
TABLE = {
    "functions around nets": functions_around_nets,
    "the tutorial's class": methods(Tutorial),
    "methods of a plain object": methods(PlainObject),
    "parameters alone": of(linear_model),
    "a scale and a simplex": of(constrained),
    "a Cholesky factor": of(linear_model, cholesky_guide),
    "a lazy first value in an interval": of(bounded),
    "a parameter of both": of(linear_model, shared_guide),
    "two observed sites": of(two_sites),
    "two observed sites, the data second": of(transformed_data),
    "deterministic sites": of(with_deterministic),
    "a factor": of(with_factor),
    "a weight on the KL divergence": lambda: weighted(4.0),
    "a mask on cells": of(masked),
    "a mask on rows": of(rows_masked),
    "an auxiliary draw": of(linear_model, auxiliary_guide),
    "an inner plate in turn": of(pixels_in_turn, pixels_in_turn_guide),
    "batch norm": batch_norm,
    "dropout": dropout,
    "a PyroModule in a function": pyro_module_in_a_function,
    "a PyroModule as it is": lambda: (ModuleModel(), linear_guide),
    "a net that is not to learn": frozen,
    "two layers": of(two_layers, two_layers_guide),
    "a binary latent variable": of(discrete, discrete_guide),
    "a prior that is learnt": of(learnt_prior),
    "a flow": flow,
    "a reparametrised model": reparametrised,
    "a plate that subsamples": of(subsampled, subsampled_guide),
    "heavy tails": of(student),
    "a mixture, enumerated in the model": of(mixture),
    "classes, enumerated in the guide": of(classified, classifier),
    "an inner plate": of(inner_plate, inner_plate_guide),
    **{f"a global latent variable, {kind}": pair for kind, pair in GLOBAL.items()},
}
ENUMERATED = ("a mixture, enumerated in the model", "classes, enumerated in the guide")
# Without the weights that training has, which no bound has.
UNWEIGHTED = {
    "a weight on the KL divergence": lambda: weighted(1.0),
    "a plate that subsamples": of(linear_model, unsampled_guide),
}


@pytest.fixture
def interpreted(monkeypatch):
    """Runs traced functions as torch records them: what the compiler makes of the record is tested with `Traced`."""
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda graph, *_, **__: graph)


@pytest.fixture(scope="module")
def split():
    return Split(torch.randn(60, FEATURES, generator=torch.Generator().manual_seed(3)) * 1.5)


def made(name, table=TABLE):
    torch.manual_seed(0)
    return table[name]()


def estimator(name):
    return TraceEnum_ELBO(max_plate_nesting=1) if name in ENUMERATED else Trace_ELBO()


def by_svi(name, split):
    """What Pyro's own loop learns: the values of the store by their names, and what they are without constraint."""
    with isolated():
        svi = SVI(*made(name), pyro.optim.Adam({"lr": 1e-3}), estimator(name))
        torch.manual_seed(1)
        for _ in range(20):
            svi.step(split.minibatch(BATCH))
        found = [*pyro.get_param_store().items()]
        return {n: v.detach() for n, v in found}, {n: v.unconstrained().detach() for n, v in found}


def bound_pair(model, guide, split):
    adopted = Adopted()
    pair = create(model, adopted), create(guide, adopted)
    bind(*pair, split.first(BATCH))
    return adopted, *pair


def learnt(adopted):
    """The values of what a run has adopted, by the names of Pyro's store."""
    with adopted.asked(), isolated():
        own = {name: adopted.value(name, None, None).detach() for name in adopted.book.keys}
        of_nets = {name: adopted.nets.get_parameter(key).detach() for name, key in adopted.book.of_nets.items()}
    return own | of_nets


@pytest.mark.parametrize("name", TABLE)
def test_it_trains_as_by_svi(name, split, interpreted):
    expected, free = by_svi(name, split)
    adopted, model, guide = bound_pair(*made(name), split)
    first = copy.deepcopy(learnt(adopted))
    learner = AEVB(model, guide, split, batch=BATCH, optimizer="Adam", step_size=1e-3, weight_prior=math.inf,
                   compile=True)  # fmt: skip
    torch.manual_seed(1)
    for _ in range(20):
        learner.step()
    assert learner.update.compiles
    found = learnt(adopted)
    assert found.keys() == expected.keys()
    for parameter, value in expected.items():
        # A PyroParam is in the store by its value, and in its module by that without constraint.
        is_free = adopted.book.of_nets.get(parameter, "").endswith("_unconstrained")
        torch.testing.assert_close(found[parameter], free[parameter] if is_free else value, rtol=1e-3, atol=2e-5)
        assert (found[parameter] - first[parameter]).abs().max() > 1e-3
    named = {*adopted.book.of_nets.values()}
    whole = bool(adopted.book.whole)
    assert all(p.requires_grad == (whole or key in named) for key, p in adopted.nets.named_parameters())


@pytest.mark.parametrize("name", TABLE)
def test_its_bound_is_pyros(name, split):
    # Each of 400 draws is the mean over 60 datapoints; the two estimates differ by their errors, 4 of them at most.
    _, model, guide = bound_pair(*made(name), split)
    ours = bound(model, guide, split, particles=400)
    paid = weights_cost(with_globals(model, guide, split), len(split))  # Pyro's has the terms of what is global in it
    plain = [part.eval() if isinstance(part, nn.Module) else part for part in made(name, {**TABLE, **UNWEIGHTED})]
    for part in plain:
        for net in [cell.cell_contents for cell in getattr(part, "__closure__", None) or ()]:
            if isinstance(net, nn.Module):
                net.eval()
    torch.manual_seed(5)
    with isolated(), torch.no_grad():
        elbo = estimator(name)
        losses = torch.tensor([-elbo.loss(*plain, split.first()) / len(split) for _ in range(400)])
    error = math.hypot(ours.se, losses.std().item() / 20)
    assert abs(ours.mean - paid - losses.mean().item()) < 4 * error + 1e-4  # exact where nothing is drawn
    assert error < 0.1


def test_what_lies_in_memory_trains_is_resumed_and_stays_as_it_was(tmp_path, split):
    model, guide = made("functions around nets")
    net = model.__closure__[0].cell_contents
    before = copy.deepcopy(net.state_dict())
    settings = {"data": split.values.numpy(), "batch": BATCH, "optimizer": "adam", "step_size": 1e-2, "progress": False}

    def train(out, samples, **more):
        return pyro_vae.train(tmp_path / out, model=model, guide=guide, samples=samples, **settings, **more)

    train("whole", 400)
    train("part", 200)
    run = train("part", 400, resume=True)
    files = [(tmp_path / out / "weights.safetensors").read_bytes() for out in ("whole", "part")]
    assert files[0] == files[1]
    assert run.settings.model == "(model)"
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    with pytest.raises(InputError, match=r"a model that was in memory, \(model\): give it again, model=\.\.\."):
        pyro_vae.Run.open(tmp_path / "part")
    opened = pyro_vae.Run.open(tmp_path / "part", model=model, guide=guide)
    assert torch.equal(opened.model.adopted.nets.decoder[0].weight, run.model.adopted.nets.decoder[0].weight)
    pyro_vae.train(tmp_path / "pair", model=Tutorial, samples=200, **settings)
    pair = Tutorial()
    pyro_vae.train(tmp_path / "methods", model=pair.model, guide=pair.guide, samples=200, **settings)
