"""How many latent variables are active, where it is known."""

from types import SimpleNamespace

import torch

from pyro_vae.analysis.activity import active_latents
from pyro_vae.errors import InputError


def test_what_the_guide_says_nothing_of_is_idle(oracle):
    run = SimpleNamespace(model=oracle.model, guide=oracle.guide, dataset=SimpleNamespace(test=oracle.split))
    oracle.guide.set_exact(oracle.model)
    assert active_latents(run) == {"active_latents": 2}
    with torch.no_grad():
        oracle.guide.mean.weight[1] = 0  # the same mean for all datapoints, whatever the width
    assert active_latents(run) == {"active_latents": 1}


def test_what_cannot_be_encoded_is_not_known(oracle, monkeypatch):
    def declining(*arguments, **options):
        raise InputError("site 'w' is global")

    monkeypatch.setattr("pyro_vae.analysis.activity.encode", declining)
    run = SimpleNamespace(model=oracle.model, guide=None, dataset=SimpleNamespace(test=oracle.split))
    assert active_latents(run) == {"active_latents": None}
