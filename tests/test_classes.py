"""Classes as inputs of networks, a conditional model of them, and what it generates when it is told a class."""

import numpy as np
import pyro
import pytest
import torch
from torch import nn

import pyro_vae
from pyro_vae import generate
from pyro_vae.classes import beside, known, ones
from pyro_vae.data import adapted
from pyro_vae.data.labels import class_number
from pyro_vae.elbo import elbo
from pyro_vae.errors import InputError
from pyro_vae.guides.conditional import ConditionalGuide
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.conditional import ConditionalModel
from pyro_vae.networks import hidden_layer
from pyro_vae.rows import generating
from pyro_vae.sites import isolated

LABELS = torch.tensor([2, -1, 0])


def test_a_class_that_is_not_known_is_none_of_them():
    assert ones(LABELS, 3).tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("depth", [1, 2])
def test_classes_beside_numbers_are_a_longer_input(depth):
    torch.manual_seed(0)
    network = nn.Sequential(hidden_layer(4 + 3, 5, depth), nn.Linear(5, 2))
    x, classes = torch.randn(3, 4), ones(LABELS, 3)
    torch.testing.assert_close(beside(network, x, classes), network(torch.cat([x, classes], 1)))
    # Enumerated, they lie along a dimension on the left.
    every = torch.eye(3).unsqueeze(1)
    found = beside(network, x, every)
    assert found.shape == (3, 3, 2)
    torch.testing.assert_close(found[1], network(torch.cat([x, every[1].expand(3, 3)], 1)))


def test_what_is_known_is_certain_in_float32():
    logits = torch.tensor([0.3, -0.1, 0.2])
    found = known(LABELS, logits.expand(3, 3))
    assert found.softmax(-1)[[0, 2]].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert torch.equal(found[1], logits)
    assert torch.equal(known(LABELS, logits), found)


@pytest.fixture
def labelled():
    """120 binary images of 6 pixels: of class c, pixels 2c and 2c + 1 are on; one label in six is missing."""
    classes = np.arange(120) % 3
    x = np.repeat(np.eye(3), 2, axis=1)[classes].astype(bool)
    labels = np.where(np.arange(120) % 6 == 5, np.nan, classes)
    return pyro_vae.data({"train": x, "test": x, "train_labels": labels, "test_labels": classes})


def _pair(labelled, guide=ConditionalGuide):
    torch.manual_seed(0)
    return adapted(
        ConditionalModel(6, 2, 3, hidden=4),
        guide(6, 2, **({"classes": 3} if guide is ConditionalGuide else {}), hidden=4),
        labelled,
    )


@pytest.mark.parametrize("guide", [ConditionalGuide, GaussianGuide])
def test_a_conditional_pair_scores_a_row_by_its_label(labelled, guide):
    model, guide, labelled = _pair(labelled, guide)
    rows = labelled.train.first(6)
    z = torch.randn(6, 2)
    with isolated():
        found = pyro.poutine.trace(pyro.poutine.condition(model, {"z": z})).get_trace(rows).nodes["x"]["fn"]
        assert elbo(model, guide, rows).isfinite().all()
    # A network of cat(z, one-hot), by hand; the sixth label is not known, and its class is none.
    classes = torch.eye(3)[rows[:, 6].long().clamp(min=0)] * (rows[:, 6:] >= 0)
    expected = model.part.decoder(torch.cat([z, classes], 1))
    torch.testing.assert_close(found.base_dist.logits, expected)


def test_generates_the_class_that_is_asked_for_and_forgets_it(labelled):
    model, guide, labelled = _pair(labelled)
    with torch.no_grad():  # the class sets the logits, 2 * 20 - 20 of its own pixels, -20 of the others
        for layer in (model.part.decoder[0][0], model.part.decoder[1]):
            layer.weight.zero_()
            layer.bias.zero_()
        model.part.decoder[0][0].weight[:3, 2:] = 9 * torch.eye(3)
        model.part.decoder[1].weight[:, :3] = 40 * torch.eye(3).repeat_interleave(2, 0)
        model.part.decoder[1].bias.fill_(-20.0)
    images = np.repeat(np.eye(3), 2, axis=1)
    for label in range(3):
        with generating(model, label):
            found = generate.prior_means(model, 5)
        np.testing.assert_allclose(found, np.tile(images[label], (5, 1)), atol=1e-6)
    torch.manual_seed(0)
    assert len(generate.prior_means(model, 50).round().unique(dim=0)) == 4  # the labels of the data, and none
    every = generate.analogies(model, guide, labelled.test.first(4), 3)
    np.testing.assert_allclose(every, np.repeat(images[:, None], 4, axis=1), atol=1e-6)


def test_analogies_keep_z(labelled):
    model, guide, labelled = _pair(labelled)
    for parameter in (*model.parameters(), *guide.parameters()):
        nn.init.normal_(parameter)
    x = labelled.test.first(4)
    torch.manual_seed(3)
    with isolated():
        z = guide(x)
    torch.manual_seed(3)
    found = generate.analogies(model, guide, x, 3)
    for label, images in enumerate(found):
        expected = model.part.likelihood(z, torch.full((4,), label)).mean
        torch.testing.assert_close(images, expected)


def test_a_model_without_labels_generates_no_class(labelled):
    model, _, _ = adapted(BernoulliModel(6, 2, hidden=4), ConditionalGuide(6, 2, 3, hidden=4), labelled)
    with pytest.raises(InputError, match="--label does not apply to a model that takes no label"), generating(model, 0):
        pass


def test_a_class_goes_by_name_before_it_goes_by_number():
    assert class_number("cat", ("dog", "cat")) == 1
    assert class_number("0", ("dog", "cat")) == 0
    assert class_number("0", ("5", "0")) == 1
    for name, classes, mend in (("2", ("a", "b"), "choose from a, b"), ("a", (), "it has none")):
        with pytest.raises(InputError, match=f"--label {name} is not a class of the data: {mend}"):
            class_number(name, classes)
