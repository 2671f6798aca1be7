r"""Missing cells, given those that are there (Mattei & Frellsen, 2019, Section 4).

.. math:: E[x_m | x_o] \approx \sum_{k=1}^K \bar w_k \, E[x_m | z_k], \quad
    \bar w_k \propto \frac{p(x_o | z_k) \, p(z_k)}{q(z_k | x_o)}, \quad z_k \sim q(z | x_o)

Draws of the cells come from :math:`p(x_m | z_k)` with k drawn by these weights.
"""

__all__ = ["impute"]

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pyro_vae.device import seeded
from pyro_vae.elbo import ROWS
from pyro_vae.enumerated import draw
from pyro_vae.errors import InputError
from pyro_vae.khat import pareto_khat
from pyro_vae.local import fit_gaussian
from pyro_vae.sites import evaluation_mode, isolated, sample_sites
from pyro_vae.split import Split

_TOGETHER = 1_000


@torch.no_grad()
def impute(
    model: nn.Module,
    guide: nn.Module | None,
    split: Split,
    *,
    names: tuple[str, ...] | None = None,
    particles: int = 1000,
    draws: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Tells what missing cells may be, in the data's own units.

    Arguments:
        model: The generative model.
        guide: The recognition model; None fits a Gaussian to the posterior of each datapoint.
        split: The datapoints, as rows of the model; see `pyro_vae.data.adapted`.
        names: The names of the cells; their numbers from 1 if omitted.
        particles: The number of draws of the latent variables per datapoint.
        draws: The number of draws of each missing cell.
        seed: The seed of the draws.

    Returns:
        A table with one missing cell in each row: `row`, the number of its datapoint from 0, `column`, the posterior
        `mean` and `sd`, `draw_1` and so on, and the k-hat of its datapoint's weights, which above 0.7 says that these
        are not to be trusted.

    Raises:
        InputError: If no cell is missing, or a number is too small.
    """
    if particles < 2 or draws < 0:
        raise InputError(f"particles {particles}, draws {draws} is not possible: give at least 2, and 0")
    missing = (
        split.values[:, : split.features].isnan() if split.values.is_floating_point() else torch.zeros(0, 0).bool()
    )
    holed = missing.any(1).nonzero().flatten() if missing.numel() else missing
    if not len(holed):
        raise InputError("no cell is missing: there is nothing to impute")
    tables = []
    size = _TOGETHER if guide is None else max(1, ROWS // particles)
    with seeded(seed, split.device):
        for rows in holed.split(size):
            x = split.read(split.values[rows])
            q = fit_gaussian(model, x) if guide is None else guide
            with isolated(), evaluation_mode(model, q):
                drawn_from_q = draw(model, q, x, particles)
                likelihood = sample_sites(drawn_from_q.model_trace)["x"]["fn"]
                log_w = (drawn_from_q.log_p - drawn_from_q.log_q).double()
                weights = log_w.softmax(0)
                mean, variance = _moments(likelihood)
                there = (~missing[rows]).to(x.device)
                chosen = torch.multinomial(weights.T, draws, replacement=True).T if draws else None
                drawn = [] if chosen is None else [likelihood.sample()[k, torch.arange(len(x))] for k in chosen]
            shape = (particles, len(x), split.features)
            first = torch.einsum("kn,knd->nd", weights, mean.expand(shape).double())
            second = torch.einsum("kn,knd->nd", weights, (variance + mean**2).expand(shape).double())
            at, column = (~there).nonzero(as_tuple=True)
            table = {
                "row": rows[at],
                "column": column,
                "mean": first[at, column],
                "sd": (second - first**2).clamp(min=0).sqrt()[at, column],
                **{f"draw_{n + 1}": values[at, column] for n, values in enumerate(drawn)},
                "khat": torch.from_numpy(pareto_khat(log_w.cpu().numpy())).to(x.device)[at],
            }
            tables.append(pd.DataFrame({name: values.cpu().numpy() for name, values in table.items()}))
    found = pd.concat(tables, ignore_index=True)
    found["column"] = np.array(names, dtype=object)[found["column"]] if names else found["column"] + 1
    return found


def _moments(likelihood: object) -> tuple[Tensor, Tensor]:
    """The mean and the variance of cells, its own or, where it does not tell them, those of draws."""
    try:
        return likelihood.mean, likelihood.variance  # type: ignore[attr-defined]
    except NotImplementedError:
        draws = torch.stack([likelihood.sample() for _ in range(30)])  # type: ignore[attr-defined]
        return draws.mean(0), draws.var(0)
