"""The paper's protocol: which runs its figures have, and what each of them gets (Section 5, Appendices A and E).

Nothing here needs torch, so that the command line can answer at once.
"""

__all__ = [
    "ALGORITHMS",
    "FIGURE2",
    "FIGURE3",
    "FIGURE3_NETWORK",
    "NETWORKS",
    "PANELS",
    "PILOT",
    "STAGES",
    "STEP_SIZES",
    "TRAIN_SIZES",
    "Algorithm",
    "find_algorithm",
    "read_panels",
]

from collections.abc import Iterable
from dataclasses import dataclass

from pyro_vae.errors import InputError
from pyro_vae.run import parts

STEP_SIZES = (0.01, 0.02, 0.1)
"""What the paper chooses Adagrad's global step size from, by the first iterations on the training set."""

PILOT = 100_000
"""After how many samples the step size is chosen."""

PANELS = {"mnist": (3, 5, 10, 20, 200), "frey": (2, 5, 10, 20)}
"""The panels of Figure 2: numbers of latent variables by data set."""

TRAIN_SIZES = (1000, 50_000)
"""The panels of Figure 3: numbers of training datapoints."""

STAGES = tuple(1_000_000 * millions for millions in (1, 5, 10, 20, 30, 40, 50, 60))
"""After how many samples Figure 3's marginal likelihoods are estimated."""

NETWORKS = {
    "mnist": ("--model", "bernoulli", "--hidden", "500"),
    "frey": ("--model", "gaussian", "--hidden", "200"),
}
"""Arguments of `pyro-vae train` in Figures 2, 4 and 5, by data set."""

FIGURE3_NETWORK = ("--hidden", "100")
"""The same in Figure 3."""


@dataclass(frozen=True)
class Algorithm:
    """What an algorithm gets in the paper's runs and figures.

    Arguments:
        name: Its name in the legend.
        color: Its colour in the figures, any that is free where there is none.
        arguments: Arguments of `pyro-vae train`.
        step_sizes: The step sizes that its runs choose from.
    """

    name: str
    color: str | None = None
    arguments: tuple[str, ...] = ()
    step_sizes: tuple[float, ...] = STEP_SIZES


ALGORITHMS = {
    "aevb": Algorithm("AEVB", "#0072B2", ("--kl", "analytic")),  # the author's choice
    "wake_sleep": Algorithm("Wake-Sleep", "#D55E00"),
    # The step size of the author's code: the first iteration alone is past the samples by which the others choose.
    "mcem": Algorithm("MCEM", "#009E73", step_sizes=(0.1,)),
}
"""The paper's own algorithms, in colours that the colour-blind tell apart. Any other gets the defaults."""

FIGURE2 = ("aevb", "wake_sleep")
"""What the paper compares in Figure 2."""

FIGURE3 = ("aevb", "wake_sleep", "mcem")
"""What the paper compares in Figure 3."""


def find_algorithm(spec: str) -> Algorithm:
    """Returns what an algorithm gets.

    Arguments:
        spec: Its name on the shelf, or `FILE.py` or `FILE.py:CLASS`.
    """
    if not parts.is_file(spec):
        return ALGORITHMS.get(spec, Algorithm(spec))
    path, name = parts.split_spec(spec)
    return Algorithm(name or path.stem)


def read_panels(texts: Iterable[str]) -> list[tuple[str, int]]:
    """Reads panels of Figure 2, such as `mnist:3,20` or `frey`, all of them where there are none.

    Returns:
        Data sets and numbers of latent variables.

    Raises:
        InputError: If one is none.
    """
    found: list[tuple[str, int]] = []
    for text in " ".join(texts).split() or PANELS:
        data, _, sizes = text.partition(":")
        if data not in PANELS or not all(size.isdigit() and int(size) > 0 for size in sizes.split(",") if sizes):
            raise InputError(f"--panels {text} is not possible: write mnist:3,20 or frey:10, for example")
        found += [(data, int(size)) for size in sizes.split(",")] if sizes else [(data, size) for size in PANELS[data]]
    return list(dict.fromkeys(found))
