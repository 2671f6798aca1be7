r"""Tables of log densities over the values of discrete sites, and their sums.

A run of a program under `EnumMessenger` holds the values of each site that is summed out in a tensor dimension of its
own, left of all plates, and log densities are tables over these values. They are summed in float64, one site after
another and in the log domain: Pyro's own contraction shifts each table by itself, and loses what lies 88 nats below.
"""

__all__ = ["Posterior", "Tables"]

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from string import ascii_letters
from typing import Any, NamedTuple

import torch
from pyro.distributions import Categorical
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree, contract_to_tensor
from pyro.ops.rings import LogRing
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_vae.errors import InputError
from pyro_vae.sites import OWN, Site, in_rows, sample_sites, site_log_prob

Dims = frozenset[str]

# Symbols of tensor dimensions. Pyro gives the other letters to sites that are summed out.
_DATA, _DRAWS, *_PLATES = [*ascii_letters[::2]]


class _Table(NamedTuple):
    """Log densities over the values of summed sites, packed: dimensions have symbols in the place of positions."""

    plates: Dims
    values: Any
    scale: Any = 1.0


class Tables:
    """Holds the log densities of traces as tables over the values of the sites that are summed out.

    Arguments:
        model_trace: The trace of a model under `EnumMessenger`.
        guide_trace: That of its guide, None where there is none.
        draws: The number of draws per datapoint.
        datapoints: The number of datapoints.
    """

    def __init__(self, model_trace: Trace, guide_trace: Trace | None, draws: int, datapoints: int) -> None:
        self.shape = draws, datapoints
        self._q = {} if guide_trace is None else sample_sites(guide_trace)
        self._p = sample_sites(model_trace)
        self._plates: dict[str, str] = {}  # symbols by the names of the plates
        self._sizes = {_DATA: datapoints, _DRAWS: draws}
        for site in (*self._q.values(), *self._p.values()):
            for frame in site["cond_indep_stack"]:
                if frame.vectorized and frame.name not in self._plates:
                    own = _DATA if frame.dim == -1 else _DRAWS if frame.name in OWN else None
                    self._plates[frame.name] = own or _PLATES[len(self._plates)]
                    self._sizes.setdefault(self._plates[frame.name], frame.size)
        self._ring = _LogSumExp(dim_to_size=self._sizes)
        self._log_q = {} if guide_trace is None else self._packed(guide_trace, self._q, ())
        self._log_p = self._packed(model_trace, self._p, self.sites)
        self._of_q = {site["infer"]["_enumerate_symbol"] for site in self._q.values() if _is_summed(site)}

    @property
    def sites(self) -> dict[str, Site]:
        """The model's own sites that are summed out, by name."""
        return {name: site for name, site in self._p.items() if _is_summed(site) and name not in self._q}

    def log_p(self, among: Collection[str] | None = None, scaled: bool = False) -> Tensor:
        r"""Sums the model's sites out of :math:`p(x, z)`, where the guide sums out none.

        Arguments:
            among: The sites whose densities are multiplied, all by default.
            scaled: Whether terms are weighed by the scales around their sites; see `site_log_prob`.

        Returns:
            The log densities in nats, float64 with shape `(draws, datapoints)`.
        """
        tables = [table for name, table in self._log_p.items() if among is None or name in among]
        return self._rows(self._summed(tables, self._symbols(tables), scaled))

    def log_q(self, scaled: bool = False) -> Tensor:
        """Returns the log density of what the guide draws, where it sums out none of it; see `log_p`."""
        return self._rows(self._summed([*self._log_q.values()], set(), scaled))

    def log_weights(self, scaled: bool = False) -> Tensor:
        r"""Sums all sites out of the importance weights, whose expectation stays :math:`p(x)`.

        .. math:: \log \sum_y \frac{p(x, y, z_y)}{q(z_y | y, x)}, \quad z_y \sim q(z | y, x)

        Values of a site to which the guide gives no probability are left out: it would never draw them.

        Returns:
            The log weights in nats, float64 with shape `(draws, datapoints)`.
        """
        tables = [*self._log_p.values()]
        for name, (plates, log_q, scale) in self._log_q.items():
            possible = torch.where(log_q == -torch.inf, log_q, 0.0) if _is_summed(self._q[name]) else -log_q
            tables.append(_Table(plates, _named(possible, log_q._pyro_dims), scale))
        return self._rows(self._summed(tables, self._symbols(tables), scaled))

    def bound(self) -> Tensor:
        r"""Sums the model's sites out and takes the mean over the guide's, as `TraceEnum_ELBO` does for training.

        .. math:: E_{q(y | x)} \log \sum_v \frac{p(x, v, y, z_y)}{q(z_y | y, x) \, q(y | x)}

        Returns:
            Draws whose mean is the bound, in nats, float64 with shape `(draws, datapoints)`.

        Raises:
            InputError: If the guide sums out a site inside a plate around which the model sums out another.
        """
        for name, site in self._q.items():
            for own in self.sites if _is_summed(site) else ():
                if not self._log_q[name].plates <= self._log_p[own].plates:
                    raise InputError(
                        f"site '{name}' is summed out in the guide, inside a plate that site '{own}' of the model lies "
                        f"outside of: sum out '{own}' in the guide, or '{name}' in the model"
                    )
        tables = [*self._log_p.values()]
        costs = self._summed(tables, self._symbols(tables) - self._of_q)
        costs += [_Table(table.plates, packed.neg(table.values)) for table in self._log_q.values()]
        return self._rows(map(self._mean, costs))

    def at_random(self) -> tuple[dict[str, Tensor], Tensor]:
        r"""Chooses a value of each summed site at random, for a look at whether the tables are right.

        Returns:
            The values of all latent sites, those of others as they were drawn for these, in the shape of the plates;
            and :math:`\\log p - \\log q` there, with shape `(draws, datapoints)`.
        """
        index: dict[str, Tensor] = {}
        tables = [*self._log_p.values(), *(t._replace(values=packed.neg(t.values)) for t in self._log_q.values())]
        every = {**self._p, **self._q}
        for site in (site for site in every.values() if _is_summed(site)):
            symbol = site["infer"]["_enumerate_symbol"]
            sizes = {f.dim: f.size for f in site["cond_indep_stack"] if f.vectorized}
            shape = [sizes.get(dim, 1) for dim in range(min(sizes), 0)]
            index[symbol] = torch.randint(len(site["fn"].enumerate_support(expand=False)), shape)
            at = packed.pack(index[symbol].clone(), {f.dim: self._plates[f.name] for f in site["cond_indep_stack"]})
            tables = [_gathered(table, at, symbol) for table in tables]
        return {name: _chosen(site, index) for name, site in every.items() if not site["is_observed"]}, self._rows(
            tables
        )

    def density(self, model_trace: Trace, guide_trace: Trace) -> Tensor:
        """Returns the same of a run at these values, for which nothing was summed out."""
        p, q = sample_sites(model_trace), sample_sites(guide_trace)
        own = [(p[name], -p[name]["fn"].log_prob(p[name]["value"])) for name in self.sites]
        others = [(site, -site_log_prob(site)) for name, site in p.items() if name not in self.sites]
        terms = [*own, *others, *((site, site_log_prob(site)) for site in q.values())]
        return -torch.as_tensor(sum(in_rows(site, term).double() for site, term in terms)).expand(self.shape)

    def posteriors(self) -> "dict[str, Posterior]":
        r"""Returns what is known of each of the model's own sites, given x and the latent variables that were drawn."""
        tables = [table for table in self._log_p.values() if self._symbols([table])]
        found: dict[str, Posterior] = {}
        left = tables
        for name, site in self.sites.items():
            support = site["fn"].enumerate_support(expand=False)
            support = support.reshape(len(support), *site["fn"].event_shape)
            symbol = site["infer"]["_enumerate_symbol"]
            frames = [f for f in site["cond_indep_stack"] if f.vectorized and f.name not in OWN and f.dim < -1]
            inner = (self._plates[f.name] for f in sorted(frames, key=lambda f: f.dim))
            order = [_DRAWS, _DATA, *inner]
            shape = [self._sizes[plate] for plate in order]
            logits, given = (self._marginal(each, symbol, order, [*shape, len(support)]) for each in (tables, left))
            index = Categorical(logits=given).sample()
            found[name] = Posterior(logits.softmax(-1), support[index], support)
            at = _named(index.squeeze(), "".join(dim for dim, size in zip(order, shape, strict=True) if size > 1))
            left = [_gathered(table, at, symbol) for table in left]
        return found

    def _marginal(self, tables: list[_Table], symbol: str, order: list[str], shape: list[int]) -> Tensor:
        """The log density of a site's values but for a constant, all other sites summed out, with its plates first."""
        tree: OrderedDict[Dims, list[Any]] = OrderedDict()
        for table in tables:
            tree.setdefault(table.plates, []).append(table.values)
        if symbol not in _all(table.values for table in tables):  # it has one value
            return torch.zeros(shape, dtype=torch.float64)
        term = contract_to_tensor(tree, self._symbols(tables), frozenset(order), {symbol}, ring=self._ring)
        dims = [dim for dim in (*order, symbol) if dim in term._pyro_dims]
        term = term.permute([term._pyro_dims.index(dim) for dim in dims])
        sizes = [size if dim in dims else 1 for dim, size in zip((*order, symbol), shape, strict=True)]
        return term.reshape(sizes).expand(shape)

    def _packed(self, trace: Trace, sites: Mapping[str, Site], own: Collection[str]) -> dict[str, _Table]:
        trace.symbolize_dims(self._plates)  # what both traces have is one `infer`: it is used before the next does it
        tables = {}
        for name, site in sites.items():
            # Where a site of the model's own is masked, its density stays, and sums to one.
            log_prob = site["fn"].log_prob(site["value"]) if name in own else site_log_prob(site)
            plates = frozenset(self._plates[f.name] for f in site["cond_indep_stack"] if f.vectorized)
            values = packed.pack(log_prob.double(), site["infer"]["_dim_to_symbol"])
            tables[name] = _Table(plates, values, site["scale"])
        return tables

    def _symbols(self, tables: Iterable[_Table]) -> set[str]:
        """The symbols of the summed sites that tables depend on."""
        return _all(table.values for table in tables) - {*self._plates.values()}

    def _summed(self, tables: list[_Table], dims: set[str], scaled: bool = False) -> list[_Table]:
        """Sums dimensions out of a product of tables, whose log is the sum of what is returned."""
        tree: OrderedDict[Dims, list[Any]] = OrderedDict()
        left, scales = [], []
        for table in tables:
            if dims.isdisjoint(table.values._pyro_dims):
                left.append(_Table(table.plates, _scaled(table.values, table.scale) if scaled else table.values))
            else:
                tree.setdefault(table.plates, []).append(table.values)
                scales.append(table.scale)
        if not tree:
            return left
        scale = _common(scales) if scaled else 1.0
        summed = contract_tensor_tree(tree, dims, ring=self._ring)
        return left + [_Table(plates, _scaled(term, scale)) for plates, terms in summed.items() for term in terms]

    def _mean(self, cost: _Table) -> _Table:
        """The mean of a cost over those of the guide's summed sites that it depends on."""
        over = _all([cost.values]) & self._of_q
        if not over:
            return cost
        weights = [self._log_q[name] for name, site in self._q.items() if _is_summed(site)]
        above = [weight.values for weight in weights if weight.plates <= cost.plates]
        log_q, values = packed.broadcast_all(self._ring.sumproduct(above, self._of_q - over), cost.values)
        dims = log_q._pyro_dims
        values = torch.where(log_q == -torch.inf, 0.0, values)  # what has no probability may cost anything
        mean = (log_q.exp() * values).sum([dims.index(dim) for dim in over])
        return _Table(cost.plates, _named(mean, "".join(dim for dim in dims if dim not in over)))

    def _rows(self, tables: Iterable[_Table]) -> Tensor:
        """Adds up tables over all plates but those of the draws and the datapoints."""
        rows = [torch.zeros((), dtype=torch.float64)]
        for _, values, _ in tables:
            dims = values._pyro_dims
            inner = [n for n, dim in enumerate(dims) if dim not in (_DRAWS, _DATA)]
            values = values.sum(inner) if inner else values
            if _DRAWS in dims:
                values = values.unsqueeze(-1) if _DATA not in dims else values
                values = values.T if _DATA in dims and dims.index(_DATA) < dims.index(_DRAWS) else values
            rows.append(values)
        return torch.as_tensor(sum(rows[1:], rows[0])).expand(self.shape)


class Posterior(NamedTuple):
    """What is known of a discrete site given all other latent variables and x.

    Arguments:
        probabilities: Those of its values, float64 with shape `(draws, datapoints, plates inside..., values)`.
        values: Draws of it, with shape `(draws, datapoints, plates inside..., event...)`; several sites are drawn
            together.
        support: Its values, with shape `(values, event...)`.
    """

    probabilities: Tensor
    values: Tensor
    support: Tensor


class _LogSumExp(LogRing):
    """Sums one dimension after another out of the tables that have it, the one of the smallest product first."""

    def sumproduct(self, terms: Iterable[Any], dims: Iterable[str]) -> Any:
        pending = [*terms]
        left = _all(pending) & {*dims}
        while left:
            sizes = {dim: len(_all(term for term in pending if dim in term._pyro_dims)) for dim in sorted(left)}
            dim = min(sizes, key=sizes.__getitem__)
            product = _product([term for term in pending if dim in term._pyro_dims])
            symbols = product._pyro_dims
            total = _named(product.logsumexp(symbols.index(dim)), symbols.replace(dim, ""))
            pending = [*(term for term in pending if dim not in term._pyro_dims), total]
            left.remove(dim)
        return _product(pending)


def _is_summed(site: Site) -> bool:
    return site["infer"].get("_enumerate_dim") is not None


def _common(scales: list[Any]) -> Any:
    """The one weight of terms that are summed together."""
    different = len({id(scale) if isinstance(scale, Tensor) else scale for scale in scales}) > 1
    if different and len({float(scale) for scale in scales}) > 1:
        raise InputError("terms that are summed out together have different weights: give them one poutine.scale")
    return scales[0]


def _scaled(values: Any, scale: Any) -> Any:
    return values if isinstance(scale, float) and scale == 1.0 else _named(values * scale, values._pyro_dims)


def _gathered(table: _Table, index: Any, symbol: str) -> _Table:
    if symbol not in table.values._pyro_dims:
        return table
    return _Table(table.plates, packed.gather(table.values, index, symbol), table.scale)


def _chosen(site: Site, index: Mapping[str, Tensor]) -> Tensor:
    """The value of a site at one value of each summed site that it depends on."""
    value, event_dim = site["value"], site["fn"].event_dim
    for dim, symbol in site["infer"]["_dim_to_symbol"].items():
        if symbol in index and value.dim() >= event_dim - dim and value.shape[dim - event_dim] > 1:
            at = index[symbol]
            at = at.reshape([1] * (value.dim() - event_dim - at.dim()) + [*at.shape] + [1] * event_dim)
            value = value.take_along_dim(at.to(value.device), dim - event_dim)
    plates = max(-f.dim for f in site["cond_indep_stack"] if f.vectorized)
    return value.reshape(value.shape[max(0, value.dim() - event_dim - plates) :])


def _all(terms: Iterable[Any]) -> set[str]:
    return set("".join(term._pyro_dims for term in terms))


def _product(terms: list[Any]) -> Any:
    terms = list(packed.broadcast_all(*terms))
    return _named(sum(terms[1:], terms[0] + 0.0), terms[0]._pyro_dims)  # an object of its own, with its own name


def _named(values: Any, dims: str) -> Any:
    values._pyro_dims = dims
    return values
