"""An analysis in small, on a few datapoints: what cannot be done is known in the first second and not after minutes."""

__all__ = ["AT_THE_DATA", "CALIBRATION", "GAPS", "GUIDE", "GUIDE_CALIBRATION", "or_left_out", "rehearse"]

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from pyro_vae.analysis.coverage import coverage
from pyro_vae.analysis.export import to_arviz
from pyro_vae.analysis.predictive import calibration, checks
from pyro_vae.analysis.sbc import simulate, simulate_at
from pyro_vae.device import seeded
from pyro_vae.errors import InputError, Interrupted, RunError, reason, told
from pyro_vae.local import fit_gaussian

# Parts of an analysis that the rest can do without, as a reader knows them.
GUIDE, GAPS = "the guide against the posterior", "log p(x) and what separates the bound from it"
CALIBRATION, GUIDE_CALIBRATION = "simulation-based calibration", "simulation-based calibration of the guide"
AT_THE_DATA = "simulation-based calibration at the data"


@contextmanager
def or_left_out(left_out: dict[str, str], part: str) -> Iterator[None]:
    """Lets the analysis go on without a part that fails, and notes why."""
    try:
        yield
    except (RunError, Interrupted):
        raise
    except Exception as error:  # a user's part may fail in any way
        left_out[part] = str(error) if isinstance(error, InputError) else reason(error)


def rehearse(
    model: nn.Module,
    guide: nn.Module | None,
    x: Tensor,
    image_shape: tuple[int, ...] | None = None,
    quick: bool = False,
    seed: int = 0,
) -> dict[str, str]:
    """Runs every part of an analysis that runs the model, as shortly as it can be.

    Arguments:
        model: The generative model.
        guide: The recognition model; None where there is none.
        x: Two datapoints, with shape `(2, features)`.
        image_shape: The shape of a datapoint, where it is an image.
        quick: Whether calibration and gaps are not wanted.
        seed: The seed of all draws.

    Returns:
        Why a part is left out, by its name.

    Raises:
        InputError: If there would be no analysis at all: without draws from the posterior, nothing is left.
    """
    left_out: dict[str, str] = {}
    with told(f"the analysis of {type(model).__name__}"):
        tree = to_arviz(model, guide, x, chains=2, draws=4, warmup=2, predictive=2, image_shape=image_shape, seed=seed)
        checks(tree)
        calibration(tree)
        coverage(tree)
    if "guide_left_out" in tree.attrs:
        left_out[GUIDE], guide = tree.attrs["guide_left_out"], None
    if quick:
        return left_out | dict.fromkeys((GAPS, CALIBRATION, AT_THE_DATA), "asked for by --quick")
    with or_left_out(left_out, CALIBRATION):
        pit = simulate(model, guide, x, transitions=3, seed=seed)
        if guide is not None and "guide" not in pit:
            left_out[GUIDE_CALIBRATION] = (
                "the guide is called with data, and what the model's observed sites simulate is not one array of their "
                "shape"
            )
    with or_left_out(left_out, AT_THE_DATA):
        simulate_at(model, guide, x, transitions=3, seed=seed)
    with or_left_out(left_out, GAPS), seeded(seed, x.device):
        fit_gaussian(model, x, steps=1)
    return left_out
