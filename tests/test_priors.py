"""One contract for every prior, also with every guide: a new file is covered by being on the shelf."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from pyro_vae import Run, train
from pyro_vae.analysis.check import densities, programs
from pyro_vae.checks import check_pair
from pyro_vae.elbo import elbo, log_weights
from pyro_vae.errors import InputError
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.priors.mixture import MixturePrior
from pyro_vae.models.priors.student_t import StudentTPrior
from pyro_vae.models.priors.vamp import VampPrior
from pyro_vae.run import parts
from pyro_vae.run.prepared import Prepared, prepare
from pyro_vae.run.score import estimators
from pyro_vae.run.settings import Settings
from pyro_vae.sites import isolated

# Semi-supervised guides sample a class beside z, which models with these priors lack.
GUIDES = [name for name in parts.names("guide") if name != "semi_supervised"]
ALGORITHMS = parts.names("inference")


@pytest.fixture(params=parts.names("prior"))
def name(request):
    return request.param


@pytest.fixture
def create(name, create_prior):
    """Creates a model of so many latent variables with the prior, and its guide."""

    def pair(latent=3, guide="gaussian"):
        torch.manual_seed(0)
        q = parts.find("guide", guide)(12, latent, hidden=7)
        return BernoulliModel(12, latent, hidden=7, prior=create_prior(name, latent, 12, q)), q

    return pair


def _stir(*modules, std=0.3):
    for parameter in nn.ModuleList(modules).parameters():
        nn.init.normal_(parameter, std=std)


def test_is_one_event_of_all_latent_variables(create):
    for latent in (1, 2, 5):
        prior = create(latent)[0].prior()
        assert (prior.batch_shape, prior.event_shape) == ((), (latent,))
        z = prior.sample((6,))
        assert z.shape == (6, latent)
        assert prior.support.check(z).all()
        assert prior.log_prob(z).shape == (6,)
        assert prior.log_prob(z).isfinite().all()


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("analytic_kl", [False, True])
def test_every_parameter_gets_a_gradient_from_a_finite_bound(create, guide, analytic_kl, pixels):
    model, q = create(guide=guide)
    check_pair(model, q, pixels.first(5))
    with isolated():
        bound = elbo(model, q, pixels.first(5), particles=3, analytic_kl=analytic_kl)
    assert bound.shape == (5,)
    assert bound.isfinite().all()
    bound.sum().backward()
    for part in (model, q):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("latent", [1, 2])
def test_normalises_and_has_its_draws(create, latent):
    model, guide = create(latent)
    _stir(model.p_z, guide, std=0.1)  # more makes ridges of a flow that no grid sees
    model.double(), guide.double()
    with torch.no_grad():
        (cell,) = densities.cells(model.prior())
        sums = densities.add_up(cell)
    assert densities.normalised(sums) == pytest.approx(1, abs=1e-4)
    assert densities.match(sums) < 1


def test_saves_and_loads_with_its_pair(create):
    pair, other = create(), create()
    _stir(*pair)
    for part, copied in zip(pair, other, strict=True):
        copied.load_state_dict(part.state_dict())
    z = torch.randn(5, 3)
    assert torch.equal(pair[0].prior().log_prob(z), other[0].prior().log_prob(z))


def test_hmcs_log_joint_is_the_traces(create, pixels):
    model, guide = create()
    _stir(model, guide, std=0.1)
    programs.log_joint(model, pixels.first(4))


def _prepared(settings: Settings) -> Prepared:
    return prepare(settings, torch.device("cpu"), Path("a new run"), {})


@pytest.mark.parametrize("inference", ALGORITHMS)
def test_learns_with_every_algorithm(name, inference):
    settings = Settings.of({"prior": name, "inference": inference, "hidden": 5, "optimizer": "adam", "train_size": 100})
    torch.manual_seed(0)
    if name == "vamp" and not getattr(parts.find("inference", inference), "uses_guide", True):
        with pytest.raises(InputError, match=f"--prior vamp is made of a guide's posteriors, and {inference} has no"):
            _prepared(settings)
        return
    prepared = _prepared(settings)
    model = prepared.model
    own = {key: value for key, value in model.named_parameters() if "p_z." in key}
    before = copy.deepcopy(own)
    learner = prepared.learner()
    learner.step()
    assert learner.loss.isfinite()
    for key, parameter in own.items():
        assert not torch.equal(parameter, before[key]), key  # Adam moves whatever has a gradient


def test_every_estimator_is_right_where_x_tells_nothing_of_z(create, pixels):
    # With a decoder of zero weights log p(x|z) = log p(x) = -12 log 2 for every z. Annealing then adds up nothing else,
    # and the two means of ratios of densities have an expectation of 1; the guide is no better than N(0, 1) here.
    model, guide = create(2)
    for parameter in model.decoder.parameters():
        nn.init.zeros_(parameter)
    data, exact = pixels.head(4), -12 * torch.log(torch.tensor(2.0, dtype=torch.float64))
    torch.manual_seed(0)
    annealed = parts.find("marginal", "ais")(temperatures=3, chains=2).estimate(model, None, data)
    torch.testing.assert_close(annealed.log_px, exact.expand(4), atol=1e-4, rtol=0)
    weighed = estimators(["importance"], particles=1000)["importance"].estimate(model, guide, data)
    assert (weighed.log_px - exact).abs().mean() < 0.2
    reciprocal = parts.find("marginal", "reciprocal")(draws=200, chains=4, warmup=10, leapfrogs=2, density="gaussian")
    assert (reciprocal.estimate(model, None, data).log_px - exact).abs().mean() < 0.5


@pytest.mark.parametrize("guide", GUIDES)
def test_the_analytic_kl_is_taken_where_pyro_has_one_and_is_the_sampled_one_in_the_mean(create, guide, pixels):
    model, q = create(guide=guide)
    _stir(model, q)
    x, draws = pixels.first(4), 1000
    try:
        kl_divergence(q.posterior(x), model.prior())
        known = True
    except NotImplementedError:
        known = False
    assert known or (guide, model.p_z.__class__.__name__) != ("gaussian", "NormalPrior")
    bounds = []
    with isolated(), torch.no_grad():
        for analytic_kl in (False, True):
            torch.manual_seed(1)
            bounds.append(elbo(model, q, x, draws, analytic_kl))
        torch.manual_seed(1)
        spread = log_weights(model, q, x, draws).std(0)
    if known:
        # From the same draws, they differ by the error of the mean of log q - log p, which spreads as the weights do.
        assert not torch.equal(*bounds)
        assert ((bounds[0] - bounds[1]).abs() < 5 * spread / draws**0.5).all()
    else:
        torch.testing.assert_close(*bounds)


def test_vamp_is_the_mean_of_the_guides_posteriors(create_prior, pixels):
    guide = parts.find("guide", "gaussian")(12, 3, hidden=7)
    prior = VampPrior(3, 12, guide, components=4)
    _stir(prior, guide)
    z = torch.randn(6, 3)
    each = torch.stack([guide.posterior(u).log_prob(z).exp() for u in prior.logits.sigmoid()])
    torch.testing.assert_close(prior().log_prob(z).exp(), each.mean(0))
    # The guide stays the guide's: saved once, and trained by whoever trains it.
    assert [n for n, _ in prior.named_parameters()] == ["logits"]
    with pytest.raises(InputError, match=r"needs a guide with a method posterior\(x\): Linear has none"):
        VampPrior(3, 12, nn.Linear(12, 3))


def test_wake_sleep_holds_the_vamps_guide_still_while_it_wakes(pixels):
    guide = parts.find("guide", "gaussian")(12, 3, hidden=7)
    model = BernoulliModel(12, 3, hidden=7, prior=VampPrior(3, 12, guide))
    learner = parts.find("inference", "wake_sleep")(model, guide, pixels, batch=10, optimizer="adam")
    before = copy.deepcopy(guide.state_dict())
    learner.wake(pixels.values)
    assert all(torch.equal(value, before[key]) for key, value in guide.state_dict().items())


def test_student_t_and_mixture_are_what_they_say():
    # With 3 degrees of freedom p(0) = Gamma(2) / (sqrt(3 pi) Gamma(3/2)) = 2 / (pi sqrt 3) for each variable.
    log_prob = StudentTPrior(2, df=3)().log_prob(torch.zeros(2))
    assert log_prob.item() == pytest.approx(2 * torch.log(torch.tensor(2 / (torch.pi * 3**0.5))).item(), rel=1e-5)
    # Two parts at 0 and at (3, 4), with weights 1/4 and 3/4: at 0 the second is exp(-25/2) of the first.
    prior = MixturePrior(2, components=2)
    with torch.no_grad():
        prior.mean.copy_(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        prior.logits.copy_(torch.tensor([1.0, 3.0]).log())
    expected = (0.25 + 0.75 * torch.exp(torch.tensor(-12.5))) / (2 * torch.pi)
    torch.testing.assert_close(prior().log_prob(torch.zeros(2)).exp(), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "mixture", "set": {"prior": {"components": 0}}}, "components 0 is not possible"),
        ({"prior": "vamp", "set": {"prior": {"components": 1.5}}}, "components 1.5 is not possible"),
        ({"prior": "student_t", "set": {"prior": {"df": 1}}}, "df 1 is not possible"),
        ({"prior": "flow", "set": {"prior": {"width": 3}}}, "--set prior.width is unknown: FlowPrior takes transforms"),
    ],
)
def test_a_prior_that_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        _prepared(Settings.of(options))


def test_the_order_of_building_leaves_old_seeds_alone():
    # A run's numbers come from its seed: a model that needs no guide is built before it, as ever.
    torch.manual_seed(0)
    model = _prepared(Settings.of({"hidden": 5})).model
    torch.manual_seed(0)
    assert torch.equal(model.decoder[1].weight, BernoulliModel(64, 2, hidden=5).decoder[1].weight)


@pytest.mark.parametrize(("scale", "inside"), [("none", True), ("unit", False), ("standard", True)])
def test_pseudo_inputs_lie_where_the_guide_sees_the_data(tmp_path, monkeypatch, scale, inside):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(60, 3)) * [1, 100, 0] + [0, 500, 7]
    x[::5, 0] = np.nan
    np.save("x.npy", x)
    settings = {"data": "x.npy", "scale": scale, "prior": "vamp", "model": "normal", "hidden": 4, "batch": 20}
    run = train("run", samples=200, progress=False, **settings)
    prior = run.model.p_z
    data = run.dataset
    loc, by = data.scaled or (torch.zeros(3), torch.ones(3))
    seen = (torch.from_numpy(x[data.rows[0]]).float() - loc) / by
    low, high = seen.nan_to_num(1e9).amin(0), seen.nan_to_num(-1e9).amax(0)
    assert (prior.low is not None) == inside  # from 0 to 1, as unit scaling has it, is what there is without
    with torch.no_grad():
        prior.logits.copy_(torch.linspace(-50, 50, 150).view(50, 3))
        parts_at = prior().component_distribution.base_dist.loc
        ends = torch.stack([low, high]) if inside else torch.tensor([[0.0] * 3, [1.0] * 3])
        torch.testing.assert_close(parts_at[[0, -1]], run.guide.part.posterior(ends).mean, atol=1e-4, rtol=1e-4)
    # Without the data as with them.
    torch.manual_seed(1)
    Path("x.npy").unlink()
    again = Run.open("run")
    assert (again.model.p_z.low is not None) == inside
    if inside:
        torch.testing.assert_close(again.model.p_z.low, prior.low)
        torch.testing.assert_close(again.model.p_z.high, prior.high)
