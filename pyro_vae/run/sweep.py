"""A grid of runs of one's own, each with several seeds: trained, evaluated and put into one table."""

__all__ = ["Point", "Sweep", "points"]

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w
from rich.console import Console

from pyro_vae.device import resolve
from pyro_vae.errors import InputError, RunError
from pyro_vae.files import read_regular
from pyro_vae.run import folder as folders
from pyro_vae.run import parts, record
from pyro_vae.run.pool import Trained, finish, outlive
from pyro_vae.run.prepared import Parts, prepare
from pyro_vae.run.settings import PARTS, Settings
from pyro_vae.run.tables import write_table
from pyro_vae.run.trust import require
from pyro_vae.run.workers import Workers

# Nobody has the time for more, and to list them alone would take minutes.
_MOST = 10_000
# Of an evaluation, in bytes.
_LONGEST = 2**20


@dataclass(frozen=True)
class Point:
    """A run of a sweep.

    Arguments:
        values: The values of the grid at this point, as texts by key.
        seed: The seed.
        settings: All settings of the run.
    """

    values: tuple[tuple[str, str], ...]
    seed: int
    settings: Settings

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def name(self) -> str:
        """The name of the run folder."""
        words = [f"{key}={value}" for key, value in (*self.values, ("seed", self.seed))]
        return re.sub(r"[^\w.=+-]+", "_", ",".join(words).replace(",", "-"))


def points(given: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], seeds: int) -> list[Point]:
    """Returns the runs of a grid, all combinations of its values with each seed.

    Arguments:
        given: What is given of the settings that all runs share; their seeds count from `seed` on.
        grid: The values of settings, `latent` for example, and of arguments of parts, `model.depth`.
        seeds: The number of seeds.

    Raises:
        InputError: If there is no such setting, a value is impossible, or two runs would have one name.
    """
    base = Settings.of(given)
    if (number := seeds * math.prod(map(len, grid.values()))) > _MOST:
        raise InputError(f"--grid has {number:,} runs, and {_MOST:,} are possible: give fewer values")
    found = []
    for values in product(*grid.values()):
        own: dict[str, Any] = {name: dict(options) for name, options in base.set.items()}
        settings: dict[str, Any] = {}
        for key, value in zip(grid, values, strict=True):
            part, dot, name = key.partition(".")
            if dot and part in PARTS and name:
                own.setdefault(part, {})[name] = value
            elif key in ("seed", "set", "samples"):
                raise InputError(f"--grid {key} is not possible: give --seeds, PART.KEY, or --samples")
            else:
                settings[key] = value
        Settings.of(settings, "--grid")  # an unknown name is said with the place that it is in
        texts = tuple((key, str(value)) for key, value in zip(grid, values, strict=True))
        for seed in range(base.seed, base.seed + seeds):
            whole = Settings.of({**asdict(base), **settings, "set": own, "seed": seed})
            if "guide" not in {**given, **settings} and (guide := parts.own_guide(whole.model)):
                whole = replace(whole, guide=guide)
            found.append(Point(texts, seed, whole))
    for name, times in Counter(point.name for point in found).items():
        if times > 1:
            raise InputError(f"--grid has two runs of one name, {name}: leave one out")
    return found


class _Lines(AbstractContextManager["_Lines"]):
    """Lines of log on standard error."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def __exit__(self, *_: object) -> None:
        pass

    def update(self) -> None:
        pass

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)


class Sweep:
    """Creates what finishes the runs of a grid; finished ones are skipped.

    Arguments:
        out: The folder of the table and of the run folders.
        workers: What trains and evaluates them.
        evaluation: The arguments of `pyro-vae evaluate`.
    """

    def __init__(self, out: Path, workers: Workers, evaluation: Sequence[str] = ()) -> None:
        self.out, self.workers, self.evaluation = out, workers, [*evaluation]

    def finish(self, grid: Sequence[Point]) -> Trained[Point]:
        """Trains and evaluates runs, several at a time.

        Raises:
            InputError: If data or parts are missing, or a folder holds another run.
            Interrupted: If a signal ended it, after checkpoints.
        """
        # What is wrong is said before the long part.
        for point in {point.values: point for point in grid}.values():
            prepare(point.settings, resolve(point.settings.device), self.out / point.name, {})
        grid = [replace(point, settings=Parts.of(point.settings, {}).completed(point.settings)) for point in grid]
        for point in grid:
            self._require_same(point)
        self.out.mkdir(parents=True, exist_ok=True)
        screen = _Lines()

        def work(point: Point) -> Path:
            path = self.out / point.name
            return outlive(point.name, lambda: self._finish(point), [path], screen.note)

        return finish(grid, work, self.workers, screen)

    def table(
        self, trained: Trained[Point], beside: Callable[[Path], Mapping[str, Any]] = lambda path: {}
    ) -> pd.DataFrame:
        """Writes a row of each run to `sweep.csv`: grid, seed, bound and log p(x), in nats per datapoint.

        Arguments:
            trained: The runs.
            beside: Returns further columns of a run folder.

        Returns:
            The table: the keys of the grid as texts, `seed`, `samples`, `seconds`, `measure`, `bound`, `bound_se`, for
            each estimator `NAME` and `NAME_se`, where they are known `bits_per_dim`, what is beside them, and `run`.
        """
        rows = []
        for point, path in trained.folders.items():
            samples, seconds, *_ = folders.read_metrics(path)[-1]
            result = _known(path)["result"]
            row = {**dict(point.values), "seed": point.seed, "samples": samples, "seconds": seconds}
            row |= {name: result[name] for name in ("measure", "bound", "bound_se")}
            for name, value in result.items():
                if isinstance(value, dict):
                    row |= {name: value["log_px"], f"{name}_se": value["se"]}
            rows.append(row | {"bits_per_dim": result.get("bits_per_dim"), **beside(path), "run": path.name})
        table = pd.DataFrame(rows)
        write_table(table, self.out / "sweep.csv")
        return table

    def _require_same(self, point: Point) -> None:
        """Refuses a folder that holds another run, of other settings or of a file that has changed since."""
        path = folders.inside(self.out, point.name)
        if not (path / "checkpoint.pt").exists():
            return
        written = folders.read_record(path)
        old = Settings.of(written["settings"])
        try:
            record.resumed(written, asdict(replace(point.settings, samples=max(old.samples, point.settings.samples))))
            if old.step_size != point.settings.step_size:
                raise InputError(f"it has --step-size {old.step_size}")
            require(path, old, trust=False, given=asdict(point.settings))
        except InputError as error:
            raise InputError(f"{path} holds another run: choose another --out, or remove it ({error})") from error

    def _finish(self, point: Point) -> Path:
        path, settings = self.out / point.name, point.settings
        samples = _samples_so_far(path)
        # The user has named these files, and `_require_same` has held them against the folder's.
        trust = ["--trust"] if any(parts.is_file(getattr(settings, kind)) for kind in PARTS) else []
        if samples < settings.samples:
            config = path.with_name(f"{path.name}.toml")
            folders.replace_file(config, lambda beside: beside.write_text(tomli_w.dumps(settings.table()), "utf-8"))
            mode = "--resume" if (path / "checkpoint.pt").exists() else "--overwrite"
            self._run(path, "train", mode, "--config", str(config), "--out", str(path), "--no-figures", *trust)
            samples = _samples_so_far(path)
        known = {"samples": samples, "arguments": self.evaluation}
        if {name: _known(path).get(name) for name in known} != known:
            said = self._run(path, "evaluate", str(path), "--json", *self.evaluation, *trust)
            text = json.dumps({**known, "result": json.loads(said)})
            folders.replace_file(_evaluation(path), lambda beside: beside.write_text(text, "utf-8"))
        return path

    def _run(self, path: Path, *arguments: str) -> str:
        log = path.with_name(f"{path.name}.log")
        status, output = self.workers.run(arguments, log)
        if status != 0:
            said = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            raise RunError(f"{path.name}: {said.removeprefix('pyro-vae: ') or f'exit status {status}'}")
        return output


def _evaluation(path: Path) -> Path:
    return path / "evaluation.json"


def _known(path: Path) -> dict[str, Any]:
    """What is known of an evaluation that is there; nothing where the file is none of ours."""
    try:
        found: dict[str, Any] = json.loads(read_regular(_evaluation(path), _LONGEST))
        result = found["result"]
        numbers = [result[name] for name in ("bound", "bound_se")]
        numbers += [value[key] for value in result.values() if isinstance(value, dict) for key in ("log_px", "se")]
        ours = isinstance(result["measure"], str) and all(isinstance(n, int | float | None) for n in numbers)
        return found if ours else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _samples_so_far(path: Path) -> float:
    try:
        return folders.read_metrics(path)[-1][0] if (path / "checkpoint.pt").exists() else 0.0
    except (InputError, IndexError):
        return 0.0
