"""The statistical analysis of a run: draws, diagnostics, criticism, and what they come to."""

__all__ = ["Analysis", "analyze"]

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pyro_vae import ranks
from pyro_vae.analysis.coverage import coverage
from pyro_vae.analysis.diagnostics import guide as guide_diagnostics
from pyro_vae.analysis.diagnostics import sampler
from pyro_vae.analysis.export import to_arviz, write
from pyro_vae.analysis.gaps import gaps
from pyro_vae.analysis.loo import loo
from pyro_vae.analysis.predictive import activity, calibration, checks
from pyro_vae.analysis.rehearsal import AT_THE_DATA, CALIBRATION, GAPS, or_left_out, rehearse
from pyro_vae.analysis.sbc import simulate, simulate_at
from pyro_vae.analysis.summary import summarise
from pyro_vae.analysis.two_samples import accuracy
from pyro_vae.bayesian import has_random_weights
from pyro_vae.device import seeded
from pyro_vae.errors import InputError, told
from pyro_vae.measure import measure
from pyro_vae.run.folder import ANALYSIS, inside, replace_file
from pyro_vae.run.progress import Stages
from pyro_vae.run.run import Run
from pyro_vae.run.score import estimators, nan_to_none
from pyro_vae.run.settings import MARGINAL
from pyro_vae.traced import worth_compiling

# Datapoints simulated for the calibration, each with its own latent variables, and transitions to find them again.
_SIMULATIONS, _TRANSITIONS = 200, 150
# Datapoints at which it is calibrated with other data of the same latent variables.
_AT = 100
_LOO = "leave-one-out density of training data"


class Analysis(NamedTuple):
    """What an analysis found.

    Arguments:
        summary: The numbers that `summary.json` holds.
        datapoints: Diagnostics by datapoint.
        latents: The activity of each latent variable.
        curves: The calibration of predicted means, by observed site, where there are such.
        pit: PIT values of the simulation-based calibration, under `hmc`, `guide` and, of HMC beginning at the data,
            `at_data`; none where it is left out.
        tree: The draws.
        coverage: The shares of data in predictive intervals, by observed site.
    """

    summary: dict[str, Any]
    datapoints: xr.Dataset
    latents: xr.Dataset
    curves: dict[str, xr.Dataset]
    pit: dict[str, NDArray[np.float64]]
    tree: xr.DataTree
    coverage: dict[str, xr.Dataset]


def analyze(
    run: Run,
    *,
    split: str = "test",
    limit: int = 500,
    chains: int = 4,
    draws: int = 500,
    warmup: int = 200,
    marginal: str = MARGINAL,
    seed: int = 0,
    compile: str = "auto",
    zarr: bool = False,
    quick: bool = False,
    progress: bool = True,
) -> Analysis:
    """Analyses a trained run and writes `draws.nc`, `summary.json`, `datapoints.csv` and `latents.csv`.

    It begins with a rehearsal on two datapoints: what makes an analysis impossible is said in its first second. Parts
    that it can do without are left out where they fail, and `left_out` of the summary says why.

    They go into the folder `analysis` of the run folder. Weights that are random variables are taken at their mean, and
    the training data are left out one by one (see `pyro_vae.analysis.loo`). Several ranks (see `pyro_vae.ranks`) divide
    the datapoints and the simulations; the first one returns and writes all of it, the others return their part.

    Arguments:
        run: The run.
        split: `train` or `test`.
        limit: Take the first datapoints only.
        chains: The number of Markov chains of each datapoint, at least 2.
        draws: The number of draws of each chain.
        warmup: The number of transitions before them.
        marginal: The estimator of log p(x), by name or path.
        seed: The seed of all draws.
        compile: `on`, `off`, or `auto`, which compiles what is worth it.
        zarr: Whether the draws are written as `draws.zarr` instead.
        quick: Whether simulation-based calibration and the gaps between bound and log p(x) are left out.
        progress: Whether to report progress on standard error.

    Raises:
        InputError: If a number is too small, there is no such split or estimator, the pair cannot be analysed, or the
            folder `analysis` is a link.
    """
    if split not in ("train", "test") or chains < 2:
        raise InputError(f"split {split}, chains {chains} is not possible: give train or test, and at least 2 chains")
    out = inside(run.path, ANALYSIS)
    random_weights = has_random_weights(run.model)
    if random_weights and ranks.count() > 1:
        raise InputError("datapoints share the draws of random weights: analyse them without torchrun")
    began, seed = monotonic(), ranks.own_seed(seed)
    with seeded(seed, run.dataset.train.device):  # dynamic binarisation draws the pixels
        x = getattr(run.dataset, split).head(limit).first()
    compiled = worth_compiling(compile, len(x) * chains * (warmup + draws))
    estimator = estimators([marginal], compile=compiled)[marginal]
    model: Any = run.model.at_mean if has_random_weights(run.model) else run.model
    image = run.dataset.image_shape
    stages = Stages(progress and ranks.rank() == 0)
    with stages.stage("trying it all on two datapoints"):
        left_out = rehearse(model, run.guide, x[:2], image, quick, seed)
        with told(f"the analysis of {type(model).__name__}"):
            kind = measure(model, getattr(run.dataset, split))
    drawing = stages.stage(f"drawing from the posterior of {len(x)} datapoints")
    with told(f"the analysis of {type(model).__name__}"), drawing as advance:
        tree = to_arviz(
            model,
            run.guide,
            x,
            chains=chains,
            draws=draws,
            warmup=warmup,
            predictive=max(chains, min(100, chains * draws)),
            image_shape=image,
            seed=seed,
            compile=compiled,
            attrs={
                "data": run.dataset.name,
                "data_checksum": run.dataset.checksum,
                "binarize": run.dataset.binarize,
                "measure": kind,
                "split": split,
                **({"samples": run.rows[-1][0]} if run.rows else {}),
                "inference": run.settings.inference,
                "latent": run.settings.latent,
                "weights": "at their mean" if random_weights else "trained",
            },
            advance=advance,
        )
    guide = run.guide if "guide_posterior" in tree.children else None
    with stages.stage("diagnosing chains and guide"):
        found = [sampler(tree)]
        if guide is not None:
            found += [guide_diagnostics(tree), accuracy(tree).to_dataset()]
    if GAPS not in left_out:
        with (
            stages.stage(f"estimating log p(x) by {marginal}, and a Gaussian for each datapoint"),
            or_left_out(left_out, GAPS),
        ):
            found.append(gaps(model, guide, x, estimator, seed))
    pit: dict[str, NDArray[np.float64]] = {}
    if CALIBRATION not in left_out:
        some = x[np.arange(len(ranks.mine(_SIMULATIONS))) % len(x)]
        simulating = stages.stage(f"calibrating on {_SIMULATIONS} simulated datapoints")
        with simulating as advance, or_left_out(left_out, CALIBRATION):
            pit = simulate(model, guide, some, transitions=_TRANSITIONS, seed=seed, compile=compiled, advance=advance)
    if AT_THE_DATA not in left_out:
        some = x[: len(ranks.mine(_AT))]
        simulating = stages.stage(f"calibrating at {len(some)} datapoints")
        with simulating as advance, or_left_out(left_out, AT_THE_DATA):
            pit["at_data"] = simulate_at(model, guide, some, transitions=_TRANSITIONS, seed=seed, advance=advance)
    with stages.stage("comparing predictions with the data"):
        datapoints = xr.merge(found, join="override")
        tree, datapoints, pit, left_out = _of_all_ranks(tree, datapoints, pit, left_out)
        latents, curves, covered = activity(tree), calibration(tree), coverage(tree, seed)
        numbers = summarise(datapoints, latents, curves, checks(tree), pit, covered)
    if "gaps" in numbers:
        numbers["gaps"]["estimator"] = marginal
    attributes = {str(name): value for name, value in tree.attrs.items()}
    options = {"split": split, "limit": limit, "chains": chains, "draws": draws, "warmup": warmup, "marginal": marginal}
    command = shlex.join(["pyro-vae", "analyze", str(run.path), *_flags(options), *(["--quick"] if quick else [])])
    about = {**attributes, "datapoints": datapoints.sizes["datapoint"], "command": command}
    summary: dict[str, Any] = {"run": about, **numbers, "left_out": left_out}
    if random_weights:
        with stages.stage("leaving out training data"), or_left_out(left_out, _LOO):
            summary["loo"] = _loo(run, limit, seed)
    analysis = Analysis(nan_to_none(summary), datapoints, latents, curves, pit, tree, covered)
    if ranks.rank() == 0:
        with stages.stage("writing"):
            analysis.summary["run"]["seconds"] = round(monotonic() - began, 1)
            _write(analysis, out, zarr)
    return analysis


def _write(analysis: Analysis, folder: Path, zarr: bool) -> None:
    folder.mkdir(exist_ok=True)
    write(analysis.tree, folder / ("draws.zarr" if zarr else "draws.nc"))
    for name, table in (("datapoints", analysis.datapoints), ("latents", analysis.latents)):
        replace_file(folder / f"{name}.csv", table.to_dataframe().to_csv)
    text = json.dumps(analysis.summary, indent=2, allow_nan=False)
    replace_file(folder / "summary.json", lambda path: path.write_text(text, encoding="utf-8"))


def _flags(options: dict[str, Any]) -> list[str]:
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


Pit = dict[str, NDArray[np.float64]]


def _of_all_ranks(
    tree: xr.DataTree, datapoints: xr.Dataset, pit: Pit, left_out: dict[str, str]
) -> tuple[xr.DataTree, xr.Dataset, Pit, dict[str, str]]:
    """Puts the parts of all ranks together on the first of them. What one of them has left out, all have."""
    parts = ranks.gathered_by_first((tree, datapoints, pit, left_out))
    if len(parts) == 1:
        return parts[0]
    trees, tables, pits, reasons = zip(*parts, strict=True)
    groups = {name: _in_order([each[name].to_dataset() for each in trees]) for name in tree.children}
    whole = xr.DataTree.from_dict(groups)
    whole.attrs = tree.attrs
    columns = [name for name in tables[0].data_vars if all(name in table for table in tables)]
    table = _in_order([each[columns] for each in tables])
    pit = {name: np.concatenate([each[name] for each in pits]) for name in pit if all(name in each for each in pits)}
    return whole, table, pit, {part: why for each in reasons for part, why in each.items()}


def _in_order(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Joins datasets of the datapoints n, n + K, n + 2 K and so on."""
    numbered = [
        part.assign_coords(datapoint=np.arange(n, n + len(parts) * part.sizes["datapoint"], len(parts)))
        for n, part in enumerate(parts)
    ]
    return xr.concat(numbered, "datapoint", data_vars="minimal", coords="minimal", compat="override").sortby(
        "datapoint"
    )


def _loo(run: Run, limit: int, seed: int) -> dict[str, Any]:
    """The leave-one-out density of training data, in nats per datapoint, and what leaving out costs them."""
    x = run.dataset.train.first(limit)
    every = len(x) == run.dataset.train.total
    found = loo(run.model, run.guide, x, seed=seed, corrected=every)  # type: ignore[arg-type]
    return {
        "datapoints": len(x),
        "corrected": every,
        "elpd": found.elpd / len(x),
        "se": found.se / len(x),
        "lost": found.p / len(x),
        "khat_over_0_7": float((found.pareto_k > 0.7).mean()),
    }
