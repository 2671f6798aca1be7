r"""The paper's networks, one hidden tanh layer (Appendix C), with its initialisation; and deeper ones."""

__all__ = ["Activation", "hidden_layer", "linear"]

from typing import Literal, get_args

from torch import nn

from pyro_vae.errors import InputError, require_whole

Activation = Literal["tanh", "relu", "elu", "gelu", "silu", "softplus"]
"""The activations of `hidden_layer`, for the constructors that hand one on."""

_MODULES = (nn.Tanh, nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus)
_ACTIVATIONS: dict[str, type[nn.Module]] = dict(zip(get_args(Activation), _MODULES, strict=True))


def linear(inputs: int, outputs: int, std: float = 0.01, bias_std: float = 0.01) -> nn.Linear:
    r"""Creates an affine map, initialised as in the paper (Section 5).

    "random sampling from N(0, 0.01)": in the author's code 0.01 is the standard deviation. The outputs
    of a network start with zero biases there, and the recognition model's log variance at zero, which
    is what the last two arguments are for.

    Arguments:
        inputs: The number of inputs.
        outputs: The number of outputs.
        std: The standard deviation of the weights.
        bias_std: The standard deviation of the biases.

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> from pyro_vae.networks import linear
        >>> linear(2, 6)
        Linear(in_features=2, out_features=6, bias=True)
    """
    if min(inputs, outputs) < 1:
        raise ValueError(f"a layer of {inputs} inputs and {outputs} outputs has no weights: give at least 1 of each")
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0.0, std)
    nn.init.normal_(layer.bias, 0.0, bias_std)
    return layer


def hidden_layer(inputs: int, hidden: int, depth: int = 1, activation: str = "tanh") -> nn.Sequential:
    r"""Creates the hidden layer :math:`h = \tanh(W x + b)`, or several of them, with any leading dimensions.

    The first layer starts as in the paper. Later ones, of which it has none, start with weights from
    :math:`N(0, 1 / \mathrm{hidden})`: at 0.01 they would hand on next to nothing.

    Arguments:
        inputs: The number of inputs.
        hidden: The number of hidden units in each layer.
        depth: The number of layers.
        activation: `tanh`, the paper's, or `relu`, `elu`, `gelu`, `silu` or `softplus`.

    Raises:
        InputError: If there is no layer, or no such activation.

    Example:
        >>> from pyro_vae.networks import hidden_layer
        >>> hidden_layer(2, 8, activation="relu")
        Sequential(
          (0): Linear(in_features=2, out_features=8, bias=True)
          (1): ReLU()
        )
    """
    require_whole("depth", depth)
    if activation not in _ACTIVATIONS:
        raise InputError(f"activation {activation} is unknown: choose from {', '.join(_ACTIVATIONS)}")
    layers: list[nn.Module] = []
    for n in range(depth):
        layers += [
            linear(hidden, hidden, std=hidden**-0.5) if n else linear(inputs, hidden),
            _ACTIVATIONS[activation](),
        ]
    return nn.Sequential(*layers)
