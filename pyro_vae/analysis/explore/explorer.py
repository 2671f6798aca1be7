"""What all pages of an explorer share: the space, the data in it, a plane through it, and the picture of a point."""

__all__ = ["Explorer"]

from typing import Any

import numpy as np

from pyro_vae.analysis.explore.pictures import Bars, Images
from pyro_vae.analysis.explore.plane import Plane, activity
from pyro_vae.analysis.explore.points import Points
from pyro_vae.analysis.explore.space import Array, Space
from pyro_vae.run.run import Run

# A Gaussian that is fitted to each datapoint takes a thousand times as long as a guide.
_WITHOUT_GUIDE = 500


class Explorer:
    """Creates what there is to explore of a run.

    Arguments:
        run: The run. Without its data there are no points.
        split: The split whose data are shown.
        most: How many of its datapoints at most; more are sampled.

    Raises:
        InputError: If the model cannot be drawn from, or a site has values that no slider reaches.
    """

    def __init__(self, run: Run, split: str = "test", most: int = 50_000) -> None:
        self.run, self.split = run, split
        self.space = Space(run)
        most = most if run.guide is not None else min(most, _WITHOUT_GUIDE)
        self.points = Points(run, self.space, split, most) if len(getattr(run.dataset, split)) else None
        vectors = None if self.points is None else self.points.vectors
        self.order = activity(self.space, vectors)
        self.plane = Plane.of(self.space, vectors, self.order)
        self.picture: Images | Bars = (Images if run.dataset.image_shape else Bars)(run, self.space)
        self.start: Array = np.median(self.space.prior, axis=0)

    def places(self) -> Array:
        """Where the data are on the plane, with shape `(points, 2)`; along a line they are spread upwards."""
        if self.points is None:
            return np.empty((0, 2))
        found = self.plane.on(self.points.vectors)
        if not self.plane.basis[1].any():
            found[:, 1] = np.random.default_rng(0).uniform(-1.0, 1.0, len(found))
        return found

    def grid(self, side: int) -> list[dict[str, Any]]:
        """The pictures in the middles of the cells of a grid on the plane, row by row from the lowest."""
        low, high = self.plane.low, self.plane.high
        u = (np.arange(side) + 0.5) / side
        across, up = np.meshgrid(low[0] + u * (high[0] - low[0]), low[1] + u * (high[1] - low[1]))
        places = np.stack([across.ravel(), up.ravel()], 1)
        rest = self.start - self.plane.vectors(self.plane.on(self.start[None]))[0]
        return [self.picture.at(vector) for vector in self.plane.vectors(places) + rest]
