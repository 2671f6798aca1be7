"""Makes a model and its guide fit the rows of a data set, where these are more than cells that are all there."""

__all__ = ["adapted"]

from dataclasses import replace

from torch import nn

from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError
from pyro_vae.rows import GuideOfRows, Layout, ModelOfRows, asks_for, required

# Labels and covariates of so many training datapoints are kept for generated ones.
_EXAMPLES = 10_000


def adapted(model: nn.Module, guide: nn.Module | None, data: Dataset) -> tuple[nn.Module, nn.Module | None, Dataset]:
    """Gives model and guide what they ask for by name, masks missing cells, and scales what networks see.

    Arguments:
        model: The generative model, called with cells.
        guide: The recognition model; None where there is none.
        data: The data set.

    Returns:
        The two, called with rows of the data set that is returned with them; all three as they were where nothing is to
        be done. Their state has the same names.

    Raises:
        InputError: If a part cannot do without a label or covariates, and the data have none.
    """
    parts = [part for part in (model, guide) if part is not None]
    label, covariates, observed = (
        any(asks_for(part, name) for part in parts) for name in ("label", "covariates", "observed")
    )
    label = label and data.train.labels is not None
    covariates = covariates and data.train.covariates is not None
    for part in parts:
        for name, there in (("label", label), ("covariates", covariates)):
            if asks_for(part, name) and not there and required(part, name):
                raise InputError(
                    f"{type(part).__name__} needs {name}, and {data.name} has none: name it by --{name}, or give the "
                    "argument a default"
                )
    if not (label or covariates or observed or data.missing or data.scaled):
        return model, guide, data
    train, test = (split.with_columns(label, covariates) for split in (data.train, data.test))
    loc, scale = data.scaled or (None, None)
    layout = Layout(
        data.features,
        label,
        train.beside - int(label),
        data.missing,
        data.fill,
        loc,
        scale,
        train.some(_EXAMPLES).first()[:, data.features :] if train.beside and len(train) else None,
    )
    rows = ModelOfRows(model, layout).to(train.device)
    return (
        rows.train(model.training),
        None if guide is None else GuideOfRows(guide, layout).to(train.device).train(guide.training),
        replace(data, train=train, test=test),
    )
