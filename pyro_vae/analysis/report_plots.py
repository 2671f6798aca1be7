"""The plots of an analysis, by ArviZ where it has them, as PNG in memory."""

__all__ = ["Picture", "draw_all"]

from collections.abc import Callable
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import arviz as az
import numpy as np
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pyro_vae.analysis.analyze import Analysis
from pyro_vae.analysis.diagnostics import flat

Picture = bytes

# Latent variables in a plot with a panel for each.
_PANELS = 3
_IMAGES = 10


def draw_all(analysis: Analysis) -> dict[str, Picture]:
    """Draws every plot that the analysis has the numbers for; returns them by name."""
    drawn: dict[str, Callable[[Analysis], Any]] = {
        "images": _images,
        "predictive": _predictive,
        "calibration": _calibration,
        "latents": _latents,
        "rhat": _rhat,
        "rank": _rank,
        "trace": _trace,
        "energy": _energy,
        "khat": _khat,
        "gaps": _gaps,
        "against": _against,
        "pit_hmc": lambda a: _pit(a, "hmc"),
        "pit_guide": lambda a: _pit(a, "guide"),
    }
    pictures = {}
    with az.rc_context({"plot.backend": "matplotlib"}):
        for name, draw in drawn.items():
            if (found := draw(analysis)) is not None:
                pictures[name] = _png(found)
    return pictures


def _png(found: Any) -> Picture:
    figure = found if isinstance(found, Figure) else found.viz["figure"].item()
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight")
    pyplot.close(figure)  # ArviZ's figures are pyplot's
    return buffer.getvalue()


def _axes(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _only(group: Any) -> Any:
    (variable,) = group.data_vars.values()
    return variable


def _images(a: Analysis) -> Figure | None:
    data = _only(a.tree["observed_data"])
    if data.ndim != 3:
        return None
    count = min(_IMAGES, len(data))
    rows = {"data": data.values[:count]}
    if "posterior_predictive_mean" in a.tree.children:
        rows["posterior mean"] = _only(a.tree["posterior_predictive_mean"]).values[:count]
    rows["posterior draw"] = _only(a.tree["posterior_predictive"]).values[0, -1, :count]
    rows["prior draw"] = _only(a.tree["prior_predictive"]).values[0, 0, :count]
    figure = Figure(figsize=(0.8 * count + 1.2, 0.85 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), count, squeeze=False)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for each, image in zip(axes, images, strict=True):
            each.imshow(image, cmap="gray", vmin=0, vmax=1)
            each.set_xticks([])
            each.set_yticks([])
    return figure


def _predictive(a: Analysis) -> Any:
    """The mean value of each datapoint: one number, of which there is a distribution over datapoints."""

    def means(group: str) -> Any:
        values = _only(a.tree[group])
        return values.mean([dim for dim in values.dims if dim not in ("chain", "draw", "datapoint")])

    groups = ("observed_data", "posterior_predictive")
    reduced = xr.DataTree.from_dict({group: xr.Dataset({"mean value": means(group)}) for group in groups})
    sizes = reduced["posterior_predictive"].sizes
    return az.plot_ppc_dist(reduced, num_samples=min(50, sizes["chain"] * sizes["draw"]))


def _calibration(a: Analysis) -> Figure | None:
    if a.curve is None:
        return None
    figure, (axes,) = _axes(4.4, 4)
    known = a.curve.where(a.curve["count"] > 0, drop=True)
    ends = [float(known["predicted"].min()), float(known["predicted"].max())]
    axes.plot(ends, ends, color="0.6", lw=1, label="calibrated")
    axes.plot(known["predicted"], known["observed"], "o-", color="C0", label="values in ten bins")
    axes.set_xlabel("predicted mean")
    axes.set_ylabel("mean of the data")
    axes.legend(frameon=False)
    return figure


def _latents(a: Analysis) -> Figure:
    kl = a.latents["guide_kl" if "guide_kl" in a.latents else "kl"].values
    figure, (axes,) = _axes(max(4.4, 0.25 * len(kl)), 3)
    axes.bar(np.arange(len(kl)), np.sort(kl)[::-1], color="C0")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("latent variable, by rank")
    axes.set_ylabel("mean KL from the prior (nats)")
    return figure


def _rhat(a: Analysis) -> Figure:
    figure, (left, right) = _axes(8, 3, 2)
    left.hist(a.datapoints["rhat"], bins=40, color="C0")
    left.axvline(1.01, color="0.4", lw=1)
    left.set_xlabel("largest R-hat of a datapoint")
    left.set_ylabel("datapoints")
    right.hist(a.datapoints["ess_bulk"], bins=40, color="C0", label="bulk")
    right.hist(a.datapoints["ess_tail"], bins=40, color="C1", alpha=0.6, label="tail")
    right.set_xlabel("least effective draws of a datapoint")
    right.legend(frameon=False)
    return figure


def _worst_datapoint(a: Analysis) -> xr.DataTree:
    """The datapoint with the largest R-hat, with its worst latent variables."""
    at = int(a.datapoints["rhat"].values.argmax())
    z = flat(a.tree["posterior"])[:, :, at]
    each = np.array([float(az.rhat(z[..., n])) for n in range(z.shape[-1])])
    worst = np.argsort(-each)[:_PANELS]
    latents = {f"latent {n}": (("chain", "draw"), z[..., n]) for n in worst}
    stats = a.tree["sample_stats"].to_dataset().isel(datapoint=at, drop=True)
    return xr.DataTree.from_dict({"posterior": xr.Dataset(latents), "sample_stats": stats})


def _rank(a: Analysis) -> Any:
    return az.plot_rank(_worst_datapoint(a))


def _trace(a: Analysis) -> Any:
    return az.plot_trace_dist(_worst_datapoint(a))


def _energy(a: Analysis) -> Any:
    return az.plot_energy(_worst_datapoint(a))


def _khat(a: Analysis) -> Any:
    if "khat" not in a.datapoints:
        return None
    finite = a.datapoints["khat"].where(np.isfinite(a.datapoints["khat"]), drop=True)
    if not finite.size:
        return None
    return az.plot_khat(SimpleNamespace(pareto_k=finite), visuals={"hlines": {}})


def _gaps(a: Analysis) -> Figure | None:
    if "bound" not in a.datapoints:
        return None
    d = a.datapoints
    parts = {
        "approximation gap": d["log_px"] - d["local_bound"],
        "amortisation gap": d["local_bound"] - d["bound"],
    }
    figure, (axes,) = _axes(5, 3.2)
    every = np.concatenate([part.values for part in parts.values()])
    bins = np.linspace(every.min(), every.max(), 40).tolist()
    for name, part in parts.items():
        axes.hist(part, bins=bins, alpha=0.6, label=f"{name}, mean {float(part.mean()):.2f}")
    axes.set_xlabel("nats")
    axes.set_ylabel("datapoints")
    axes.legend(frameon=False)
    return figure


def _against(a: Analysis) -> Figure | None:
    if "guide_posterior" not in a.tree.children:
        return None
    moments = []
    for group in ("guide_posterior", "posterior"):
        draws = flat(a.tree[group])
        moments.append((draws.mean((0, 1)).ravel(), draws.std((0, 1)).ravel()))
    figure, panels = _axes(8, 3.6, 2)
    names = ("posterior means", "posterior standard deviations")
    for axes, name, q, p in zip(panels, names, *moments, strict=True):
        ends = [min(q.min(), p.min()), max(q.max(), p.max())]
        axes.plot(ends, ends, color="0.6", lw=1)
        axes.plot(p, q, ".", ms=2, alpha=0.4, color="C0")
        axes.set_xlabel(f"{name}, HMC")
        axes.set_ylabel("guide")
    return figure


def _pit(a: Analysis, name: str) -> Any:
    if name not in a.pit:
        return None
    values = a.pit[name]
    worst = _least_uniform(values)
    data = {f"latent {n}": (("chain", "draw"), values[None, :, n]) for n in worst}
    return az.plot_ecdf_pit(xr.DataTree.from_dict({"prior_sbc": xr.Dataset(data)}))


def _least_uniform(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The latent variables whose PIT values are farthest from uniform, by Kolmogorov's distance."""
    ordered = np.sort(values, axis=0)
    steps = np.arange(1, len(values) + 1)[:, None] / len(values)
    return np.argsort(-np.abs(ordered - steps).max(0))[:_PANELS]
