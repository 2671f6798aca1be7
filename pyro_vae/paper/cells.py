"""A cell of a grid: one run, all but its step size."""

__all__ = ["Cell"]

import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from pyro_vae.paper.protocol import STEP_SIZES
from pyro_vae.run import parts
from pyro_vae.run.settings import Settings
from pyro_vae.run.trust import contents


@dataclass(frozen=True)
class Cell:
    """A run of a grid, all but its step size.

    Arguments:
        data: The data set.
        latent: The number of latent variables.
        algorithm: The learning algorithm, by name or `FILE.py[:CLASS]`.
        seed: The seed.
        arguments: The other arguments of `pyro-vae train`.
        train_size: The number of training datapoints, where it is not all of them.
        step_sizes: The step sizes to choose from.
    """

    data: str
    latent: int
    algorithm: str
    seed: int
    arguments: tuple[str, ...] = ()
    train_size: int | None = None
    step_sizes: tuple[float, ...] = STEP_SIZES

    @cached_property
    def _file_name(self) -> str:
        """The algorithm in a file name. Of a user's file it has a digest: another version makes another run."""
        if not parts.is_file(self.algorithm):
            return self.algorithm
        path, name = parts.split_spec(self.algorithm)
        words = re.sub(r"[^\w.]+", "_", f"{path.stem}.{name}" if name else path.stem)
        files = contents(Settings(inference=self.algorithm))
        digest = sha256(b"".join(files[place] for place in sorted(files)))
        return f"{words}.{digest.hexdigest()[:8]}"

    def name(self, step_size: float) -> str:
        """Returns the name of the run folder."""
        return f"{self.data}{self.train_size or ''}-{self.latent}-{self._file_name}-{step_size:g}-{self.seed}"

    def command(self, step_size: float) -> list[str]:
        """Returns the arguments of `pyro-vae train` but for the budget and the folder."""
        size = () if self.train_size is None else ("--train-size", str(self.train_size))
        named = ("--data", self.data, "--latent", str(self.latent), "--inference", self.algorithm, *size)
        return [*named, *self.arguments, "--step-size", f"{step_size:g}", "--seed", str(self.seed)]
