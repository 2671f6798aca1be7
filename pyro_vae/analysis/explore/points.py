"""Data as points of the latent space, and what is asked of one of them."""

__all__ = ["CHANGING", "Points"]

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_vae.analysis.encode import encode
from pyro_vae.analysis.explore.space import Array, Space
from pyro_vae.analysis.posterior import draw_posterior, from_guide, require_bijections
from pyro_vae.local import fit_gaussian
from pyro_vae.marginal import proposal
from pyro_vae.run.run import Run
from pyro_vae.split import Split

# What `encode` says of a datapoint from draws, and how many draws it takes.
CHANGING, _PARTICLES = ("bound", "log_px", "khat"), 100
# The chains of one datapoint run side by side: many short ones take no longer than one.
_CHAINS, _DRAWS, _WARMUP = 50, 10, 50
_OF_GUIDE = 1_000
_NEIGHBOURS = 8
_ROWS = 4_096
# Columns of a table that a list can hold.
_COLUMNS = 200


class Points:
    """Creates the points of a run's data: the means of the guide.

    Arguments:
        run: The run, with data.
        space: Its latent variables.
        split: Which split, `train` or `test`.
        most: How many datapoints at most; more are sampled.

    Attributes:
        together: How many datapoints `advance` looks at: few, so that the pointer need not wait.
    """

    together = 10

    def __init__(self, run: Run, space: Space, split: str, most: int) -> None:
        whole, numbers = getattr(run.dataset, split), run.dataset.rows
        rows = np.arange(len(whole)) if numbers is None else np.asarray(numbers[split == "test"])
        self.run, self.space = run, space
        self.split: Split = whole.some(most)
        # The same choice, of the datapoints' numbers in their file.
        self.rows: Array = Split(torch.as_tensor(rows[: len(whole)].copy())[:, None]).some(most).values[:, 0].numpy()
        # A guide that is a point has no density, and tells no bound.
        self.changing = CHANGING if run.guide is None or proposal(run.guide, self.split.first(2)) else ()
        particles = _PARTICLES if run.guide is None else 1  # a Gaussian that is fitted costs more than its draws
        self.table = self._encoded(self.split, particles)
        self.vectors = space.vector(self._means(self.table))
        if run.guide is not None:
            self.table[[*CHANGING]] = np.nan
        self.done = len(self.split) if run.guide is None else 0

    def advance(self) -> bool:
        """Finds bound, log p(x) and k-hat of a few more datapoints; returns whether there are more to come."""
        part = slice(self.done, self.done + self.together)
        if self.done < len(self.split):
            some = Split(self.split.values[part], self.split.divisor, self.split.dynamic, beside=self.split.beside)
            found = self._encoded(some, _PARTICLES)
            for name in CHANGING:
                self.table.loc[part.start : part.start + len(found) - 1, name] = found[name].to_numpy()
            self.done += len(found)
        return self.done < len(self.split)

    def row(self, number: int) -> Tensor:
        """Reads one datapoint, with shape `(1, features)`, with what the model asks for beside its cells."""
        with self.space.quiet():  # pixels that are drawn anew at every reading
            return self.split.read(self.split.values[number : number + 1])

    def nearest(self, cells: Tensor, without: int | None = None) -> list[int]:
        """The numbers of the datapoints with the least Euclidean distance from cells, over those that are there.

        Arguments:
            cells: One datapoint or the mean of one, with shape `(features,)`.
            without: A datapoint to leave out.
        """
        found = []
        scale = self._scale()
        for values in self.split.values.split(_ROWS):
            apart = (self.split.read(values)[:, : len(cells)] - cells) / scale
            found.append(apart.square().nanmean(1))
        distances = torch.cat(found)
        if without is not None:
            distances[without] = torch.inf
        return distances.topk(min(_NEIGHBOURS, len(distances)), largest=False).indices.tolist()

    def posterior(self, number: int) -> tuple[Array, Array, float]:
        """Draws from the posterior of a datapoint by HMC, and from the guide.

        Returns:
            Both as vectors, with shape `(draws, size)`, and the acceptance rate of HMC.

        Raises:
            InputError: If HMC cannot move a site.
        """
        x, model = self.row(number), self.run.model
        with self.space.quiet():
            guide = proposal(self.run.guide, x)
            require_bijections(model, type(model).__name__, x)
            kept = draw_posterior(
                model,
                guide,
                x,
                chains=_CHAINS,
                draws=_DRAWS,
                warmup=_WARMUP,
                compile=False,
                advance=lambda share: None,
            )
            q = guide or fit_gaussian(model, x)
            drawn, _ = from_guide(model, q, x, _OF_GUIDE)
        one, other = (
            self.space.vector(
                {name: torch.from_numpy(value.reshape(-1, *value.shape[3:])) for name, value in latents.items()}
            )
            for latents in (kept.latents, drawn)
        )
        return one, other, float(kept.stats["acceptance_rate"].mean())

    @property
    def columns(self) -> list[str]:
        """What the points can be coloured by: what `encode` says of them, and the columns of a table."""
        said = ["label"] if "label" in self.table else []
        said += [*self.changing, *(name for name in self.table if name not in (*CHANGING, "label"))]
        named = self.run.dataset.names or () if self.run.dataset.image_shape is None else ()
        return [*said, *(f"{name} (data)" for name in named[:_COLUMNS])]

    def column(self, name: str) -> Array:
        """Returns a column: numbers, or texts of classes."""
        if name in self.table:
            return self.table[name].to_numpy()
        number = (self.run.dataset.names or ()).index(name.removesuffix(" (data)"))
        parts = [self.split.read(values)[:, number] for values in self.split.values.split(_ROWS)]
        return torch.cat(parts).cpu().numpy()

    def _scale(self) -> Tensor | float:
        """What a distance in each cell is divided by: columns of a table have units of their own."""
        if self.run.dataset.image_shape is not None:
            return 1.0
        x = self.split.first(_ROWS)[:, : self.split.features]
        mean = x.nanmean(0)
        return (x - mean).square().nanmean(0).sqrt().clamp(min=1e-6)

    def _encoded(self, split: Split, particles: int) -> pd.DataFrame:
        run = self.run
        return encode(
            run.model, run.guide, split, classes=run.dataset.classes, particles=particles, seed=run.settings.seed
        )

    def _means(self, table: pd.DataFrame) -> dict[str, Tensor]:
        """The means of the guide by site."""
        found = {}
        for name, site in self.space.sites.items():
            columns = [column for column in table if column.rpartition("_")[0] == name and column[-1].isdigit()]
            columns = columns or [name] * (name in table)
            if columns:
                values = torch.tensor(table[columns].to_numpy(np.float32))
                # Of a discrete site `encode` tells the most probable value as a coordinate.
                found[name] = site.value(values) if site.whole else values.reshape(len(values), *site.event)
        return found
