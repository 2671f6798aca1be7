"""Where the data lie in the latent space: the posterior means of datapoints, coloured by their class."""

__all__ = ["means", "show_latent", "symbol"]

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from sklearn.decomposition import PCA

from pyro_vae.analysis.encode import encode
from pyro_vae.generate import latent_names
from pyro_vae.run.run import Run
from pyro_vae.split import Split

# Ten colours that are told apart by most readers, the colour-blind among them (Petroff, 2021).
_COLOURS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
_PLAIN = "#1f5fa8"


def means(run: Run, split: Split) -> tuple[pd.DataFrame, pd.Series | None]:
    """Tells where datapoints lie in the latent space.

    Arguments:
        run: The run.
        split: The datapoints.

    Returns:
        The means of q(z | x), a column for each latent variable in the order of the model's sites, and the labels of
        the datapoints, if they have any.
    """
    table = encode(run.model, run.guide, split, classes=run.dataset.classes, particles=2, seed=run.settings.seed)
    latents = [name for name in table if f"{name}_sd" in table]
    ordered = [name for site in latent_names(run.model) for name in latents if name.rpartition("_")[0] == site]
    return table[ordered], table.get("label")


def symbol(name: str) -> str:
    """Returns the name of a latent variable as an axis has it: `z_1` with its number below."""
    site, _, number = name.rpartition("_")
    return f"${site}_{{{number}}}$" if site.isalpha() and site.isascii() and number.isdigit() else name


def show_latent(axes: Axes, run: Run, split: Split) -> str:
    """Shows the means of q(z | x); of more than two latent variables their first two principal components.

    Arguments:
        axes: Where to show them.
        run: The run.
        split: The datapoints.

    Returns:
        What is shown, in words.
    """
    table, labels = means(run, split)
    z, names, shown = table.to_numpy(np.float64), list(table), "means of q(z|x)"
    if z.shape[1] > 2:
        found = PCA(2).fit(z)
        z, shown = found.transform(z), f"principal components of the {z.shape[1]} means of q(z|x)"
        names = [
            f"component {n + 1} ({share:.0%} of the variance)"
            for n, share in enumerate(found.explained_variance_ratio_)
        ]
    _coloured(axes, z, labels)
    axes.set_xlabel(symbol(names[0]))
    axes.set_ylabel(symbol(names[1]) if len(names) > 1 else "datapoints")
    if len(names) > 1:
        axes.set_aspect("equal", adjustable="datalim")
    return shown + ("" if labels is None else ", coloured by label")


def _coloured(axes: Axes, z: np.ndarray, labels: pd.Series | None) -> None:
    classes = [] if labels is None else sorted(labels.dropna().unique(), key=lambda each: (len(str(each)), str(each)))
    known = [(z[(labels == each).to_numpy()], str(each)) for each in classes] if labels is not None else []
    rest = z if labels is None else z[labels.isna().to_numpy()]
    groups = [*([(rest, "")] if len(rest) else []), *known]
    few = len(classes) <= len(_COLOURS)
    colours = ["0.75" if known else _PLAIN] * (len(groups) - len(known)) + (
        list(_COLOURS[: len(known)]) if few else [f"C{n % 10}" for n in range(len(known))]
    )
    if z.shape[1] == 1:
        axes.hist(
            [points[:, 0] for points, _ in groups], bins=40, stacked=True, color=colours, label=[n for _, n in groups]
        )
        if known:
            axes.legend(frameon=False)
        return
    size = float(np.clip(8000 / max(len(z), 1), 2, 20))
    for (points, _), colour in zip(groups, colours, strict=True):
        axes.scatter(points[:, 0], points[:, 1], s=size, color=colour, alpha=0.8, lw=0)
    for points, name in known if few else []:
        # Beside the colour, which alone not every reader tells.
        middle = points[np.square(points - np.median(points, axis=0)).sum(1).argmin()]
        outline = [withStroke(linewidth=3, foreground="white")]
        axes.annotate(name, middle, ha="center", va="center", weight="bold", size=13, path_effects=outline)
