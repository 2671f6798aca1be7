"""Runs whose every number is known, to be explored."""

from pathlib import Path

import numpy as np
import pytest
import torch

import pyro_vae
from pyro_vae import Run
from pyro_vae.run.settings import Settings


def run_of(model, guide, data, **beside):
    """A run of a pair on data in memory, with no folder behind it."""
    settings = Settings(data="(data)", model="linear.py", inference="aevb")
    return Run(Path("runs/linear"), settings, pyro_vae.data(data, **beside), model, guide, [])


@pytest.fixture
def linear(oracle):
    """x = W z + b + noise, with the exact posterior as its guide; the data are a table of five columns."""
    oracle.guide.set_exact(oracle.model)
    return run_of(oracle.model, oracle.guide, oracle.x.numpy())


@pytest.fixture
def pictures(oracle):
    """The same, with one missing pixel in images of one row."""
    oracle.guide.set_exact(oracle.model)
    x = oracle.x.sigmoid().numpy().reshape(-1, 1, 5)
    return run_of(oracle.model, oracle.guide, np.ascontiguousarray(x))


@pytest.fixture
def made():
    """Makes a run of a model and a guide."""
    return run_of


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
