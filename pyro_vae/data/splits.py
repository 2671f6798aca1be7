"""Which datapoints train and which test. A split belongs to the data: it does not change with the seed of a run."""

__all__ = ["divided", "rows_of_splits"]

import numpy as np

from pyro_vae.data.source import Array, Source
from pyro_vae.errors import InputError

_SEED = 0


def divided(
    size: int,
    where: str,
    *,
    share: float = 0.2,
    groups: Array | None = None,
    classes: Array | None = None,
    column: Array | None = None,
) -> tuple[Array, Array]:
    """Divides datapoints at random, or as a column says.

    Arguments:
        size: The number of datapoints.
        where: What they are, for the message.
        share: The share of the test split.
        groups: A group of each datapoint; all datapoints of a group are in one split.
        classes: A class of each datapoint, which has that share of the test split too.
        column: `train` or `test` for each datapoint.

    Returns:
        The numbers of the training and of the test datapoints.

    Raises:
        InputError: If one of the splits is empty, or the column says something else.
    """
    order = np.random.default_rng(_SEED).permutation(size)
    if column is not None:
        said = np.array([str(value).strip().lower() for value in column])
        if len(other := np.flatnonzero((said != "train") & (said != "test"))):
            raise InputError(
                f"{where} has {column[other[0]]!r} in row {other[0] + 1} of its split column: give train or test"
            )
        train, test = np.flatnonzero(said == "train"), np.flatnonzero(said == "test")
    elif groups is not None:
        number = np.unique(_text(groups), return_inverse=True)[1]
        # Groups in the order of their first member in a random order, until the training split is full.
        _, first = np.unique(number[order], return_index=True)
        sizes = np.bincount(number)
        ranked = np.argsort(first)
        full = np.cumsum(sizes[ranked]) <= max(round((1 - share) * size), sizes[ranked[0]])
        training = np.isin(number[order], ranked[full])
        train, test = order[training], order[~training]
    elif classes is not None:
        number = np.unique(_text(classes), return_inverse=True)[1][order]
        training = np.zeros(size, dtype=bool)
        for each in np.unique(number):
            members = np.flatnonzero(number == each)
            training[members[: round((1 - share) * len(members))]] = True
        train, test = order[training], order[~training]
    else:
        cut = round((1 - share) * size)
        train, test = order[:cut], order[cut:]
    if not len(train) or not len(test):
        raise InputError(
            f"{where} has {size} datapoints, {len(train)} to train and {len(test)} to test: give enough for two splits"
        )
    return train, test


def rows_of_splits(
    source: Source,
    where: str,
    label: str | None,
    group: str | None,
    column: str | None,
    share: float,
    stratify: bool,
) -> list[Array]:
    """Returns which datapoints are in the two splits: the source's own, or as they are asked for; see `load_data`.

    Raises:
        InputError: If what is asked for cannot be, or does not go together.
    """
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise InputError(f"--test-share {share} is not possible: give a share between 0 and 1")
    asked = [
        flag
        for flag, given in (
            ("--group", group),
            ("--split-column", column),
            ("--stratify", stratify),
            ("--test-share", share != 0.2),
        )
        if given
    ]
    if source.test is not None:
        if asked:
            raise InputError(f"{asked[0]} does not apply to {where}, which has a test split of its own: leave it out")
        return [np.arange(len(part.values)) for part in (source.train, source.test)]
    if len(asked) > 1 and asked != ["--stratify", "--test-share"] and asked != ["--group", "--test-share"]:
        raise InputError(f"{' and '.join(asked)} do not go together: give one way to divide the data")
    if stratify and label is None:
        raise InputError(f"--stratify needs a label, and {where} has none: name it by --label")
    if source.in_order:
        cut = round((1 - share) * len(source.train.values))
        return [np.arange(cut), np.arange(cut, len(source.train.values))]
    beside = source.train.beside
    return [
        *divided(
            len(source.train.values),
            where,
            share=share,
            groups=beside[group] if group else None,
            classes=beside[label] if stratify and label else None,
            column=beside[column] if column else None,
        )
    ]


def _text(values: Array) -> Array:
    return np.array([str(value) for value in values])
