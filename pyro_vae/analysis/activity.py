"""How many latent variables does a run use?"""

__all__ = ["active_latents"]

from typing import Any

from pyro_vae.analysis.encode import encode
from pyro_vae.errors import InputError
from pyro_vae.run.run import Run

# Test datapoints that are looked at, and the draws of each.
_DATAPOINTS, _DRAWS = 500, 20

# A latent variable is active where its posterior mean varies more than this between datapoints (Burda et al., 2016).
_ACTIVE = 0.01


def active_latents(run: Run) -> dict[str, Any]:
    """Counts the latent variables whose means under the guide vary from one test datapoint to another.

    Arguments:
        run: The run; one without a guide gets a Gaussian fitted to each datapoint.

    Returns:
        `active_latents`; None where there are none that could be encoded.
    """
    try:
        table = encode(run.model, run.guide, run.dataset.test.head(_DATAPOINTS), particles=_DRAWS)
    except InputError:  # global latent variables, for example
        return {"active_latents": None}
    means = [name for name in table if f"{name}_sd" in table]
    return {"active_latents": int((table[means].var() > _ACTIVE).sum()) if means else None}
