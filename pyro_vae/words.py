"""What is said of a user's part that cannot be run: its name with its file, what went wrong, and the usual mends."""

__all__ = ["AUTO", "IN_PLATE", "explained", "has_pyro_samples", "listed", "name_of", "require_modules", "running"]

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from pyro_vae.errors import InputError, reason
from pyro_vae.wrapped import Wrapped

IN_PLATE = "must be sampled inside pyro.plate('data', n, dim=-1), with its other dimensions made events by .to_event(1)"
# What torch, Python and Pyro say of mistakes that are often made, and what mends them.
_MENDS = {
    "within the support (Boolean()) of the distribution Bernoulli": (
        "grey values are no 0 and 1: give --binarize threshold, or score them as the paper does, by "
        "dist.Bernoulli(logits=..., validate_args=False)"
    ),
    "object is not callable": (
        "take distributions from pyro.distributions, torch's own cannot be sampled by Pyro, and zuko's are wrapped by "
        "pyro.contrib.zuko.ZukoToPyro"
    ),
    "the same dtype": (
        "data are torch.float32: leave torch.set_default_dtype at that, or convert x, x.double(), in model and guide"
    ),
    "unexpected keyword argument 'size'": "a model is called as model(x), and as model(None, size=n) for n datapoints",
}
AUTO = "an autoguide has parameters for each row: write one that computes them from x"
_SHAPE = re.compile(r"Shape mismatch inside plate\('[^']*'\) at site (\S+) dim")


def require_modules(model: object, guide: object) -> None:
    """Refuses what is no module: functions and methods hold no parameters that could be found.

    Raises:
        InputError: If one of the two is neither a module nor None.
    """
    for kind, part in (("model", model), ("guide", guide)):
        if part is not None and not isinstance(part, nn.Module):
            name = getattr(part, "__qualname__", type(part).__name__)
            raise InputError(
                f"{kind} {name} is no torch.nn.Module: give one, or train by pyro_vae.train(model=..., guide=...), "
                "which takes functions and methods, and go on with the run's model and guide"
            )


@contextmanager
def running(part: nn.Module, x: Tensor) -> Iterator[None]:
    """Runs a part on data: whatever it raises is told in one line that names it, the site and the mend."""
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a user's part may fail in any way
        # Pyro names the site whose shape the plate does not bear.
        outside = _SHAPE.search(str(error))
        if outside:
            raise InputError(f"site '{outside[1]}' of {name_of(part)} {IN_PLATE}: {explained(error)}") from error
        mend = ". Its PyroSample weights are random: make them nn.Parameters, and train by --inference full_vb"
        raise InputError(
            f"{name_of(part)} cannot be run on data of shape {tuple(x.shape)}: {explained(error)}"
            f"{mend if has_pyro_samples(part) else ''}"
        ) from error


def has_pyro_samples(part: nn.Module | None) -> bool:
    """Whether a part has weights that are a `PyroSample`."""
    return part is not None and any(getattr(module, "_pyro_samples", None) for module in part.modules())


def name_of(part: nn.Module | None) -> str:
    """The class of a part with its file, as `FILE.py:CLASS`."""
    while isinstance(part, Wrapped):
        part = part.part
    kind = type(part)
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return f"{Path(file).name}:{kind.__name__}" if file else kind.__name__


def listed(names: Iterable[str]) -> str:
    """Names sites for a message."""
    return ", ".join(f"'{name}'" for name in names) or "none"


def explained(error: BaseException) -> str:
    """Tells in one line what went wrong in a user's part, with the mend where it is a mistake that is often made."""
    text = reason(error)
    return text + next((f": {mend}" for said, mend in _MENDS.items() if said in text), "")
