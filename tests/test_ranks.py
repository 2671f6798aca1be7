"""Several processes on one model, started by torchrun: they do what one would do."""

import json
import os
import signal
import subprocess
import sys
import time

import arviz as az
import numpy as np
import pytest
import torch

from pyro_vae import ranks, to_arviz
from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.full_vb import FullVB
from pyro_vae.inference.mcem import MCEM
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.score import evaluate
from pyro_vae.run.train import train
from pyro_vae.split import Split

RANKS = 2
# The paper's Adagrad moves nothing in its first 100 steps.
STEPS, ITERATIONS = 120, 20
# An odd number: the first of two ranks has one datapoint more than the second.
DATAPOINTS, FEATURES, LATENT, BATCH = 101, 12, 3, 20


def data():
    """Pixels with probabilities that are all different."""
    return Split(torch.rand(DATAPOINTS, FEATURES, generator=torch.Generator().manual_seed(5)))


def learner(part, data, **options):
    """A learner whose weights, and whose random numbers from here on, are those of seed 7."""
    torch.manual_seed(7)
    model, guide = BernoulliModel(FEATURES, LATENT, hidden=8), GaussianGuide(FEATURES, LATENT, hidden=8)
    torch.manual_seed(7)
    return part(model, None if part is MCEM else guide, data, step_size=0.1, **options)


def weights(learner):
    """The parameters of a learner's model and guide."""
    modules = [learner.model] + ([] if learner.guide is None else [learner.guide])
    return torch.nn.utils.parameters_to_vector([p for module in modules for p in module.parameters()]).detach()


def main(path):
    """Saves what two ranks come to."""
    ranks.join()
    split = data().divided()
    found = {}
    for part, compiled in ((AEVB, False), (AEVB, True), (WakeSleep, False)):
        trained = learner(part, split, batch=BATCH, compile=compiled)
        costs = [trained.step() for _ in range(STEPS)]
        found[part.__name__, compiled] = (weights(trained), costs)
    chains = learner(MCEM, split)
    costs = [chains.step() for _ in range(ITERATIONS)]
    state = chains.state_dict()
    found["MCEM"] = (weights(chains), costs, state, chains.acceptance, chains.loss)
    aevb = learner(AEVB, split, batch=BATCH)
    dataset = Dataset("some", split, split, (3, 4), "", "none")
    found["evaluation"] = evaluate(aevb.model, aevb.guide, dataset, particles=50)
    every = ranks.gathered([found["evaluation"], *(weights(each) for each in (trained, chains))])
    if ranks.rank() == 0:
        torch.save({**found, "every": every}, path)


def torchrun(*arguments, **options):
    """Starts processes under torchrun, on loopback."""
    local = ("--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(RANKS))
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *local, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two ranks have come to; see `main`."""
    path = tmp_path_factory.mktemp("ranks") / "found.pt"
    process = torchrun(__file__, str(path))
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return torch.load(path, weights_only=True)


class Apart:
    """The generators and the data of two ranks, for one process to take the part of each in turn."""

    def __init__(self, algorithm, monkeypatch):
        # Each datapoint of a rank with 51 of 101 stands for 51 * 2 / 101, so that the sums over both are unbiased.
        monkeypatch.setattr(Split, "weight", property(lambda part: len(part) * RANKS / DATAPOINTS))
        self.parts, self.states = [], []
        for n in range(RANKS):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ranks, "rank", lambda n=n: n)
                patch.setattr(ranks, "count", lambda: RANKS)
                self.parts.append(data().divided())
                learner(algorithm, self.parts[n], batch=BATCH)
            self.states.append(torch.get_rng_state())

    def turns(self, learner):
        """Lets the learner be each of the ranks."""
        for n, part in enumerate(self.parts):
            torch.set_rng_state(self.states[n])
            learner.data, learner.rows = part, BATCH // RANKS
            yield n
            self.states[n] = torch.get_rng_state()


@pytest.mark.parametrize("compiled", [False, True])
def test_two_ranks_of_aevb_are_one_process_with_their_minibatches_and_noise(found, monkeypatch, compiled):
    one = learner(AEVB, data(), batch=BATCH)
    apart = Apart(AEVB, monkeypatch)
    for _ in range(STEPS):
        for _ in apart.turns(one):
            one.update.accumulate(one.data.values)
        one.update.apply()
    moved, costs = found["AEVB", compiled]
    # The clock counts the datapoints of both ranks.
    assert costs == [BATCH] * STEPS
    torch.testing.assert_close(moved, weights(one), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(moved, weights(learner(AEVB, data(), batch=BATCH)), atol=1e-2)


def test_two_ranks_of_wake_sleep_are_one_process_with_their_minibatches_and_noise(found, monkeypatch):
    one = learner(WakeSleep, data(), batch=BATCH)
    apart = Apart(WakeSleep, monkeypatch)
    for _ in range(STEPS):
        awake = {n: one.wake.accumulate(one.data.values) for n in apart.turns(one)}
        one.wake.apply()
        for n in apart.turns(one):
            one.sleep.accumulate(*awake[n][2:])
        one.sleep.apply()
    moved, costs = found["WakeSleep", False]
    assert costs == [BATCH] * STEPS
    torch.testing.assert_close(moved, weights(one), rtol=1e-4, atol=1e-5)


def test_every_datapoint_has_the_chain_that_it_has_in_one_process(found):
    one = learner(MCEM, data())
    costs = [one.step() for _ in range(ITERATIONS)]
    moved, their_costs, state, acceptance, loss = found["MCEM"]
    assert their_costs == costs
    torch.testing.assert_close(state["position"], one.position, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(moved, weights(one), rtol=1e-4, atol=1e-5)
    assert (acceptance.item(), loss.item()) == pytest.approx((one.acceptance.item(), one.loss.item()), rel=1e-4)
    # The chains go on in one process where two have left them, and with the same random numbers.
    other = learner(MCEM, data())
    torch.nn.utils.vector_to_parameters(moved, other.model.parameters())
    other.load_state_dict(state)
    for each in (one, other):
        torch.set_rng_state(state["generators"]["ranks"][0]["cpu"])
        each.step()
    torch.testing.assert_close(other.position, one.position, rtol=1e-3, atol=1e-4)


def test_the_ranks_agree(found):
    first, second = found["every"]
    assert first[0] == second[0] == found["evaluation"]
    for theirs, others in zip(first[1:], second[1:], strict=True):
        assert torch.equal(theirs, others)


def test_an_evaluation_by_two_ranks_is_that_of_one_but_for_its_noise(found):
    one = learner(AEVB, data(), batch=BATCH)
    dataset = Dataset("some", data(), data(), (3, 4), "", "none")
    alone, both = evaluate(one.model, one.guide, dataset, particles=50), found["evaluation"]
    assert both["datapoints"] == DATAPOINTS
    assert both["importance"]["particles"] == 50
    # Independent estimates: 5 standard errors of their difference.
    for (value, error), (other, its) in (
        ((alone["bound"], alone["bound_se"]), (both["bound"], both["bound_se"])),
        *(
            ((each["log_px"], each["se"]), (their["log_px"], their["se"]))
            for each, their in [(alone["importance"], both["importance"])]
        ),
    ):
        assert value != other
        assert abs(value - other) < 5 * (error**2 + its**2) ** 0.5


TINY = ("train", "--data", "digits", "--latent", "2", "--hidden", "8", "--compile", "off", "--out", "run")


def test_a_run_of_torchrun_is_interrupted_and_goes_on_with_another_number_of_ranks(tmp_path):
    process = torchrun("-m", "pyro_vae", *TINY, "--samples", "1e8", cwd=tmp_path)
    folder = tmp_path / "run"
    for _ in range(600):
        time.sleep(0.1)
        metrics = folder / "metrics.csv"
        if (folder / "checkpoint.pt").exists() and len(metrics.read_text().splitlines()) > 9:
            break
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert "pyro-vae: interrupted: continue with --resume" in errors
    assert errors.count("      1,000 samples") == 1  # the first rank alone reports
    before = read_metrics(folder)
    samples = int(before[-1][0]) * 3
    run = train(folder, resume=True, samples=samples, progress=False)
    assert run.rows[: len(before)] == before
    assert run.rows[-1][0] >= samples
    assert run.rows[-1][3] > before[1][3]


def test_an_analysis_by_two_ranks_is_that_of_one_but_for_its_noise(tmp_path):
    run = train(tmp_path / "run", latent=2, hidden=16, samples=60_000, compile="off", progress=False)
    options = ("--limit", "21", "--draws", "60", "--warmup", "40", "--compile", "off", "--json")
    process = torchrun("-m", "pyro_vae", "analyze", str(run.path), *options)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    both = json.loads(output)  # one object: the first rank alone prints
    tree = az.from_netcdf(run.path / "analysis" / "draws.nc")
    x = run.dataset.test.first(21)
    alone = to_arviz(run.model, run.guide, x, draws=60, warmup=40, predictive=100, image_shape=(8, 8), seed=0)
    assert {name: dict(group.sizes) for name, group in tree.children.items()} == {
        name: dict(group.sizes) for name, group in alone.children.items()
    }
    # Each datapoint is in its place, and its posterior mean is right to 6 standard errors: of 240 draws at least 40
    # count, which in units of a posterior standard deviation is sqrt(2 / 40) for the difference of two means.
    assert tree["observed_data"].to_dataset().equals(alone["observed_data"].to_dataset())
    mine, theirs = (each["posterior"]["z"] for each in (alone, tree))
    assert not np.array_equal(mine, theirs)
    apart = (mine.mean(("chain", "draw")) - theirs.mean(("chain", "draw"))) / mine.std(("chain", "draw"))
    assert float(abs(apart).max()) < 6 * (2 / 40) ** 0.5
    assert (both["run"]["datapoints"], both["calibration"]["hmc"]["simulations"]) == (21, 200)
    estimated = run.evaluate(limit=21)["importance"]
    error = (both["gaps"]["log_px_se"] ** 2 + estimated["se"] ** 2) ** 0.5
    assert abs(both["gaps"]["log_px"] - estimated["log_px"]) < 5 * error


def _as_one_of(monkeypatch, count):
    monkeypatch.setattr(ranks, "count", lambda: count)


def test_what_cannot_run_on_ranks_is_refused(monkeypatch, tmp_path):
    one = train(tmp_path / "full", inference="full_vb", samples=300, latent=2, hidden=5, progress=False)
    _as_one_of(monkeypatch, 3)
    with pytest.raises(InputError, match="--batch 100 does not divide among 3 ranks: give a multiple of 3"):
        learner(AEVB, data(), batch=100)
    with pytest.raises(InputError, match="block 5 leaves ranks without a datapoint: give at least 6"):
        learner(MCEM, data(), block=5)
    few = Split(data().values[:2])
    with pytest.raises(InputError, match="2 datapoints do not divide among 3 ranks: start fewer"):
        few.divided()
    monkeypatch.setattr(ranks, "rank", lambda: 2)
    part = data().divided()
    with pytest.raises(InputError, match="2 datapoints do not divide among 3 ranks: start fewer"):
        part.head(2)
    with pytest.raises(InputError, match="share the draws of random weights: evaluate them without torchrun"):
        evaluate(one.model, one.guide, one.dataset)
    with pytest.raises(InputError, match="--inference full_vb runs in one process: start it without torchrun"):
        train(tmp_path / "other", inference="full_vb", samples=300, latent=2, hidden=5, progress=False)
    assert not hasattr(FullVB, "runs_on_ranks")
    assert not (tmp_path / "other").exists()


def test_parts_of_the_data_are_disjoint_and_all_of_it(monkeypatch):
    _as_one_of(monkeypatch, 3)
    whole, parts = data(), []
    for n in range(3):
        monkeypatch.setattr(ranks, "rank", lambda n=n: n)
        parts.append(whole.divided())
        assert parts[-1].total == DATAPOINTS
        head = parts[-1].head(10)
        assert (head.total, torch.equal(head.values, whole.values[:10][n::3])) == (10, True)
        assert (len(parts[-1].some(10)), parts[-1].some(10).total) == (len(range(n, 10, 3)), 10)
    together = torch.empty_like(whole.values)
    for n, part in enumerate(parts):
        together[n::3] = part.values
    assert torch.equal(together, whole.values)
    # Minibatches have as many of each part, and each datapoint counts once in the mean.
    assert sum(part.weight * len(whole) / (3 * len(part)) for part in parts) == pytest.approx(3)


if __name__ == "__main__":  # what torchrun starts
    main(sys.argv[1])
