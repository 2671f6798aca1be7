"""The linear-Gaussian oracle, tiny data, and the command line run in-process."""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from xarray import DataTree

from pyro_vae import to_arviz
from pyro_vae.cli import main
from pyro_vae.run import parts
from pyro_vae.split import Split

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # The background jobs of a shell ignore Ctrl-C, and so would all processes that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class LinearModel(PyroModule):
    """p(z) = N(0, I), p(x|z) = N(W z + b, s^2 I), all of it fixed: log p(x) and p(z|x) are known."""

    def __init__(self, weight: Tensor, bias: Tensor, noise: float) -> None:
        super().__init__("model")
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.noise = noise

    def forward(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        latent = self.weight.shape[1]
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(self.weight.new_zeros(latent), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z @ self.weight.T + self.bias, self.noise).to_event(1), obs=x)

    def log_px(self, x: Tensor) -> Tensor:
        """x is Gaussian with mean b and covariance W W^T + s^2 I."""
        covariance = self.weight @ self.weight.T + self.noise**2 * torch.eye(len(self.bias))
        return dist.MultivariateNormal(self.bias, covariance).log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z given x is Gaussian with covariance S = (I + W^T W / s^2)^-1 and mean S W^T (x - b) / s^2."""
        precision = torch.eye(self.weight.shape[1]) + self.weight.T @ self.weight / self.noise**2
        covariance = precision.inverse()
        return (x - self.bias) @ self.weight @ covariance / self.noise**2, covariance


class LinearGuide(PyroModule):
    """q(z|x) = N(A x + c, diag s^2): the family of the posterior where the columns of W are orthogonal."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__("guide")
        self.mean = nn.Linear(features, latent)
        self.log_scale = nn.Parameter(torch.zeros(latent))

    def forward(self, x: Tensor) -> Tensor:
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Normal(self.mean(x), self.log_scale.exp()).to_event(1))

    def set_exact(self, model: LinearModel) -> None:
        """Sets the parameters to those of the posterior."""
        zero = torch.zeros(1, len(model.bias))
        offset, covariance = model.posterior(zero)
        with torch.no_grad():
            self.mean.weight.copy_(model.posterior(torch.eye(len(model.bias)))[0].T - offset.T)
            self.mean.bias.copy_(offset[0])
            self.log_scale.copy_(covariance.diagonal().log() / 2)


class Oracle(NamedTuple):
    model: LinearModel
    guide: LinearGuide
    x: Tensor
    split: Split


def _oracle() -> Oracle:
    torch.manual_seed(1)
    columns, _ = torch.linalg.qr(torch.randn(5, 2))
    model = LinearModel(columns * torch.tensor([1.5, 0.7]), torch.randn(5), noise=0.6)
    with torch.no_grad():
        x = model(None, size=200)
    return Oracle(model, LinearGuide(5, 2), x, Split(x))


@pytest.fixture
def oracle() -> Oracle:
    """Two latents, five features, 200 datapoints drawn from the model; the columns of W are orthogonal."""
    return _oracle()


class Exported(NamedTuple):
    model: LinearModel
    guide: LinearGuide
    x: Tensor
    tree: DataTree


@pytest.fixture(scope="session")
def exported() -> Exported:
    """The first twelve datapoints of the oracle, with an exact guide, and its export: 4 chains of 1,000 draws."""
    model, guide, x, _ = _oracle()
    guide.set_exact(model)
    x = x[:12]
    return Exported(
        model, guide, x, to_arviz(model, guide, x, draws=1000, warmup=100, predictive=1200, image_shape=(1, 5))
    )


@pytest.fixture
def pixels() -> Split:
    """Sixty datapoints of twelve grey bytes."""
    values = torch.randint(0, 256, (60, 12), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    return Split(values, divisor=256)


def _prior(name: str, latent: int, features: int, guide: nn.Module) -> nn.Module:
    part = parts.find("prior", name)
    offered = {"features": features, "guide": guide}
    return part(latent, **{key: value for key, value in offered.items() if parts.takes(part, key)})


@pytest.fixture
def create_prior() -> Callable[..., nn.Module]:
    """Builds a prior of the shelf by its name, with what it takes."""
    return _prior


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in an empty folder and returns its exit status and its two outputs."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return Result(status, *capsys.readouterr())

    return run


class InProcess:
    """Workers that run a command in this process, one at a time, without the seconds that a new process takes."""

    def __init__(self, jobs: int | None = None) -> None:
        self.commands: list[list[str]] = []

    def share(self, runs: int) -> int:
        return 1

    def run(self, arguments: Sequence[str], log: Path) -> tuple[int, str]:
        self.commands.append([*arguments])
        status = 0
        with log.open("a") as errors, redirect_stderr(errors), redirect_stdout(StringIO()) as output:
            try:
                main(arguments)
            except SystemExit as end:
                status = int(end.code or 0)
        return status, output.getvalue()

    def stop(self) -> None:
        pass


@pytest.fixture
def workers() -> InProcess:
    return InProcess()


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `pyro-vae paper` and `sweep` train in this process."""
    monkeypatch.setattr("pyro_vae.run.workers.Local", InProcess)


@pytest.fixture
def real_data() -> Path:
    """The folder of MNIST and Frey Face, where there is one."""
    folder = Path(os.environ.get("PYRO_VAE_DATA", "data")).resolve()
    if not (folder / "MNIST").is_dir() or not (folder / "FreyFace").is_dir():
        pytest.skip("no MNIST and Frey Face here: set PYRO_VAE_DATA to their folder")
    return folder
