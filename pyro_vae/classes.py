"""Classes as inputs of networks, and as variables that are known of some datapoints."""

__all__ = ["CERTAIN", "beside", "known", "ones", "require_classes"]

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pyro_vae.errors import InputError

CERTAIN = 1e4
"""The logit of a class that is known: float32 leaves the others no probability, and 0 times their log is 0."""


def require_classes(what: str, classes: int) -> None:
    """Refuses data without labels.

    Arguments:
        what: The part that needs them.
        classes: The number of classes.

    Raises:
        InputError: If there are none.
    """
    if classes < 1:
        raise InputError(f"{what} needs labels, and the data have none: name their column or array by --label")


def ones(label: Tensor, classes: int) -> Tensor:
    """Returns classes as numbers for a network, 1 for the class and 0 for the others; all 0 where none is known.

    Arguments:
        label: The number of each class, -1 where it is not known, of any shape.
        classes: The number of classes.

    Returns:
        float32, with shape `(..., classes)`.
    """
    return (label.unsqueeze(-1) == torch.arange(classes, device=label.device)).float()


def beside(network: nn.Sequential, x: Tensor, classes: Tensor) -> Tensor:
    """Calls a network with numbers and classes side by side.

    Its first layer sees each row of numbers once, however many classes they are combined with: Pyro enumerates classes
    along a dimension on the left.

    Arguments:
        network: A network whose first layer is affine, as `hidden_layer` makes it.
        x: The numbers, with shape `(..., features)`.
        classes: What `ones` returns, with shape `(..., classes)`.

    Returns:
        What the network makes of both, with their leading dimensions broadcast.
    """
    layers: list[Any] = [layer for layer in network.modules() if not isinstance(layer, nn.Sequential)]
    first, *rest = layers
    of_x, of_classes = first.weight.split([x.shape[-1], classes.shape[-1]], 1)
    outputs: Tensor = nn.Sequential(*rest)(linear(x, of_x, first.bias) + linear(classes, of_classes))
    return outputs


def known(label: Tensor, logits: Tensor) -> Tensor:
    """Returns the logits of classes, where a label is known those of its class alone.

    Arguments:
        label: The number of the class of each datapoint, -1 where it is not known, with shape `(datapoints,)`.
        logits: The logits of the classes where it is not known, with shape `(classes,)` or `(datapoints, classes)`.

    Returns:
        Logits, with shape `(datapoints, classes)`.
    """
    return (CERTAIN * ones(label, logits.shape[-1])).where(label.unsqueeze(-1) >= 0, logits)
