"""What TorchInductor is told: how a recorded function becomes machine code.

Each choice was measured on the steps and evaluations of the paper's models, and kept where it pays.
"""

__all__ = ["compiled_graph", "recorded"]

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

_ATEN = torch.ops.aten

_OPTIONS: dict[str, Any] = {
    "fallback_random": True,  # the same draws as torch's own
    "compile_threads": 1,  # no processes on the side
}
_CPU_OPTIONS = {
    **_OPTIONS,
    "cpp_wrapper": True,  # no Python between the kernels
    "pattern_matcher": False,  # no `A @ B + C` as one call, which copies C first
    "memory_planning": True,  # one allocation for all that a call needs on the way
    "cpp.max_horizontal_fusion_size": 1,  # a weight moves while its gradient is in the cache, not with all others
    "cpp.use_decompose_tanh": True,  # by way of exp: half the time
    "cpp.enable_floating_point_contract_flag": "fast",  # a product and a sum round once
}


# Of `addmm` a product and then a sum, of the cross entropy the log of a sigmoid.
_TORCHS = get_decompositions([_ATEN.addmm, _ATEN.binary_cross_entropy_with_logits, _ATEN.log_sigmoid_forward])


def _log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    """The log of the sigmoid, and what its gradient needs, without `log1p`, which takes four times as long as `exp`.

    log1p(e) = 2 atanh(u) with u = e / (2 + e), at most 1/3: what seven terms of the series leave out is 1.4e-8 of it.
    """
    if x.dtype != torch.float32:
        usual: tuple[Tensor, Tensor] = _TORCHS[_ATEN.log_sigmoid_forward.default](x)
        return usual
    e = (-x.abs()).exp()
    u = e / (2 + e)
    square = u * u
    series = square * (1 / 13) + 1 / 11
    for n in (9, 7, 5, 3, 1):
        series = series * square + 1 / n
    return x.clamp(max=0) - 2 * u * series, e


# What functions are recorded as, in the place of some of torch's own.
_DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {**_TORCHS, _ATEN.log_sigmoid_forward.default: _log_sigmoid}

# torch 2.11 may draw a Bernoulli before the random numbers that its probability comes from: this draw waits for it.
if torch.__version__ < "2.15":
    _DECOMPOSITIONS[_ATEN.bernoulli.default] = lambda p, generator=None: torch.empty_like(p).bernoulli_(
        p, generator=generator
    )


def recorded(function: Callable[..., Any], examples: Iterable[Tensor]) -> GraphModule:
    """Runs a function once and records what it does with tensors."""
    # One description of tensors for the whole record: the tracer would make one for each operation.
    context = TracingContext(FakeTensorMode(allow_fallback_kernels=True))
    with warnings.catch_warnings(), tracing(context):
        warnings.simplefilter("ignore")  # the tracer's, about itself
        return make_fx(function, decomposition_table=_DECOMPOSITIONS)(*examples)


def compiled_graph(graph: GraphModule, examples: list[Tensor]) -> Callable[..., Any]:
    """Compiles a recorded function for tensors like the examples.

    It is the compiler alone: what `torch.compile` puts around it would look for what `pyro_vae.traced` has found.
    """
    # A second to import, and few runs need it.
    from torch._inductor import codecache
    from torch._inductor.cpu_vec_isa import pick_vec_isa
    from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

    class WithoutLogsOfExps(CustomGraphPass):
        def __call__(self, graph: Graph) -> None:
            _skip_logs_of_exps(graph)

        def uuid(self) -> bytes:
            # The compiler's keys lack the processor, and code for 16 numbers at a time is wrong where there are 8.
            return get_hash_for_files((__file__,), str(pick_vec_isa()))

    if not torch.cuda.is_available():
        with suppress(AttributeError, RuntimeError):  # an older torch; there is a key already
            # All of Triton would be hashed for the keys, and it compiles for GPUs alone.
            codecache.triton_key.set(None)  # type: ignore[attr-defined]
    options = _OPTIONS
    if examples[0].device.type == "cpu":
        options = {**_CPU_OPTIONS, "post_grad_custom_pre_pass": WithoutLogsOfExps()}
    with torch.no_grad(), _quiet("torch.utils.cpp_extension"):
        code: Callable[..., Any] = torch._inductor.standalone_compile(
            graph, [*examples], dynamic_shapes="from_example_inputs", options={"config_patches": options}
        )
    return code


def _skip_logs_of_exps(graph: Graph) -> None:
    """Has a density take the log of a scale from where it came: networks give the logs of scales.

    No tensor changes in these graphs, but for copies at their ends.
    """
    for log in graph.find_nodes(op="call_function", target=_ATEN.log.default):
        source, expands = log.args[0], []
        while source.target is _ATEN.expand.default:
            expands.append(source)
            source = source.args[0]
        if source.target is _ATEN.exp.default and _dtype(x := source.args[0]) == _dtype(log):
            with graph.inserting_before(log):
                for expand in reversed(expands):
                    x = graph.call_function(expand.target, (x, *expand.args[1:]))
                    x.meta = {**expand.meta}
            log.replace_all_uses_with(x)
            graph.erase_node(log)


def _dtype(node: Node) -> torch.dtype:
    dtype: torch.dtype = node.meta["val"].dtype
    return dtype


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keeps a logger from warning: that there is no GPU is no news to who works on a CPU."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
