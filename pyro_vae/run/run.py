"""A run: a trained pair with its data and its folder."""

__all__ = ["Run"]

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from pyro_vae.data.dataset import Dataset
from pyro_vae.data.loading import more_of
from pyro_vae.device import resolve, seeded
from pyro_vae.errors import told
from pyro_vae.global_latents import with_globals
from pyro_vae.run import folder
from pyro_vae.run.prepared import Prepared, prepare
from pyro_vae.run.record import used_data_dir
from pyro_vae.run.score import evaluate
from pyro_vae.run.settings import Settings
from pyro_vae.run.stored import METRICS
from pyro_vae.run.trust import require


@dataclass(frozen=True, repr=False)
class Run:
    """A trained pair with its data and its folder.

    Arguments:
        path: The run folder.
        settings: The settings.
        dataset: The data.
        model: The generative model.
        guide: The recognition model, None where the algorithm has none.
        rows: The rows of `metrics.csv`; see `metrics`.

    Example:
        >>> import pyro_vae
        >>> run = pyro_vae.train("runs/example", hidden=8, samples=500, progress=False, overwrite=True)
        >>> run = pyro_vae.Run.open("runs/example")
        >>> list(run.metrics.columns)[:3]
        ['samples', 'seconds', 'train_bound']
        >>> run.evaluate(particles=10, limit=5)["datapoints"]
        5
    """

    path: Path
    settings: Settings
    dataset: Dataset
    model: nn.Module
    guide: nn.Module | None
    rows: list[list[float]]

    def __repr__(self) -> str:
        """One line."""
        return f"Run {self.path}: {', '.join(self._told().values())}"

    def _repr_html_(self) -> str:
        """A table, as notebooks show it."""
        return pd.Series({"run": str(self.path), **self._told()}).to_frame().to_html(header=False)

    def _told(self) -> dict[str, str]:
        s, rows = self.settings, self.rows
        told = {"data": self.dataset.name, "model": f"{s.model} model"}
        if self.guide is not None:
            told["guide"] = f"{s.guide} guide"
        told |= {"inference": s.inference, "latent": f"{s.latent} latents"}
        if rows:
            told |= {"samples": f"{rows[-1][0]:,} samples", "test bound": f"test bound {rows[-1][3]:.2f} nats"}
        return told

    @classmethod
    def of(cls, path: Path, prepared: Prepared, rows: list[list[float]]) -> "Run":
        """Makes a run of what was prepared for it."""
        with told(f"looking at {type(prepared.model).__name__}"):
            model = with_globals(prepared.model, prepared.guide, prepared.dataset.train)
        return cls(path, prepared.settings, prepared.dataset, model, prepared.guide, rows)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        trust: bool = False,
        device: str = "auto",
        data_dir: str | None = None,
        model: Any = None,
        guide: Any = None,
    ) -> "Run":
        """Opens a run folder.

        Arguments:
            path: The run folder.
            trust: Whether the user's Python files that the folder holds copies of may be run.
            device: The device to work on.
            data_dir: The folder of the data, where it is not the run's own.
            model: The model that the run was trained with, where it lay in memory.
            guide: The guide, likewise.

        Raises:
            InputError: If the folder, its files or the data are not what they should be.
        """
        path = Path(path)
        record = folder.read_record(path)
        settings = Settings.of(record["settings"], f"{path}/run.toml")
        require(path, settings, trust)
        settings = replace(settings, device=device, data_dir=data_dir or used_data_dir(settings, record))
        where = resolve(device)
        with seeded(settings.seed, where):
            given = {"model": model, "guide": model if guide is None and settings.guide == settings.model else guide}
            given = {kind: part for kind, part in given.items() if part is not None}
            prepared = prepare(settings, where, path, record, parts_given=given)
        folder.require_sizes(path, prepared.modules)
        run = cls.of(path, prepared, folder.read_metrics(path))
        folder.read_weights(path, run.modules)
        return run

    @property
    def metrics(self) -> pd.DataFrame:
        """The evaluations: `samples`, `seconds` of training, `train_bound` and `test_bound` in nats per datapoint."""
        return pd.DataFrame(self.rows, columns=list(METRICS)).astype({"samples": "int64"})

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The model and, where there is one, the guide, by these names."""
        model = getattr(self.model, "plain", self.model)  # what draws global latent variables has no state of its own
        return {"model": model} | ({} if self.guide is None else {"guide": self.guide})

    def on(self, data: Any, **beside: Any) -> "Run":
        """Returns the run with other data of the same columns as its test split; see `pyro_vae.data.more_of`."""
        return replace(self, dataset=more_of(data, self.dataset, self.settings.data_dir, **beside))

    def evaluate(self, **options: Any) -> dict[str, Any]:
        """Evaluates the pair; see `pyro_vae.run.score.evaluate` for the options and the result."""
        return evaluate(self.model, self.guide, self.dataset, **options)
