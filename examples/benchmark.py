"""What does a step cost: here, in Pyro, in a loop written by hand, in NumPyro, and at the machine's limit?

python examples/benchmark.py [ROUNDS [FOLDER]]

It wants a machine that does nothing else, and MNIST and Frey Face, which it fetches if they are not there. A single
round is a smoke test of the first table, on digits; with 0 rounds, the picture is drawn anew from the folder's
steps.csv.
"""

import csv
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import pyro.infer
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import pyro_vae
from pyro_vae.cli import keep_freed_memory
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.gaussian import GaussianModel
from pyro_vae.networks import hidden_layer, linear
from pyro_vae.run.prepared import Prepared, prepare
from pyro_vae.run.settings import Settings

BATCH, STEP_SIZE = 100, 0.01
STEPS = 40  # in a contestant's turn
Contestant = Callable[[], None]  # makes STEPS steps


class Case:
    """A data set and the sizes of the networks, which all contestants share."""

    def __init__(self, name: str, latent: int, hidden: int, batch: int = BATCH) -> None:
        self.data = pyro_vae.load_data(name)
        self.gaussian, self.latent, self.hidden, self.batch = name == "frey", latent, hidden, batch

    @property
    def title(self) -> str:
        """What the tables call it."""
        sizes = f"{self.data.features}-{self.hidden}-{self.latent}"
        return f"{self.data.name} {sizes}, {'Gaussian' if self.gaussian else 'Bernoulli'}, batch {self.batch}"

    def pair(self) -> tuple[nn.Module, nn.Module]:
        """Builds the model and its guide."""
        torch.manual_seed(0)
        sizes = self.data.features, self.latent, self.hidden
        return (GaussianModel if self.gaussian else BernoulliModel)(*sizes), GaussianGuide(*sizes)


def ours(case: Case, algorithm: type = AEVB, compile: bool = True, **settings: str) -> Contestant:
    settings |= {"kl": "analytic"} if algorithm is AEVB else {}
    return steps_of(
        algorithm(*case.pair(), case.data.train, batch=case.batch, step_size=STEP_SIZE, compile=compile, **settings)
    )


def steps_of(learner: AEVB | WakeSleep) -> Contestant:
    def run() -> None:
        for _ in range(STEPS):
            learner.step()

    return run


def pyro_svi(case: Case) -> Contestant:
    """`SVI.step` as in Pyro's own example of a VAE."""
    model, guide = case.pair()
    data = case.data.train

    def p(x: Tensor) -> None:
        pyro.module("decoder", model)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), case.latent), 1.0).to_event(1))
            pyro.sample("x", model.likelihood(z), obs=x)

    def q(x: Tensor) -> None:
        pyro.module("encoder", guide)
        with pyro.plate("data", len(x)):
            pyro.sample("z", guide.posterior(x))

    pyro.clear_param_store()
    svi = pyro.infer.SVI(p, q, pyro.optim.Adam({"lr": 1e-3}), loss=pyro.infer.Trace_ELBO())

    def run() -> None:
        for _ in range(STEPS):
            svi.step(data.minibatch(case.batch))

    return run


def other_pairs() -> Iterator[tuple[str, dict[str, Contestant]]]:
    """Pairs that need more of Pyro, or of torch: our step beside `SVI.step` with the same estimator, both by Adam."""
    colours = Path(__file__).with_name("colour_images.py")
    for title, model, guide, elbo in (
        ("a mixture of 10 Gaussians, y summed out", "mixture_of_gaussians", "gaussian", pyro.infer.TraceEnum_ELBO),
        ("a conditional pair", "conditional", "conditional", pyro.infer.Trace_ELBO),
        ("a convolutional pair", f"{colours}:ColourModel", f"{colours}:ColourGuide", pyro.infer.Trace_ELBO),
    ):
        pairs = [prepared(model, guide) for _ in range(2)]
        yield title, {OURS: traced(pairs[0], elbo), "pyro.infer.SVI.step": stepped(pairs[1], elbo)}
    tutorial, sizes = f"{Path(__file__).with_name('tutorial_vae.py')}:VAE", {"z_dim": 20, "hidden_dim": 500}
    softplus = {"activation": "softplus"}
    pairs = [
        prepared(tutorial, tutorial, latent=Settings().latent, set={"model": sizes}),
        prepared("bernoulli", set={"model": softplus, "guide": softplus}),
        prepared(tutorial, tutorial, latent=Settings().latent, set={"model": sizes}),
    ]
    yield (
        "a pair as in Pyro's tutorial",
        {
            OURS: traced(pairs[0], pyro.infer.Trace_ELBO),
            "the same, as classes from the shelf": traced(pairs[1], pyro.infer.Trace_ELBO),
            "pyro.infer.SVI.step": stepped(pairs[2], pyro.infer.Trace_ELBO),
        },
    )


def prepared(model: str, guide: str = "gaussian", latent: int = 20, **more: object) -> Prepared:
    settings = {"data": CASES[0][0], "model": model, "guide": guide, "latent": latent, **more}
    return prepare(Settings.of(settings), torch.device("cpu"), Path("none"), {})


def traced(pair: Prepared, elbo: type[pyro.infer.ELBO]) -> Contestant:
    settings = {"batch": BATCH, "optimizer": "Adam", "step_size": 1e-3}
    return steps_of(AEVB(pair.model, pair.guide, pair.dataset.train, elbo=elbo, compile=True, **settings))


def stepped(pair: Prepared, elbo: type[pyro.infer.ELBO]) -> Contestant:
    pyro.clear_param_store()

    def p(x: Tensor) -> None:
        pyro.module("model", pair.model)
        pair.model(x)

    def q(x: Tensor) -> None:
        pyro.module("guide", pair.guide)
        pair.guide(x)

    svi = pyro.infer.SVI(p, q, pyro.optim.Adam({"lr": 1e-3}), loss=elbo(max_plate_nesting=1))

    def run() -> None:
        for _ in range(STEPS):
            svi.step(pair.dataset.train.minibatch(BATCH))

    return run


def fused_adagrad(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(groups, lr=STEP_SIZE, fused=True)


def hand_step(case: Case, create_optimizer: Callable[..., torch.optim.Optimizer] = fused_adagrad) -> Contestant:
    """A single step of a loop in torch without Pyro, with the closed-form KL."""
    torch.manual_seed(0)
    data, features, hidden, latent = case.data.train, case.data.features, case.hidden, case.latent
    encoder, decoder = hidden_layer(features, hidden), hidden_layer(latent, hidden)
    heads = nn.ModuleList([linear(hidden, latent), linear(hidden, latent, std=0.0), linear(hidden, features)])
    if case.gaussian:
        heads.append(linear(hidden, features))
    parameters = [*encoder.parameters(), *decoder.parameters(), *heads.parameters()]
    optimizer = create_optimizer(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": case.batch / len(data)},
            {"params": [p for p in parameters if p.ndim == 1]},
        ]
    )

    def step() -> None:
        x = data.minibatch(case.batch)
        h = encoder(x)
        mean, log_variance = heads[0](h), heads[1](h)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        h = decoder(z)
        if case.gaussian:
            output = heads[3](h)
            loss = 0.5 * (output + (x - heads[2](h).sigmoid()) ** 2 * (-output).exp()).sum()
        else:
            loss = binary_cross_entropy_with_logits(heads[2](h), x, reduction="sum")
        loss = loss + 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def by_hand(case: Case, create_optimizer: Callable[..., torch.optim.Optimizer] = fused_adagrad) -> Contestant:
    """A loop in torch without Pyro."""
    step = hand_step(case, create_optimizer)

    def run() -> None:
        for _ in range(STEPS):
            step()

    return run


def numpyro_svi(case: Case) -> Contestant:
    """NumPyro's SVI, all steps of a turn in one jitted scan, minibatches drawn inside."""
    import jax
    import numpyro
    import numpyro.distributions as ndist
    from jax import numpy as jnp
    from numpyro.infer import SVI, TraceMeanField_ELBO

    values, features = jnp.asarray(case.data.train.values.numpy()), case.data.features

    def layer(name: str, x: jax.Array, inputs: int, outputs: int, sign: float = -1.0) -> jax.Array:
        weight = numpyro.param(f"{name}.w", lambda key: 0.01 * jax.random.normal(key, (inputs, outputs)))
        # The prior on the weights, which the bound takes with the other sign from a guide.
        numpyro.factor(f"{name}.prior", sign * 0.5 * case.batch / len(values) * (weight**2).sum())
        return x @ weight + numpyro.param(f"{name}.b", jnp.zeros(outputs))

    def p(x: jax.Array) -> None:
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", ndist.Normal(jnp.zeros(case.latent), 1.0).to_event(1))
            h = jnp.tanh(layer("hidden", z, case.latent, case.hidden))
            output = layer("x", h, case.hidden, features)
            if case.gaussian:
                scale = jnp.exp(0.5 * layer("variance", h, case.hidden, features))
                likelihood = ndist.Normal(jax.nn.sigmoid(output), scale)
            else:
                likelihood = ndist.Bernoulli(logits=output)
            numpyro.sample("x", likelihood.to_event(1), obs=x)

    def q(x: jax.Array) -> None:
        h = jnp.tanh(layer("encoder", x, features, case.hidden, 1.0))
        mean, log_variance = (layer(name, h, case.hidden, case.latent, 1.0) for name in ("mean", "log_variance"))
        with numpyro.plate("data", len(x)):
            numpyro.sample("z", ndist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1))

    def minibatch(key: jax.Array) -> jax.Array:
        chosen = jax.random.randint(key, (case.batch,), 0, len(values))
        return values[chosen].astype(jnp.float32) / case.data.train.divisor

    svi = SVI(p, q, numpyro.optim.Adagrad(STEP_SIZE, momentum=0.0), TraceMeanField_ELBO())
    state = svi.init(jax.random.key(0), minibatch(jax.random.key(1)))

    @jax.jit
    def turn(state: tuple, keys: jax.Array) -> tuple:
        return jax.lax.scan(lambda state, key: svi.update(state, minibatch(key)), state, keys)

    turns = 0

    def run() -> None:
        nonlocal state, turns
        turns += 1
        state, _ = jax.block_until_ready(turn(state, jax.random.split(jax.random.key(turns), STEPS)))

    return run


def matrix_products(case: Case) -> Contestant:
    """The matrix products of a step and nothing else: forward, and backward by weights and by inputs."""
    features, hidden, latent = case.data.features, case.hidden, case.latent
    outputs = 2 if case.gaussian else 1
    sizes = [(features, hidden), *[(hidden, latent)] * 2, (latent, hidden), *[(hidden, features)] * outputs]
    return products_of([(torch.randn(case.batch, a), torch.randn(a, b)) for a, b in sizes])


def products_of(layers: list[tuple[Tensor, Tensor]]) -> Contestant:
    """The matrix products of layers with these inputs and weights, the first of which sees the data."""
    with_gradients = [(x, w, torch.randn(len(x), w.shape[1])) for x, w in layers]

    def run() -> None:
        for _ in range(STEPS):
            for n, (x, w, g) in enumerate(with_gradients):
                x @ w
                x.T @ g
                if n:  # no one wants the gradient of the data
                    g @ w.T

    return run


def race[Name](contestants: dict[Name, Contestant], rounds: int) -> dict[Name, list[float]]:
    """Lets them take turns and returns their milliseconds a step, round by round."""
    times: dict[Name, list[float]] = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant()  # compiles
    for _ in range(rounds):
        for name, contestant in contestants.items():
            sleep(0.02)  # the threads of the one before fall asleep
            began = perf_counter()
            contestant()
            times[name].append(1e3 * (perf_counter() - began) / STEPS)
    return times


def quartiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values, n=4) if len(values) > 1 else values * 3


def table(times: dict[str, list[float]], reference: str) -> Iterator[str]:
    """The medians, and the median over rounds of each one's time as a multiple of the reference's."""
    yield f"| step | ms, median (quartiles) | ms / {reference} |\n|---|---|---|"
    for name, values in times.items():
        low, middle, high = quartiles(values)
        ratio = statistics.median(a / b for a, b in zip(values, times[reference], strict=True))
        yield f"| {name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {ratio:.2f} |"


OURS = "pyro_vae, AEVB"
CASES = ("mnist", 20, 500), ("frey", 10, 200)
SMOKE = (("digits", 2, 50),)


def side_by_side(case: Case) -> dict[str, Contestant]:
    contestants = {
        OURS: ours(case),
        "pyro_vae, AEVB by Adam": ours(case, optimizer="Adam"),
        "pyro_vae, AEVB by ClippedAdam": ours(case, optimizer="ClippedAdam"),
        "pyro_vae, wake-sleep": ours(case, WakeSleep),
        "pyro_vae, AEVB, --compile off": ours(case, compile=False),
        "pyro.infer.SVI.step": pyro_svi(case),
        "torch by hand, fused Adagrad": by_hand(case),
        "NumPyro SVI, jit and scan": numpyro_svi(case) if find_spec("numpyro") else None,
        "matrix products alone": matrix_products(case),
    }
    return {name: contestant for name, contestant in contestants.items() if contestant}


def peak_memory() -> str:
    """Trains from the command line and returns the peak of its resident memory, in MiB, as Linux tells it."""
    code = (  # `getrusage` would tell this process's own peak, which a child inherits
        "import sys; from pyro_vae.cli import main\n"
        "main(sys.argv[1:])\n"
        "print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024)"
    )
    command = [sys.executable, "-c", code, "train", "--data", CASES[0][0], "--latent", "20", "--samples", "2e4"]
    with TemporaryDirectory() as folder:
        out = ["--compile", "on", "--out", f"{folder}/run"]
        return subprocess.run([*command, *out], check=True, capture_output=True, text=True).stdout.split()[-1]


def picture(tables: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Medians over the rounds, with their quartiles."""
    size = (7.2, 0.9 + 0.26 * max(map(len, tables.values())))
    figure, axes = plt.subplots(1, len(tables), figsize=size, layout="constrained", squeeze=False, sharey=True)
    for ax, (title, times) in zip(axes[0], tables.items(), strict=True):
        names = list(times)
        low, middle, high = zip(*map(quartiles, times.values()), strict=True)
        spread = [[m - q for m, q in zip(middle, low, strict=True)], [q - m for m, q in zip(middle, high, strict=True)]]
        colors = ["#0072B2" if name == OURS else "0.75" for name in names]
        ax.barh(names, middle, xerr=spread, color=colors, error_kw={"elinewidth": 1, "capsize": 2})
        for n, (value, end) in enumerate(zip(middle, high, strict=True)):
            ax.annotate(f"{value:.1f}", (end, n), (4, 0), textcoords="offset points", va="center", fontsize=8)
        ax.set_title(title.replace(", ", "\n", 1), fontsize=8)
        ax.set_xlabel("ms a step: median and quartiles", fontsize=8)
        ax.set_xlim(0, 1.2 * max(high))
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].invert_yaxis()
    figure.savefig(path, dpi=200)
    plt.close(figure)


def redraw(out: Path) -> None:
    """Draws the picture from `steps.csv` alone."""
    tables: dict[str, dict[str, list[float]]] = {}
    with (out / "steps.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            tables.setdefault(row["case"], {}).setdefault(row["step"], []).append(float(row["milliseconds"]))
    picture({title: times for title, times in tables.items() if OURS in times}, out / "steps.png")
    print(out / "steps.png")


def main(rounds: int = 15, folder: str = "benchmark") -> None:
    out = Path(folder)
    if not rounds:
        redraw(out)
        return
    out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()  # as the command line does
    names = ("torch", "pyro-ppl", "numpyro", "jax")
    installed = ", ".join(f"{name} {version(name)}" for name in names if find_spec(name.removesuffix("-ppl")))
    cores = len(os.sched_getaffinity(0))
    print(
        f"Python {platform.python_version()}, {installed}; {torch.get_num_threads()} threads of torch on {cores} cores"
    )
    print(f"Milliseconds of a step, medians of {rounds} rounds of {STEPS} steps, the contestants taking turns.\n")
    tables = {}
    for case in [Case(*sizes) for sizes in (CASES if rounds > 1 else SMOKE)]:
        tables[case.title] = times = race(side_by_side(case), rounds)
        print(f"## {case.title}\n", *table(times, OURS), "", sep="\n", flush=True)
    shared = dict(tables)
    for title, contestants in other_pairs() if rounds > 1 else ():
        tables[title] = times = race(contestants, rounds)
        print(f"## {title[0].upper()}{title[1:]}, {CASES[0][0]}\n", *table(times, OURS), "", sep="\n", flush=True)
    if rounds > 1:
        print(f"Peak resident memory of a compiled training process: {peak_memory()} MiB\n", flush=True)
        subprocess.run([sys.executable, Path(__file__).with_name("benchmark_hmc.py"), "1000", str(rounds)], check=True)
    with (out / "steps.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "step", "round", "milliseconds"))
        writer.writerows(
            (title, name, n, round(value, 4))
            for title, times in tables.items()
            for name, values in times.items()
            for n, value in enumerate(values)
        )
    picture(shared, out / "steps.png")


if __name__ == "__main__":
    rounds, *rest = sys.argv[1:] or ["15"]
    try:
        main(int(rounds), *rest)
    except InputError as error:
        sys.exit(f"benchmark: {error}")
