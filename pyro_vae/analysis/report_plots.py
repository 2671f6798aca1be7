"""The plots of an analysis, by ArviZ where it has them, as PNG of one size in memory."""

__all__ = ["Plot", "draw_all", "image_rows"]

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, NamedTuple

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import kstwo

from pyro_vae.analysis.analyze import Analysis
from pyro_vae.analysis.curves import show_curve
from pyro_vae.analysis.diagnostics import flat
from pyro_vae.analysis.figures import without_glyphs
from pyro_vae.analysis.summary import LEVEL

# Every plot has this size in inches: on the page, they stand in one grid.
_SIZE = (4.8, 3.6)

# Latent variables in a plot with a panel for each, and datapoints in a row of images.
_PANELS = 3
_IMAGES = 10


class Plot(NamedTuple):
    """A plot with its words.

    Arguments:
        title: What is shown.
        caption: How to read it.
        png: The picture.
    """

    title: str
    caption: str
    png: bytes


def draw_all(analysis: Analysis, metrics: pd.DataFrame) -> dict[str, list[Plot]]:
    """Draws every plot that there are numbers for.

    Arguments:
        analysis: The analysis.
        metrics: The metrics of the run.

    Returns:
        The plots by the section of the report that they belong to: `run`, `fit`, `sampler` or `guide`.
    """
    with az.rc_context({"plot.backend": "matplotlib"}):
        return {
            "run": list(_curve(metrics)),
            "fit": [*_predictive(analysis), *_calibration(analysis), *_coverage(analysis), *_latents(analysis)],
            "sampler": [*_chains(analysis), *_pit(analysis, "hmc"), *_pit(analysis, "at_data")],
            "guide": [
                *_khat(analysis),
                *_scale(analysis),
                *_against(analysis),
                *_gaps(analysis),
                *_pit(analysis, "guide"),
            ],
        }


def image_rows(analysis: Analysis, ink: bool = False) -> dict[str, bytes]:
    """Draws data beside their predictions, a strip of images each; none where the data are no images.

    Arguments:
        analysis: The analysis.
        ink: Whether larger values are darker.
    """
    tree = analysis.tree
    groups = ("observed_data", "posterior_predictive_mean", "posterior_predictive", "prior_predictive")
    found = {group: tree[group].dataset["x"] for group in groups if group in tree.children and "x" in tree[group]}
    if "row" not in found.get("observed_data", xr.DataArray()).dims:
        return {}
    rows = {
        "data": found["observed_data"],
        "posterior mean": found.get("posterior_predictive_mean"),
        "posterior draw": found["posterior_predictive"].isel(chain=0, draw=-1),
        "prior draw": found["prior_predictive"].isel(chain=0, draw=0),
    }
    low, high = np.quantile(found["observed_data"].fillna(0.0), [0.005, 0.995])
    black, white = (max(1.0, high), min(0.0, low)) if ink else (min(0.0, low), max(1.0, high))
    return {
        name: _strip((images.values[:_IMAGES] - black) / (white - black))
        for name, images in rows.items()
        if images is not None
    }


def _strip(images: NDArray[Any]) -> bytes:
    """Images side by side, with two transparent pixels between them; missing ones are transparent as well."""
    colours = images.ndim == 4 and images.shape[-1] > 1
    pixels = images[..., :3] if colours else np.repeat(images.reshape(*images.shape[:3], 1), 3, axis=-1)
    there = ~np.isnan(pixels).any(-1, keepdims=True)
    opaque = np.concatenate([np.clip(np.nan_to_num(pixels), 0, 1), there], axis=-1)
    framed = np.pad(opaque, ((0, 0), (0, 0), (1, 1), (0, 0)))
    buffer = BytesIO()
    pyplot.imsave(buffer, np.concatenate(list(framed), axis=1), format="png")
    return buffer.getvalue()


def _png(found: Any) -> bytes:
    figure = found if isinstance(found, Figure) else found.viz["figure"].item()
    figure.set_size_inches(*_SIZE)
    figure.set_layout_engine("constrained")
    buffer = BytesIO()
    with without_glyphs():
        figure.savefig(buffer, format="png", dpi=150)
    pyplot.close(figure)  # ArviZ's figures are pyplot's
    return buffer.getvalue()


def _axes(columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=_SIZE)
    return figure, list(figure.subplots(1, columns, squeeze=False, sharey=True)[0])


def _curve(metrics: pd.DataFrame) -> Iterator[Plot]:
    if not len(metrics):
        return
    figure, (axes,) = _axes()
    show_curve(axes, metrics)
    axes.legend(frameon=False)
    yield Plot(
        "Learning curve",
        "The lower bound while the run was trained; higher is better. Where its end is flat, that is shown larger.",
        _png(figure),
    )


def _predictive(a: Analysis) -> Iterator[Plot]:
    """The mean value of each datapoint: one number, of which there is a distribution over datapoints."""
    several = len(a.tree["observed_data"].data_vars) > 1
    for site in a.tree["observed_data"].data_vars:

        def means(group: str, site: Any = site) -> Any:
            values = a.tree[group][site]
            return values.mean([dim for dim in values.dims if dim not in ("chain", "draw", "datapoint")])

        groups = ("observed_data", "posterior_predictive")
        name = f"mean value of {site}"
        reduced = xr.DataTree.from_dict({group: xr.Dataset({name: means(group)}) for group in groups})
        sizes = reduced["posterior_predictive"].sizes
        found = az.plot_ppc_dist(reduced, num_samples=min(50, sizes["chain"] * sizes["draw"]))
        yield Plot(
            "Posterior predictive" + (f" of '{site}'" if several else ""),
            "The mean value of a datapoint, in units of the data: its distribution over the data (black) and "
            "over replications that the model predicts. A good model's replications cover the data.",
            _png(found),
        )


def _calibration(a: Analysis) -> Iterator[Plot]:
    for site, curve in a.curves.items():
        filled = curve.where(curve["count"] > 0, drop=True)
        ends = [float(filled["predicted"].min()), float(filled["predicted"].max())]
        figure, (axes,) = _axes()
        axes.plot(ends, ends, color="0.6", lw=1, label="calibrated")
        error = 2 * filled["sd"] / np.sqrt(filled["count"])
        axes.fill_between(
            filled["predicted"], filled["observed"] - error, filled["observed"] + error, color="C0", alpha=0.2, lw=0
        )
        axes.plot(filled["predicted"], filled["observed"], "o-", color="C0", label="values in ten bins")
        axes.set_xlabel(f"predicted mean of {site} (units of the data)")
        axes.set_ylabel("mean of the data (same units)")
        axes.legend(frameon=False)
        yield Plot(
            "Calibration of means" + (f" of '{site}'" if len(a.curves) > 1 else ""),
            "Values whose predicted mean is 0.3 should be 0.3 on average. The band is two standard errors, as if all "
            "values were independent. The latent variables have seen these values: this judges the decoder, not how "
            "well it predicts unseen ones.",
            _png(figure),
        )


def _coverage(a: Analysis) -> Iterator[Plot]:
    for site, covered in a.coverage.items():
        figure, (axes,) = _axes()
        levels = covered["level"]
        axes.plot([0, 1], [0, 1], color="0.6", lw=1, label="right")
        for group, colour in (("prior_predictive", "C0"), ("posterior_predictive", "C1")):
            low, middle, high = covered[group].quantile([0.05, 0.5, 0.95], "feature")
            axes.fill_between(levels, low, high, color=colour, alpha=0.2, lw=0)
            axes.plot(levels, middle, "o-", ms=4, color=colour, label=group.replace("_", " "))
        axes.set_xlabel("share that an interval is to hold (no unit)")
        axes.set_ylabel("share of the data inside")
        axes.legend(frameon=False)
        yield Plot(
            "Coverage of intervals" + (f" of '{site}'" if len(a.coverage) > 1 else ""),
            "The median cell, and nine tenths of the cells. The latent variables behind posterior intervals have seen "
            "the data, so that these hold more.",
            _png(figure),
        )


def _latents(a: Analysis) -> Iterator[Plot]:
    kl = a.latents["guide_kl" if "guide_kl" in a.latents else "kl"].values
    figure, (axes,) = _axes()
    axes.bar(np.arange(1, len(kl) + 1), np.sort(kl)[::-1], color="C0")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("latent variable, by rank")
    axes.set_ylabel("mean KL from the prior (nats)")
    yield Plot("Use of the latent variables", "How much each of them says of the data.", _png(figure))


def _chains(a: Analysis) -> Iterator[Plot]:
    rhat = a.datapoints["rhat"].dropna("datapoint")
    if rhat.size:
        figure, (axes,) = _axes()
        axes.hist(rhat, bins=40, color="C0")
        axes.axvline(1.01, color="0.4", lw=1, ls="--")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("largest R-hat of a datapoint (no unit)")
        axes.set_ylabel("datapoints")
        yield Plot("R-hat", "By datapoint, of its worst latent variable; 1.01 is marked.", _png(figure))
        figure, (axes,) = _axes()
        kinds = {name: a.datapoints[f"ess_{name}"].dropna("datapoint").values for name in ("bulk", "tail")}
        bins = np.histogram_bin_edges(np.concatenate(list(kinds.values())), 40).tolist()
        for (name, draws), colour in zip(kinds.items(), ("C0", "C1"), strict=True):
            axes.hist(draws, bins=bins, color=colour, alpha=0.6, label=name)
        axes.set_xlabel("least effective draws of a datapoint")
        axes.set_ylabel("datapoints")
        axes.legend(frameon=False)
        yield Plot("Effective draws", "By datapoint, of its worst latent variable.", _png(figure))
    if (worst := _worst_datapoint(a)) is None:
        return
    tree, at = worst
    ranks = az.plot_rank(tree)
    for text in [text for axes in ranks.viz["figure"].item().axes for text in axes.texts]:
        text.set(zorder=10, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})  # over the curves
    yield Plot(
        "Ranks",
        f"Datapoint {at}, which has the largest R-hat: the ranks of each chain among all draws, less what is expected; "
        "p is that of the test that they are uniform, as if the draws were independent.",
        _png(ranks),
    )
    yield Plot("Trace", "The same datapoint: marginal distributions and chains.", _png(az.plot_trace_dist(tree)))
    energy = az.plot_energy(tree)
    for axes in energy.viz["figure"].item().axes:
        if axes.get_ylabel() == "Chain":
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    yield Plot(
        "Energy",
        "The same datapoint: energies (nats) and their changes from one draw to the next should be spread alike.",
        _png(energy),
    )


def _worst_datapoint(a: Analysis) -> tuple[xr.DataTree, int] | None:
    """The datapoint with the largest R-hat, with its worst latent variables, and its number."""
    rhat = a.datapoints["rhat"].values
    if np.isnan(rhat).all():
        return None
    at = int(np.nanargmax(rhat))
    z = flat(a.tree["posterior"])[:, :, at]
    each = np.array([float(az.rhat(z[..., n])) for n in range(z.shape[-1])])
    worst = np.argsort(-each)[:2]
    coords = {name: np.arange(size) for name, size in zip(("chain", "draw"), z.shape, strict=False)}
    latents = xr.Dataset({f"latent {n}": (("chain", "draw"), z[..., n]) for n in worst}, coords)
    stats = a.tree["sample_stats"].to_dataset().isel(datapoint=at, drop=True)
    return xr.DataTree.from_dict({"posterior": latents, "sample_stats": stats}), at


def _khat(a: Analysis) -> Iterator[Plot]:
    if "khat" not in a.datapoints:
        return
    finite = a.datapoints["khat"].where(np.isfinite(a.datapoints["khat"]), drop=True)
    if not finite.size:
        return
    figure, (axes,) = _axes()
    axes.plot(finite["datapoint"], finite, ".", ms=4, color="C0")
    axes.axhline(0.7, color="0.4", lw=1, ls="--")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("datapoint (number)")
    axes.set_ylabel("Pareto k-hat (no unit)")
    yield Plot(
        "Pareto k-hat",
        "Of the guide's importance weights, by datapoint; 0.7, the limit of what can be trusted, is marked.",
        _png(figure),
    )


def _scale(a: Analysis) -> Iterator[Plot]:
    if "scale" not in a.datapoints or not (ratios := a.datapoints["scale"].dropna("datapoint")).size:
        return
    figure, (axes,) = _axes()
    axes.hist(ratios, bins=40, color="C0")
    axes.axvline(1, color="0.4", lw=1, ls="--")
    axes.set_xlabel("s.d. of the guide / s.d. of the posterior (no unit)")
    axes.set_ylabel("datapoints")
    yield Plot("Width of the guide", "By datapoint; below 1 its intervals are too narrow.", _png(figure))


def _against(a: Analysis) -> Iterator[Plot]:
    if "guide_posterior" not in a.tree.children:
        return
    q, p = flat(a.tree["guide_posterior"]), flat(a.tree["posterior"])
    moments: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "means": lambda draws: draws.mean((0, 1)).ravel(),
        "standard deviations": lambda draws: draws.std((0, 1)).ravel(),
    }
    for name, moment in moments.items():
        guide, hmc = moment(q), moment(p)
        ends = [min(guide.min(), hmc.min()), max(guide.max(), hmc.max())]
        figure, (axes,) = _axes()
        axes.plot(ends, ends, color="0.6", lw=1)
        axes.plot(hmc, guide, ".", ms=2, alpha=0.4, color="C0")
        axes.set_xlabel(f"posterior {name}, HMC (units of z)")
        axes.set_ylabel(f"{name} of the guide (units of z)")
        yield Plot(f"Guide against HMC: {name}", "Each point is one latent variable of one datapoint.", _png(figure))


def _gaps(a: Analysis) -> Iterator[Plot]:
    d = a.datapoints
    if "bound" not in d or "log_px" not in d:
        return
    parts = {
        "approximation gap": d["log_px"] - d["local_bound"],
        "amortisation gap": d["local_bound"] - d["bound"],
    }
    parts = {name: part.where(np.isfinite(part), drop=True) for name, part in parts.items()}
    every = np.concatenate([part.values for part in parts.values()])
    if not every.size:
        return
    figure, (axes,) = _axes()
    bins = np.linspace(every.min(), every.max(), 40).tolist()
    for (name, part), kind in zip(parts.items(), ("stepfilled", "step"), strict=True):
        label = f"{name}, mean {float(part.mean()):.2f}"
        axes.hist(part, bins=bins, label=label, histtype=kind, lw=2, alpha=0.7)  # type: ignore[arg-type]
    axes.margins(y=0.3)  # room for the legend
    axes.set_xlabel("nats")
    axes.set_ylabel("datapoints")
    axes.legend(frameon=False)
    yield Plot(
        "Gaps",
        "What separates the bound from log p(x), by datapoint. Negative values are Monte Carlo error, or a Gaussian "
        "that was fitted less well than the guide's.",
        _png(figure),
    )


def _pit(a: Analysis, name: str) -> Iterator[Plot]:
    """The distribution of PIT values less the uniform one, with the band that Kolmogorov's test does not leave."""
    if name not in a.pit:
        return
    values = np.sort(a.pit[name], axis=0)
    count, latents = values.shape
    steps = np.arange(1, count + 1)[:, None] / count
    worst = np.argsort(-np.abs(values - steps).max(0))[:_PANELS]
    band = float(kstwo.ppf(1 - LEVEL / latents, count))
    figure, (axes,) = _axes()
    axes.axhspan(-band, band, color="0.85", lw=0)
    for n, style in zip(worst, ("-", "--", ":"), strict=False):
        x = np.concatenate([[0], values[:, n], [1]])
        y = np.concatenate([[0], steps[:, 0], [1]]) - x
        axes.step(x, y, style, where="post", label=f"latent {n}")
    axes.set_xlim(0, 1)
    axes.set_xlabel("PIT: share of draws below the true value (no unit)")
    axes.set_ylabel("distribution less the uniform one")
    axes.legend(frameon=False)
    title, caption = {
        "hmc": ("HMC on simulated data", ""),
        "at_data": (
            "HMC at the data",
            " Here they were drawn given the data, and found again with new data beside these.",
        ),
        "guide": ("The guide on simulated data", " A slope through the middle is a wrong width, an arch a bias."),
    }[name]
    yield Plot(
        title,
        "Where the true latent variables lie among the draws, for the least uniform ones. A curve that leaves the band "
        f"is rejected, all latent variables together at {LEVEL:.0%}.{caption}",
        _png(figure),
    )
