"""Every public name has an example in its docstring, and every example does what it says."""

import doctest
import inspect
from importlib import import_module

import pytest
import torch

import pyro_vae
from pyro_vae.run import parts

# What parts of one's own are built from, besides the base classes.
BLOCKS = {
    "elbo": ["log_weights", "bound_terms", "elbo", "iwae", "ImportanceWeightedELBO"],
    "errors": ["Range"],
    "guides.base": ["Guide"],
    "inference.base": ["MinibatchLearner"],
    "marginal": ["Marginal"],
    "models.base": ["Model"],
    "networks": ["hidden_layer", "linear"],
    "split": ["Split"],
    "traced": ["Traced"],
    "update": ["Update"],
}


def _public():
    yield from ((name, getattr(pyro_vae, name)) for name in pyro_vae.__all__)
    for kind in ("model", "prior", "guide", "inference", "marginal"):
        yield from ((f"{kind}-{name}", parts.find(kind, name)) for name in parts.names(kind))
    for module, names in BLOCKS.items():
        yield from ((f"{module}.{name}", getattr(import_module(f"pyro_vae.{module}"), name)) for name in names)


@pytest.mark.parametrize("public", [pytest.param(public, id=name) for name, public in _public()])
def test_the_example_of_a_public_name_runs(public, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    docstring = inspect.getdoc(public)
    assert "\nExample:\n" in docstring
    test = doctest.DocTestParser().get_doctest(docstring, {}, public.__name__, None, 0)
    assert test.examples
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert not found.failed, capsys.readouterr().out
