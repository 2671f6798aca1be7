"""What the tests of the paper's grid share."""

import pytest


@pytest.fixture
def algorithm(tmp_path):
    """A user's algorithm, two of them in one file."""
    path = tmp_path / "my algorithm.py"
    path.write_text(ALGORITHM)
    return path


ALGORITHM = '''
import pyro
import torch
from pyro.infer import Trace_ELBO


class Ascent:
    """Plain stochastic gradient ascent on the bound."""

    def __init__(self, model, guide, data, *, batch=100, step_size=0.02):
        self.model, self.guide, self.data, self.batch = model, guide, data, batch
        self.optimizer = torch.optim.SGD([*model.parameters(), *guide.parameters()], step_size / 100)
        self.loss = torch.zeros(())

    def step(self):
        with pyro.get_param_store().scope(), pyro.validation_enabled(False):
            elbo = Trace_ELBO().differentiable_loss(self.model, self.guide, self.data.minibatch(self.batch))
        self.optimizer.zero_grad()
        (elbo / self.batch).backward()
        self.optimizer.step()
        self.loss = elbo.detach() / self.batch
        return self.batch

    def state_dict(self):
        return {"generator": torch.get_rng_state()}

    def load_state_dict(self, state):
        torch.set_rng_state(state["generator"])


class Slower(Ascent):
    """The same with smaller steps."""

    def __init__(self, model, guide, data, *, batch=100, step_size=0.02):
        super().__init__(model, guide, data, batch=batch, step_size=step_size / 10)
'''
