"""What separates the bound from log p(x), where both are known."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from pyro_vae.analysis.gaps import gaps
from pyro_vae.inference.importance import Importance


class _Point(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Delta(torch.zeros(len(x), 2), event_dim=1))


def test_a_gaussian_of_its_own_closes_the_gap_where_the_posterior_is_one(oracle):
    x = oracle.x[:15]
    exact = oracle.model.log_px(x).double().numpy()
    # A guide that is a point proposes nothing: Gaussians are fitted in its place.
    for guide in (None, _Point()):
        found = gaps(oracle.model, guide, x, Importance(100))
        assert set(found) == {"log_px", "log_px_se", "local_bound", "local_bound_se"}
        assert found.sizes == {"datapoint": 15}
        # Where Adam ends, a Gaussian is some hundredths of a nat below the posterior.
        assert (abs(found["log_px"] - exact) < 4 * found["log_px_se"] + 0.005).all()
        assert (abs(found["local_bound"] - exact) < 0.1).all()
        assert (found["local_bound"] < exact + 4 * found["local_bound_se"] + 1e-4).all()


def test_a_guide_that_is_a_density_is_the_estimators(oracle):
    oracle.guide.set_exact(oracle.model)
    found = gaps(oracle.model, oracle.guide, oracle.x[:5], Importance(50))
    torch.testing.assert_close(
        torch.from_numpy(found["log_px"].values).float(), oracle.model.log_px(oracle.x[:5]), atol=2e-4, rtol=0
    )
