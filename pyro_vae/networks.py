r"""The paper's networks: one hidden tanh layer (Appendix C) and its initialisation."""

__all__ = ["hidden_layer", "linear"]

from torch import nn


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
    """
    if min(inputs, outputs) < 1:
        raise ValueError(f"a layer of {inputs} inputs and {outputs} outputs has no weights: give at least 1 of each")
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0.0, std)
    nn.init.normal_(layer.bias, 0.0, bias_std)
    return layer


def hidden_layer(inputs: int, hidden: int) -> nn.Sequential:
    r"""Creates the hidden layer :math:`h = \tanh(W x + b)`, with any leading dimensions.

    Arguments:
        inputs: The number of inputs.
        hidden: The number of hidden units.
    """
    return nn.Sequential(linear(inputs, hidden), nn.Tanh())
