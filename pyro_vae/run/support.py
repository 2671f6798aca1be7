"""Holds the values of a data set against what the likelihood allows, before the long part starts."""

__all__ = ["require_support"]

from torch import nn

from pyro_vae.data.adapt import adapted
from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError
from pyro_vae.run import parts
from pyro_vae.support import first_offence, likelihood


def require_support(model: nn.Module, data: Dataset, spec: str) -> None:
    """Checks that the observed site allows all values of both splits.

    Arguments:
        model: The generative model, called with rows of the data.
        data: The data set.
        spec: What the user calls the model.

    Raises:
        InputError: If a value is not allowed. The message names the site, its support, the first such value, and the
            likelihoods on the shelf that would take the data.
    """
    site = likelihood(model, data.train)
    if data.scaled is not None and site is not None and site.support.is_discrete:
        raise InputError(
            f"--scale does not apply to --model {spec}, whose site 'x' is one of whole numbers or levels: leave it out"
        )
    for split in ("train", "test"):
        found = first_offence(model, getattr(data, split))
        if found is None:
            continue
        what = "others"
        if found.column is not None:
            what = f"{found.value:g} in column {data.names[found.column] if data.names else found.column + 1}"
        takers = [name for name in parts.names("model") if name != spec and _takes(name, data)]
        row = found.row if data.rows is None else int(data.rows[split == "test"][found.row])
        mend = f"--model {', '.join(takers)} would take these data" if takers else "no model on the shelf takes them"
        raise InputError(
            f"site 'x' of --model {spec} allows {found.support}, and {data.name} has {what}, row {row + 1} ({split} "
            f"split): {mend}"
        )


def _takes(name: str, data: Dataset) -> bool:
    """Whether a likelihood of the shelf allows the data, as far as some of them tell."""
    part = parts.find("model", name)
    offered = {key: value for key, value in data.offers.items() if parts.takes(part, key)}
    try:
        model, _, rows = adapted(part(data.features, 1, hidden=1, **offered).to(data.train.device), None, data)
    except InputError:  # it asks for labels, and the data have none
        return False
    return all(first_offence(model, split.some(1_000)) is None for split in (rows.train, rows.test))
