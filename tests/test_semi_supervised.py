"""Labels that may be missing, and components that always are: summed out, against closed forms."""

import math

import numpy as np
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import nn

import pyro_vae
from pyro_vae.data import adapted
from pyro_vae.elbo import log_weights
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.guides.semi_supervised import SemiSupervisedGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.importance import Importance
from pyro_vae.marginal import bounds
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.mixture_of_gaussians import MixtureOfGaussiansModel
from pyro_vae.models.priors.mixture import MixturePrior
from pyro_vae.models.semi_supervised import SemiSupervisedModel
from pyro_vae.sites import evaluation_mode, isolated

CLASSES, PIXELS = 3, 6


@pytest.fixture
def data():
    """90 images of independent pixels; the labels of two thirds are missing."""
    random = np.random.default_rng(0)
    x = random.random((90, PIXELS)) < 0.5
    labels = np.where(np.arange(90) % 3 == 0, random.integers(0, CLASSES, 90), np.nan)
    labels[:9:3] = range(CLASSES)
    return pyro_vae.data({"train": x, "test": x, "train_labels": labels, "test_labels": labels})


@pytest.fixture
def pair(data):
    """M2 where z says nothing of x and q(z | x, y) is its prior: log p(x) and the bound have closed forms."""
    torch.manual_seed(0)
    model = SemiSupervisedModel(PIXELS, 2, CLASSES, hidden=4)
    guide = SemiSupervisedGuide(PIXELS, 2, CLASSES, hidden=4, alpha=7.0)
    with torch.no_grad():
        for parameter in (*model.decoder.parameters(), *guide.classifier.parameters()):
            nn.init.normal_(parameter)
        model.decoder[0][0].weight[:, :2] = 0
        for layer in (guide.mean, guide.log_variance):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return adapted(model, guide, data)


def _joint(model, x):
    """log p(x, y) of each class y, by hand, with shape `(datapoints, classes)`."""
    hidden = (model.decoder[0][0].weight[:, 2:].T + model.decoder[0][0].bias).tanh()
    logits = model.decoder[1](hidden)
    cells = x[:, None, :PIXELS]
    return (cells * logits - nn.functional.softplus(logits)).sum(-1) - math.log(CLASSES)


def test_a_known_label_is_observed_and_a_missing_one_is_summed_out(pair):
    model, guide, data = pair
    rows = data.test.first()
    label = rows[:, PIXELS].long()
    joint = _joint(model.part, rows).detach()
    known = label >= 0
    expected = torch.where(known, joint[torch.arange(90), label], joint.logsumexp(1))
    found = Importance(particles=5).estimate(model, guide, data.test)
    torch.testing.assert_close(found.log_px.float(), expected, atol=1e-5, rtol=1e-5)
    assert (found.se < 1e-5).all()  # a draw of z moves nothing
    # The bound is the mean over q(y | x) and its entropy, and where the label is known log p(x, label).
    q = guide.part.classifier(rows[:, :PIXELS]).log_softmax(1).detach()
    bound = torch.where(known, expected, (q.exp() * (joint - q)).sum(1))
    torch.testing.assert_close(_bounds(model, guide, data.test), bound, atol=1e-4, rtol=1e-4)


def _bounds(model, guide, split):
    return bounds(model, guide, split, 4).values.float()


@pytest.mark.parametrize("compile", [False, True])
def test_training_classifies_what_is_known_and_evaluation_does_not(pair, compile, monkeypatch):
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda graph, *_, **__: graph)
    model, guide, data = pair
    learner = AEVB(
        model, guide, data.train, batch=50, elbo=TraceEnum_ELBO, optimizer="SGD", step_size=1e-20, compile=compile
    )
    torch.manual_seed(1)
    rows = data.train.minibatch(50)
    joint = _joint(model.part, rows)
    label = rows[:, PIXELS].long()
    q = guide.part.classifier(rows[:, :PIXELS]).log_softmax(1)
    known = label >= 0
    at_label = torch.arange(50), label
    bound = torch.where(known, joint[at_label] + 7 * q[at_label], (q.exp() * (joint - q)).sum(1))
    for _ in range(3):  # the first plain, to make the optimiser's state
        torch.manual_seed(1)
        learner.step()
        assert learner.loss.item() == pytest.approx(-bound.mean().item(), rel=1e-5)
    assert learner.update.compiles is compile


def test_a_guide_of_z_alone_leaves_the_class_to_the_model(pair, data):
    model, _, _ = pair
    model, guide, data = adapted(model.part, GaussianGuide(PIXELS, 2, hidden=4), data)
    with torch.no_grad():
        nn.init.zeros_(guide.part.mean.weight)
        nn.init.zeros_(guide.part.mean.bias)
    rows = data.test.first()
    joint, label = _joint(model.part, rows).detach(), rows[:, PIXELS].long()
    expected = torch.where(label >= 0, joint[torch.arange(90), label], joint.logsumexp(1))
    torch.testing.assert_close(_bounds(model, guide, data.test), expected, atol=1e-5, rtol=1e-5)


def test_generated_datapoints_have_the_class_that_is_given(pair):
    model, _, _ = pair
    label = torch.tensor([2, -1, 0] * 50)
    torch.manual_seed(0)
    with isolated():
        y = torch.stack([_classes(model.part, label) for _ in range(3)])
    assert (y[:, label >= 0] == label[label >= 0]).all()
    # Of 150 others a third is in each class, with a standard deviation of sqrt(150 * 2 / 9) = 5.8.
    counts = y[:, label < 0].flatten().bincount(minlength=3)
    assert ((counts - 50).abs() < 20).all()


def _classes(model, label):
    return poutine.trace(model).get_trace(None, size=len(label), label=label).nodes["y"]["value"]


def test_a_mixture_with_a_site_is_the_mixture_prior_without_one(pixels):
    torch.manual_seed(0)
    mixture = MixtureOfGaussiansModel(12, 2, hidden=5, components=4)
    prior = MixturePrior(2, components=4)
    plain = BernoulliModel(12, 2, hidden=5, prior=prior)
    for parameter in mixture.parameters():
        nn.init.normal_(parameter)
    plain.decoder.load_state_dict(mixture.decoder.state_dict())
    prior.load_state_dict({name: getattr(mixture, name) for name in ("logits", "mean", "log_scale")})
    guide, x = GaussianGuide(12, 2, hidden=5), pixels.first(7)
    found = []
    for model in (mixture, plain):
        torch.manual_seed(1)
        with isolated(), evaluation_mode(model, guide), torch.no_grad():
            found.append(log_weights(model, guide, x, 6))
    torch.testing.assert_close(*(each.double() for each in found), atol=1e-4, rtol=1e-5)
    z = torch.randn(5, 2)
    # Bayes' rule, component by component.
    joint = [mixture.logits.log_softmax(0)[k] + mixture.component(torch.tensor(k)).log_prob(z) for k in range(4)]
    expected = torch.stack(joint, 1) - prior().log_prob(z).unsqueeze(1)
    torch.testing.assert_close(mixture.responsibilities(z), expected.exp())
