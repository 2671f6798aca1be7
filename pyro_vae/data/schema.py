"""What a run keeps of its data, so that what needs none of them goes on without them."""

__all__ = ["described", "without_data"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError
from pyro_vae.split import Split


@dataclass(frozen=True)
class Absent(Split):
    """A split whose file is not there: it has no datapoints, and says so where one is asked for.

    Arguments:
        reason: Why it is not there.
        count: How many datapoints it had.
    """

    reason: str = ""
    count: int = 0

    @property
    def total(self) -> int:
        """The number of datapoints that it had."""
        return self.count

    def read(self, values: Tensor) -> Tensor:
        """Refuses, as there is nothing to read."""
        raise InputError(self.reason)

    def minibatch(self, size: int, values: Tensor | None = None) -> Tensor:
        """Refuses, as there is nothing to draw."""
        return self.read(self.values)


def described(data: Dataset) -> dict[str, Any]:
    """Returns what a run keeps of its data as a table for a TOML file, which has no word for what is not there."""
    train = data.train
    table: dict[str, Any] = {
        "checksum": data.checksum,
        "train": train.total,
        "test": data.test.total,
        "features": data.features,
        "image_shape": list(data.image_shape or ()),
        "binarize": data.binarize,
        "divisor": train.divisor,
        "missing": data.missing,
        "classes": list(data.classes),
        "labels": train.labels is not None,
        "covariates": 0 if train.covariates is None else train.covariates.shape[1],
        "names": list(data.names or ()),
        "kinds": list(data.kinds or ()),
        "levels": {name: list(levels) for name, levels in data.levels.items()},
        "reading": {name: value for name, value in data.reading.items() if value is not None},
    }
    if data.scaled is not None:
        table |= {"loc": _short(data.scaled[0]), "scale": _short(data.scaled[1])}
    if data.fill is not None:
        table["fill"] = _short(data.fill)
    if data.span is not None:
        table["span"] = [_short(end) for end in data.span]
    return table


def without_data(name: str, table: Mapping[str, Any], reason: str, device: torch.device | str = "cpu") -> Dataset:
    """Makes a data set without datapoints of what a run has kept.

    Arguments:
        name: The name or path of the data.
        table: What `described` returned.
        reason: Why the data are not there, which is said where a datapoint is asked for.
        device: The device of the run.

    Raises:
        InputError: If the table is not what `described` returns.
    """
    try:
        features, covariates = int(table["features"]), int(table["covariates"])
        values = torch.empty(0, features)
        train, test = (
            Absent(
                values,
                int(table["divisor"]),
                table["binarize"] == "dynamic",
                labels=torch.empty(0, dtype=torch.int64) if table["labels"] else None,
                covariates=torch.empty(0, covariates) if covariates else None,
                reason=reason,
                count=int(table[split]),
            ).to(device)
            for split in ("train", "test")
        )
        scaled = span = None
        if "loc" in table:
            scaled = _long(table["loc"], features, device), _long(table["scale"], features, device)
        if "span" in table:
            span = _long(table["span"][0], features, device), _long(table["span"][1], features, device)
        return Dataset(
            name,
            train,
            test,
            tuple(map(int, table["image_shape"])) or None,
            str(table["checksum"]),
            str(table["binarize"]),
            tuple(map(str, table["names"])) or None,
            tuple(map(str, table["kinds"])) or None,
            tuple(map(str, table["classes"])),
            scaled,
            bool(table["missing"]),
            levels={str(key): tuple(map(str, levels)) for key, levels in dict(table["levels"]).items()},
            reading={**dict.fromkeys(_READING), **dict(table["reading"])},
            fill=_long(table["fill"], features, device) if "fill" in table else None,
            span=span,
        )
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise InputError(f"run.toml does not say what its data are, and {reason}") from error


_READING = ("columns", "drop", "label", "covariates", "categories", "channels", "resize", "divisor")


def _short(values: Tensor) -> list[float]:
    """Values of all cells, one where they are all the same."""
    numbers = values.cpu().numpy().astype(np.float64)
    return numbers[:1].tolist() if (numbers == numbers[0]).all() else numbers.tolist()


def _long(values: Any, features: int, device: torch.device | str) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).expand(features).clone()
