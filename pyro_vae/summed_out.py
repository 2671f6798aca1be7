"""What must hold of discrete sites that are summed out, before the long part starts."""

__all__ = ["check_summed"]

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyro_vae.enumerated import one_by_one, paired, sums_out
from pyro_vae.errors import InputError
from pyro_vae.plates import is_countable, is_marked, look
from pyro_vae.sites import Site
from pyro_vae.words import explained, listed, name_of

# Log densities are sums of float32: of those, two orders agree to this, relatively and in nats.
_CLOSE = 1e-3


def check_summed(
    model: nn.Module, guide: nn.Module | None, x: Tensor, p: Mapping[str, Site], q: Mapping[str, Site]
) -> None:
    """Checks that sites which are marked to be summed out can be, and that the tables over their values are right.

    Arguments:
        model: The generative model.
        guide: The recognition model; None where the algorithm has none.
        x: A few datapoints, with shape `(datapoints, features)`.
        p: The model's latent sites, replayed from the guide.
        q: The guide's.

    Raises:
        InputError: If they cannot be summed out.
    """
    for part, sites in ((guide, q), (model, p)):
        for name, site in sites.items():
            if is_marked(site) and not is_countable(site):
                raise InputError(
                    f"site '{name}' of {name_of(part)} is marked to be summed out, and {type(site['fn']).__name__} "
                    "has no finite support: leave the mark out of infer, and sample it in the guide"
                )
    for name, site in q.items():
        if is_marked(site) and not (site["mask"] is None is p[name]["mask"]):
            raise InputError(
                f"site '{name}' of {name_of(guide)} is masked and marked to be summed out, which Pyro counts once for "
                "each of its values: give the guide logits of -inf for all but the value that is known, without a mask"
            )
    if guide is None or not sums_out(model, guide, x):
        return
    names = listed(sorted(look(guide, x).marked | (look(model, x).countable - q.keys())))
    try:
        paired(model, guide, x, 2).bound()
        found, expected = one_by_one(model, guide, x)
    except InputError:
        raise
    except Exception as error:  # a user's part may fail in any way
        raise InputError(
            f"{name_of(model)} or {name_of(guide)} cannot be summed over site {names}: its values come in a dimension "
            f"of their own, on the left of all plates, which indexing and networks must accept ({explained(error)})"
        ) from error
    if not torch.allclose(found, expected, rtol=_CLOSE, atol=_CLOSE, equal_nan=True):
        raise InputError(
            f"{name_of(model)} or {name_of(guide)} gives values of site {names} other log densities together than one "
            "by one: what depends on them must keep their dimension, on the left of all plates, and sum over no plate"
        )
