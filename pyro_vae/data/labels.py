"""Labels, whose classes are numbered, and covariates, which become columns of numbers."""

__all__ = ["class_number", "covariate_columns", "numbered"]

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pyro_vae.data.source import Array
from pyro_vae.errors import InputError

# More different values are no classes.
_MOST = 10_000


def numbered(
    parts: Sequence[Array], name: str, where: str, classes: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], list[Array]]:
    """Numbers the classes of a label in their order.

    Arguments:
        parts: The labels of each split.
        name: The label's name, for the message.
        where: What the data are, for the message.
        classes: The names of the classes, where they are known; others have no number then.

    Returns:
        The names of the classes, and for each split the number of each datapoint's class, -1 where it has none.

    Raises:
        InputError: If they are no classes.
    """
    values = np.concatenate([_flat(part, name, where) for part in parts])
    known = ~pd.isna(values)
    if values.dtype.kind == "f":
        if (values[known] % 1 != 0).any():
            raise InputError(
                f"{where} has real numbers for the label {name}, {values[known][values[known] % 1 != 0][0]} for "
                "example, and no classes: make it one of the --covariates"
            )
        values = np.array([int(value) if there else None for value, there in zip(values, known, strict=True)], object)
    elif values.dtype.kind == "O" and not all(isinstance(value, int | np.integer) for value in values[known]):
        values = np.array([str(value) if there else None for value, there in zip(values, known, strict=True)], object)
    codes, found = pd.factorize(values, sort=True)
    if classes is None and (not known.any() or len(found) > _MOST):
        raise InputError(f"{where} has {len(found)} classes for the label {name}: give one with 1 to {_MOST}")
    names = tuple(map(str, found))
    if classes is not None:
        number = {each: n for n, each in enumerate(classes)}
        # The last one is for those that have none, whose code is -1.
        codes = np.array([*(number.get(each, -1) for each in names), -1])[codes]
    cuts = np.cumsum([len(part) for part in parts])[:-1]
    return classes or names, np.split(codes.astype(np.int64), cuts)


def class_number(name: str, classes: Sequence[str]) -> int:
    """Returns the number of a class that is given by its name or, where no class has that name, by its number.

    Raises:
        InputError: If there is no such class.
    """
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    listed = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    raise InputError(
        f"--label {name} is not a class of the data: " + (f"choose from {listed}" if listed else "it has none")
    )


def covariate_columns(
    parts: Sequence[dict[str, Array]], names: Sequence[str], where: str, levels: Mapping[str, tuple[str, ...]]
) -> tuple[list[Array], dict[str, tuple[str, ...]]]:
    """Puts covariates side by side: numbers as they are, classes as one column each, which is 1 for its members.

    Arguments:
        parts: The covariates of each split by name.
        names: Which of them, in this order.
        where: What the data are, for the message.
        levels: The names of the classes of covariates that have any, where they are known.

    Returns:
        float32 arrays with shape `(datapoints, columns)`, and those names.

    Raises:
        InputError: If one is missing for a datapoint.
    """
    columns: list[list[Array]] = [[] for _ in parts]
    named = {}
    for name in names:
        values = [np.asarray(part[name]) for part in parts]
        for part in values:
            if len(missing := np.flatnonzero(pd.isna(part).reshape(len(part), -1).any(1))):
                raise InputError(
                    f"{where} has no value of the covariate {name} in row {missing[0] + 1}: fill it, or leave the "
                    "covariate out"
                )
        if name not in levels and all(part.dtype.kind in "iufb" for part in values):
            numbers = [part.reshape(len(part), -1).astype(np.float32) for part in values]
        else:
            named[name], codes = numbered(values, name, where, levels.get(name))
            # A class that is not known is none of them.
            ones = np.eye(len(named[name]) + 1, len(named[name]), dtype=np.float32)
            numbers = [ones[part] for part in codes]
        for column, part in zip(columns, numbers, strict=True):
            column.append(part)
    return [np.concatenate(column, axis=1) for column in columns], named


def _flat(part: Array, name: str, where: str) -> Array:
    flat = part.reshape(len(part), -1)
    if flat.shape[1] != 1 or part.dtype.kind not in "iufbUSO":
        raise InputError(
            f"{where} has a label {name} of type {part.dtype} and shape {part.shape}: give one number or text for each "
            "datapoint"
        )
    return flat[:, 0]
