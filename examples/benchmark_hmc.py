"""What does an HMC transition cost, here, in Pyro and in NumPyro, and how much memory does an estimate take?

python examples/benchmark_hmc.py [DATAPOINTS [ROUNDS]]
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import pyro
import pyro.infer
import torch

import pyro_vae
from pyro_vae import marginal
from pyro_vae.data.dataset import Dataset, data_dir
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.hmc import HMC
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.importance import Importance
from pyro_vae.log_joint import LogJoint
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.sites import isolated

STEP, LEAPFROGS = 0.1, 10
ONE_BY_ONE = 5  # datapoints that pyro.infer.HMC visits in a round
COMPILING = 2  # rounds that do not count, since JAX compiles in them
Contestant = Callable[[], float]  # makes one transition of its datapoints, returns their mean acceptance probability


def load() -> Dataset:
    return pyro_vae.load_data("mnist" if (data_dir() / "MNIST").is_dir() else "digits")


def batched(model: BernoulliModel, x: torch.Tensor, start: torch.Tensor) -> Contestant:
    log_joint = LogJoint(model, x, compile=True)
    fixed = {"step_size": STEP, "leapfrogs": LEAPFROGS, "jitter": 0}
    kernel = HMC(log_joint.with_gradient, start.unsqueeze(0), gradient=log_joint.gradient, **fixed)
    return lambda: kernel.transition().acceptance.mean().item()


def one_by_one(model: BernoulliModel, x: torch.Tensor, start: torch.Tensor) -> Contestant:
    def created(n: int) -> tuple[pyro.infer.HMC, dict[str, torch.Tensor]]:
        kernel = pyro.infer.HMC(
            model,
            step_size=STEP,
            num_steps=LEAPFROGS,
            adapt_step_size=False,
            adapt_mass_matrix=False,
        )
        kernel.initial_params = {"z": start[n : n + 1]}
        kernel.setup(0, x[n : n + 1])
        assert kernel.num_steps == LEAPFROGS
        return kernel, kernel.initial_params

    chains = [created(n) for n in range(len(x))]

    def transition() -> float:
        before = [kernel._accept_cnt for kernel, _ in chains]
        chains[:] = [(kernel, kernel.sample(position)) for kernel, position in chains]
        return statistics.mean(kernel._accept_cnt - n for (kernel, _), n in zip(chains, before, strict=True))

    return transition


def vectorised(model: BernoulliModel, x: torch.Tensor, start: torch.Tensor) -> Contestant:
    import jax
    from jax import numpy as jnp
    from numpyro.infer.hmc import hmc

    (w1, b1), (w2, b2) = ([jnp.asarray(p.detach().numpy()) for p in layer.parameters()] for layer in linears(model))

    def potential(x: jax.Array) -> Callable[[jax.Array], jax.Array]:
        def energy(z: jax.Array) -> jax.Array:
            logits = w2 @ jnp.tanh(w1 @ z + b1) + b2
            log_likelihood = (x * logits - jax.nn.softplus(logits)).sum()
            return 0.5 * (z @ z + len(z) * jnp.log(2 * jnp.pi)) - log_likelihood

        return energy

    data, position = jnp.asarray(x.numpy()), jnp.asarray(start.numpy())
    # NumPyro's vectorised chains are this `vmap` of its kernel; here each chain has a datapoint of its own as well.
    init, sample = hmc(potential_fn_gen=potential, algo="HMC")
    fixed = {"num_steps": LEAPFROGS, "trajectory_length": None, "adapt_step_size": False, "adapt_mass_matrix": False}
    state = jax.vmap(lambda z, x, key: init(z, 0, STEP, model_args=(x,), rng_key=key, **fixed))(
        position, data, jax.random.split(jax.random.key(0), len(x))
    )
    ours = -LogJoint(model, x)(start.unsqueeze(0))[0].detach()
    torch.testing.assert_close(torch.tensor(state.potential_energy.tolist()).double(), ours, rtol=1e-5, atol=1e-3)
    step = jax.jit(jax.vmap(lambda state, x: sample(state, (x,), {})))

    def transition() -> float:
        nonlocal state
        state = jax.block_until_ready(step(state, data))
        assert (state.num_steps == LEAPFROGS).all()
        return state.accept_prob.mean().item()

    return transition


def linears(model: BernoulliModel) -> list[torch.nn.Linear]:
    return [module for module in model.decoder.modules() if isinstance(module, torch.nn.Linear)]


def race(datapoints: int, rounds: int) -> None:
    data = load()
    x = data.test.first(datapoints)
    with isolated():
        torch.manual_seed(0)
        model, guide = BernoulliModel(data.features, 3, 100), GaussianGuide(data.features, 3, 100)
        pyro_vae.fit(AEVB(model, guide, data.train), samples=200 * datapoints)
        start = LogJoint(model, x).start(1, guide)[0]
        few = slice(ONE_BY_ONE)
        contestants = {
            "pyro_vae.hmc.HMC": (batched(model, x, start), len(x)),
            "pyro.infer.HMC, one by one": (one_by_one(model, x[few], start[few]), ONE_BY_ONE),
        }
        try:
            contestants["NumPyro HMC, vectorised, jitted"] = vectorised(model, x, start), len(x)
        except ModuleNotFoundError:
            print("NumPyro is not installed: its row is left out")
        times = {name: [] for name in contestants}
        acceptance = {name: [] for name in contestants}
        for n in range(COMPILING + rounds):
            for name, (transition, count) in contestants.items():
                began = perf_counter()
                accepted = transition()
                if n >= COMPILING:
                    times[name].append((perf_counter() - began) / count)
                acceptance[name].append(accepted)

    print(f"One transition of {LEAPFROGS} leapfrog steps, {data.name}, {data.features}-100-3, {rounds} rounds:\n")
    print(f"| sampler | datapoints | ms per datapoint, median (range) | ratio | acceptance |\n{'|---' * 5}|")
    ours = statistics.median(times["pyro_vae.hmc.HMC"])
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(
            f"| {name} | {contestants[name][1]:,} | {1e3 * middle:.3f} ({1e3 * min(seconds):.3f} to "
            f"{1e3 * max(seconds):.3f}) | {middle / ours:.2f} | {statistics.mean(acceptance[name]):.2f} |"
        )


def peak(datapoints: int, particles: int, rows: int) -> None:
    """Prints this process's memory before an estimate and its peak during the estimate, in MiB."""
    marginal.ROWS = rows
    data = load()
    model, guide = BernoulliModel(data.features, 3, 100), GaussianGuide(data.features, 3, 100)
    # Forgets the peak so far. `getrusage` cannot, and inherits its peak from the process that started this one.
    Path("/proc/self/clear_refs").write_text("5")
    before = high_water()
    Importance(particles).estimate(model, guide, data.train.head(datapoints))
    print(before, high_water())


def high_water() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024


def memory(datapoints: int) -> None:
    if not Path("/proc/self/clear_refs").exists():
        print("peak memory is read from Linux's /proc, and is left out here")
        return
    rows = marginal.ROWS
    print("Peak memory of the importance estimator on training images:\n")
    print(f"| datapoints | particles | rows in a chunk | before, MiB | peak, MiB | rise |\n{'|---' * 6}|")
    cases = [(datapoints, 50, rows)]
    if datapoints >= 10_000:
        cases += [(datapoints, 10, rows), (datapoints // 10, 50, rows)]
        cases += [(datapoints // 10, 50, 2 * rows), (datapoints // 10, 50, 4 * rows)]
    for case in cases:
        child = [sys.executable, __file__, "peak", *map(str, case)]
        before, after = map(int, subprocess.run(child, check=True, capture_output=True, text=True).stdout.split())
        print(f"| {case[0]:,} | {case[1]} | {case[2]:,} | {before:,} | {after:,} | {after - before} |", flush=True)


def main(datapoints: int = 1000, rounds: int = 15) -> None:
    names = "torch", "pyro-ppl", "numpyro", "jax"
    print(", ".join(f"{name} {version(name)}" for name in names if find_spec(name.removesuffix("-ppl"))))
    print(f"torch threads {torch.get_num_threads()}, cores {len(os.sched_getaffinity(0))}\n")
    if not (data_dir() / "MNIST").is_dir():
        print("There is no MNIST in $PYRO_VAE_DATA: this is about digits\n")
    race(datapoints, rounds)
    print()
    memory(50 * datapoints)


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        peak(*map(int, sys.argv[2:]))
    else:
        main(*map(int, sys.argv[1:3]))
