"""The commands that train and evaluate the runs of a grid, each an ordinary run folder."""

__all__ = ["Commands", "Diverged", "has_diverged", "marginals"]

import json
from pathlib import Path

import pandas as pd

from pyro_vae.errors import InputError, RunError
from pyro_vae.paper.cells import Cell
from pyro_vae.run import parts
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.settings import Settings
from pyro_vae.run.tables import read_table, write_table
from pyro_vae.run.trust import require
from pyro_vae.run.workers import Workers

# The first datapoints of each split, on which the paper estimates the marginal likelihood (Appendix E). Of both
# estimators the expectation is a lower bound. Where a guide fits sharp posteriors well, as it does those of the few
# datapoints it was trained on, importance is ahead; where it misses modes, as on other data then, ais is.
_EVALUATED = 1000
_ESTIMATORS = ("importance", "ais")
_ESTIMATE = (
    *(word for name in _ESTIMATORS for word in ("--marginal", name)),
    *("--set", "ais.temperatures=300", "--set", "ais.chains=4"),
)
_MARGINALS = {"samples": float, "split": str, "estimator": str, "log_px": float, "se": float}


class Diverged(RunError):
    """A loss, a parameter or an optimiser's state of a run is not finite."""


class Commands:
    """Creates what trains and evaluates the runs of a grid, as far as that is not done.

    Arguments:
        out: The folder of the run folders.
        samples: The whole budget of a run, at whose end its pictures are drawn.
        workers: What runs the commands.
        data_dir: The folder of the data sets.
    """

    def __init__(self, out: Path, samples: int, workers: Workers, data_dir: str | None) -> None:
        self.out, self.samples, self.workers, self.data_dir = out, samples, workers, data_dir

    def folder(self, cell: Cell, step_size: float) -> Path:
        """Returns the folder of a run."""
        return self.out / cell.name(step_size)

    def advance(self, cell: Cell, step_size: float, samples: int) -> None:
        """Trains a run up to a budget.

        Raises:
            Diverged: If it diverges, or has done so earlier.
            RunError: If it fails otherwise.
            WorkerLost: If its worker has gone.
        """
        folder = self.folder(cell, step_size)
        if has_diverged(folder):
            raise Diverged(f"{folder.name}: {_divergence(folder).read_text(encoding='utf-8')}")
        if _samples_so_far(folder) >= samples:
            return
        if (folder / "checkpoint.pt").exists():
            command = ["--resume", *_trust(cell, folder)]
        else:
            (folder / "marginals.csv").unlink(missing_ok=True)
            command = ["--overwrite", *cell.command(step_size)]
        pictures = () if samples >= self.samples else ("--no-figures",)
        status, said = self._run(folder, "train", *command, "--samples", samples, "--out", folder, *pictures)
        if status == 1 and "not finite" in said:
            _divergence(folder).write_text(said, encoding="utf-8")
            raise Diverged(f"{folder.name}: {said}")
        _require_success(folder, status, said)

    def estimate(self, cell: Cell, step_size: float, stage: int) -> None:
        """Estimates the marginal likelihood where a run has come to.

        Raises:
            RunError: If it fails.
            WorkerLost: If its worker has gone.
        """
        folder = self.folder(cell, step_size)
        known = marginals(folder)
        if (known["samples"] >= stage).any():
            return
        rows = []
        for split in ("train", "test"):
            where = ("--split", split, "--limit", _EVALUATED, "--json", *_trust(cell, folder))
            status, said = self._run(folder, "evaluate", folder, *where, *_ESTIMATE)
            _require_success(folder, status, said)
            for name in _ESTIMATORS:
                found = json.loads(said)[name]
                rows.append((_samples_so_far(folder), split, name, found["log_px"], found["se"]))
        new = pd.DataFrame(rows, columns=list(_MARGINALS))
        write_table(pd.concat([known, new]), folder / "marginals.csv")

    def _run(self, folder: Path, *arguments: object) -> tuple[int, str]:
        """Runs a command to its end. Returns its exit status, and its output or the last line of its log."""
        where = () if self.data_dir is None else ("--data-dir", self.data_dir)
        log = folder.with_name(f"{folder.name}.log")
        try:
            status, output = self.workers.run([str(word) for word in (*arguments, *where)], log)
        except RunError as error:
            raise RunError(f"{folder.name}: {error}") from error
        if status != 0:
            output = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        return status, output.removeprefix("pyro-vae: ")


def marginals(folder: Path) -> pd.DataFrame:
    """Reads what log p(x) was estimated to be along a run of a grid.

    Arguments:
        folder: The run folder.

    Returns:
        A table with `samples`, `split`, `estimator`, its `log_px` and the Monte Carlo standard error `se` of that, in
        nats per datapoint.
    """
    return read_table(folder / "marginals.csv", _MARGINALS)


def has_diverged(folder: Path) -> bool:
    """Whether a run of a grid has diverged."""
    return _divergence(folder).exists()


def _divergence(folder: Path) -> Path:
    """Where it is written how a run diverged."""
    return folder.with_name(f"{folder.name}.diverged")


def _samples_so_far(folder: Path) -> int:
    try:
        return int(read_metrics(folder)[-1][0])
    except (InputError, IndexError):
        return 0


def _trust(cell: Cell, folder: Path) -> tuple[str, ...]:
    """`--trust`, where a run folder's Python code is that of the algorithm which the user has named.

    Raises:
        RunError: If it is another one's.
    """
    if not parts.is_file(cell.algorithm):
        return ()
    try:
        require(folder, Settings(inference=cell.algorithm), trust=False, given={"inference": cell.algorithm})
    except InputError as error:
        raise RunError(
            f"{folder} holds other code than {cell.algorithm}: remove it, or choose another --out"
        ) from error
    return ("--trust",)


def _require_success(folder: Path, status: int, said: str) -> None:
    if status != 0:
        raise RunError(f"{folder.name}: {said or f'exit status {status}'}")
