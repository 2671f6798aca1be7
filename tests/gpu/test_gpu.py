"""What a GPU does is what a CPU does: for `make gpu`, where there is one.

`PYRO_VAE_GPU=cpu python -m pytest tests/gpu` rehearses all but what only CUDA has.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from pyro import poutine

from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.hmc import HMC, sample
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.ais import AIS
from pyro_vae.inference.bdmc import BDMC
from pyro_vae.inference.full_vb import FullVB
from pyro_vae.inference.importance import Importance
from pyro_vae.inference.mcem import MCEM
from pyro_vae.inference.reciprocal import Reciprocal
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.log_joint import LogJoint
from pyro_vae.marginal import Estimates
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.gaussian import GaussianModel
from pyro_vae.models.normal import NormalModel
from pyro_vae.models.student_t import StudentTModel
from pyro_vae.replay import capture
from pyro_vae.run.folder import read_metrics
from pyro_vae.sites import isolated
from pyro_vae.split import Split

DEVICE = os.environ.get("PYRO_VAE_GPU", "cuda")
CUDA = DEVICE.startswith("cuda")
pytestmark = pytest.mark.skipif(CUDA and not torch.cuda.is_available(), reason="no GPU here")
needs_cuda = pytest.mark.skipif(not CUDA, reason="only CUDA has it")

LEARNERS = {
    "aevb": (AEVB, {}),
    "aevb, analytic": (AEVB, {"kl": "analytic"}),
    "aevb, Adam": (AEVB, {"optimizer": "Adam"}),
    "wake_sleep": (WakeSleep, {}),
    "mcem": (MCEM, {}),
    "full_vb": (FullVB, {}),
}


def learner(name, compile, seed=0):
    """A small learner on the device; its weights are drawn on the host, so that they are those of any device."""
    part, options = LEARNERS[name]
    torch.manual_seed(seed)
    model, guide = BernoulliModel(12, 3, hidden=8), GaussianGuide(12, 3, hidden=8)
    x = torch.rand(60, 12, generator=torch.Generator().manual_seed(5))
    split, own = Split(x).to(DEVICE), {} if part is MCEM else {"batch": 20}
    return part(model.to(DEVICE), None if part is MCEM else guide.to(DEVICE), split, compile=compile, **own, **options)


def weights(learner):
    modules = [learner.model] + ([] if learner.guide is None else [learner.guide])
    return torch.nn.utils.parameters_to_vector([p for module in modules for p in module.parameters()]).detach().cpu()


@pytest.mark.parametrize("name", LEARNERS)
def test_compiled_steps_are_the_plain_ones(name):
    plain, compiled = learner(name, compile=False), learner(name, compile=True)
    before = weights(plain)
    for each in (plain, compiled):
        torch.manual_seed(1)
        for _ in range(5 if name == "mcem" else 130):  # the paper's Adagrad moves nothing in the first 100
            each.step()
    assert not torch.equal(weights(plain), before)
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-3, atol=1e-4)


@needs_cuda
@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "mcem"])
def test_a_graph_repeats_what_steps_do(name):
    """The generator goes on inside a graph as outside, so that the same draws come."""
    stepped, recorded = learner(name, compile=True), learner(name, compile=True)
    for each in (stepped, recorded):
        torch.manual_seed(1)
        for _ in range(110):
            each.step()
    assert recorded.settled
    replay = capture(recorded, 10)
    assert replay is not None
    state = torch.cuda.get_rng_state()
    cost = sum(stepped.step() for _ in range(30))
    torch.cuda.set_rng_state(state)
    assert sum(replay() for _ in range(3)) == cost
    torch.testing.assert_close(weights(recorded), weights(stepped), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(recorded.loss, stepped.loss, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("part", [BernoulliModel, GaussianModel, NormalModel, StudentTModel])
def test_log_densities_and_their_gradients_are_the_cpus(part):
    torch.manual_seed(0)
    model = part(12, 3, hidden=8)
    x = torch.rand(60, 12)
    z = torch.randn(60, 3)
    found = []
    for device in ("cpu", DEVICE):
        at = z.to(device).requires_grad_()
        conditioned = poutine.condition(model.to(device), {"z": at})
        trace = poutine.trace(conditioned).get_trace(x.to(device))
        total = trace.log_prob_sum()
        found.append((total.detach().cpu(), *(g.cpu() for g in torch.autograd.grad(total, [at, *model.parameters()]))))
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-3)


ESTIMATORS = {
    "importance": Importance(particles=2000),
    "ais": AIS(temperatures=200),
    "bdmc": BDMC(),
    "reciprocal": Reciprocal(),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_find_log_px(oracle, name):
    """Exact: x is Gaussian. The mean over 100 datapoints within four standard errors, and 0.02 for the log's bias."""
    oracle.guide.set_exact(oracle.model)
    exact = oracle.model.log_px(oracle.x[:100]).mean()
    model, guide = oracle.model.to(DEVICE), oracle.guide.to(DEVICE)
    torch.manual_seed(0)
    found = ESTIMATORS[name].estimate(model, guide, Split(oracle.x[:100]).to(DEVICE))
    mean, error = Estimates(found.log_px, found.se).mean()
    # The reciprocal estimator fits a density to draws, and errs by tenths of a nat (Appendix D).
    assert abs(mean - exact) < 4 * error + (0.5 if name == "reciprocal" else 0.02)


def test_hmc_draws_from_the_posterior(oracle):
    x = oracle.x[:50]
    mean, _ = oracle.model.posterior(x)
    torch.manual_seed(0)
    with isolated():
        log_joint = LogJoint(oracle.model.to(DEVICE), x.to(DEVICE))
        kernel = HMC(log_joint.with_gradient, log_joint.start(chains=40))
        draws = sample(kernel, draws=20, warmup=90)
    # Chains share nothing but arithmetic: the spread between their means is the error. Of 100 scores with 39 degrees of
    # freedom, one is beyond 5 by chance with 0.1 %.
    error = draws.position.mean(0).cpu() - mean
    scores = error.mean(0) / (error.std(0) / 40**0.5)
    assert scores.abs().max() < 5


def run(*arguments):
    """A command in a process of its own."""
    command = [sys.executable, "-m", "pyro_vae", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SMALL = ("--hidden", 50, "--step-size", 0.05, "--samples", "4e4", "--no-figures")


@pytest.mark.parametrize("algorithm", ["aevb", "wake_sleep"])
def test_a_run_learns_what_it_learns_on_a_cpu(tmp_path, algorithm):
    ends = []
    for device in ("cpu", DEVICE):
        out = tmp_path / f"run{len(ends)}"
        run("train", *SMALL, "--compile", "on", "--inference", algorithm, "--device", device, "--out", out)
        ends.append(read_metrics(out)[-1][3])
    # Other random numbers: over seeds the bound of these runs has a standard deviation of about 0.3 nats.
    assert ends[1] == pytest.approx(ends[0], abs=1.5)
    run("evaluate", out, "--device", "cpu", "--particles", 50)


def test_a_run_goes_on(tmp_path):
    once, twice = tmp_path / "once", tmp_path / "twice"
    run("train", *SMALL, "--device", DEVICE, "--out", once)
    run("train", *SMALL, "--device", DEVICE, "--out", twice, "--samples", "2e4")
    run("train", "--resume", "--samples", "4e4", "--no-figures", "--out", twice)
    # Kernels of a GPU need not add in one order, so that the last bits differ, and grow.
    assert read_metrics(twice)[-1][3] == pytest.approx(read_metrics(once)[-1][3], abs=0.3)


def test_minibatches_are_copied_ahead(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.integers(0, 256, (4000, 64), dtype=np.uint8))
    run("train", "--data", tmp_path / "x.npy", *SMALL, "--device", DEVICE, "--out", tmp_path / "run")
    assert np.isfinite(read_metrics(tmp_path / "run")[-1][3])


def test_several_runs_share_a_device(tmp_path):
    run("sweep", "--grid", "latent=2,5", "--seeds", 2, "--jobs", 4, *SMALL[:-1], "--device", DEVICE, "--out", tmp_path)
    assert len((tmp_path / "sweep.csv").read_text().splitlines()) == 5


@needs_cuda
def test_one_rank_by_nccl(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m", "pyro_vae"]
    rest = ["train", *map(str, SMALL), "--device", DEVICE, "--out", str(tmp_path / "run")]
    done = subprocess.run([*command, *rest], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.isfinite(read_metrics(tmp_path / "run")[-1][3])
