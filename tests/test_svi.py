"""Pyro's own training against the traced one: every pair on the shelves, every kind of estimator and optimiser."""

import copy
import logging
import math

import pyro
import pyro.infer
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

from pyro_vae.errors import InputError
from pyro_vae.inference.aevb import AEVB
from pyro_vae.run import parts
from pyro_vae.split import Split
from pyro_vae.support import first_offence

PAIRS = [(model, "gaussian") for model in parts.names("model")]
PAIRS += [
    (guide if guide in parts.names("model") else "bernoulli", guide)
    for guide in parts.names("guide")
    if guide != "gaussian"
]
ESTIMATORS = {
    "Trace_ELBO": {"elbo": Trace_ELBO},
    "TraceMeanField_ELBO": {"elbo": TraceMeanField_ELBO},
    "three particles": {"elbo": Trace_ELBO, "particles": 3},
}
# Step sizes that move parameters of 0.01 by much less than they are, twenty times.
OPTIMIZERS = {"Adagrad": 1e-3, "Adam": 1e-4, "ClippedAdam": 1e-4}


@pytest.fixture
def interpreted(monkeypatch):
    """Runs traced functions as torch records them: what the compiler makes of the record is tested with `Traced`."""
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda graph, *_, **__: graph)


def _twenty_steps(model, guide, pixels, compile, **settings):
    model, guide = copy.deepcopy(model), copy.deepcopy(guide)
    learner = AEVB(model, guide, pixels, batch=20, weight_prior=math.inf, compile=compile, **settings)
    torch.manual_seed(1)
    for _ in range(20):
        learner.step()
    assert learner.update.compiles is compile
    return [*model.parameters(), *guide.parameters(), learner.loss]


def _data(model, pixels):
    """Grey pixels, or counts for a likelihood that has no other values."""
    return pixels if first_offence(model, pixels) is None else Split(pixels.values % 17)


def _built(model, guide):
    torch.manual_seed(0)
    return parts.find("model", model)(12, 2, hidden=7), parts.find("guide", guide)(12, 2, hidden=7)


SUMMED = ("mixture_of_gaussians", "semi_supervised")
COUNTS = ("binomial", "negative_binomial", "poisson", "zero_inflated_negative_binomial")


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_each_pair_trains_by_svi_as_by_the_trace(pair, estimator, pixels, interpreted):
    # Of one sum in another order float32 leaves 1e-7, relatively; Adagrad's first step is one of size 1e-3 in the
    # direction of each gradient, whatever its size, so that a parameter with next to no gradient may differ by that.
    model, guide = _built(*pair)
    pixels = Split(pixels.values % 5) if pair[0] in COUNTS else pixels
    settings = {"optimizer": "Adagrad", "step_size": 1e-3, **ESTIMATORS[estimator]}
    data = _data(model, pixels)
    if pair[0] in SUMMED and estimator == "TraceMeanField_ELBO":
        with pytest.raises(InputError, match="cannot sum out the sites that are marked"):
            _twenty_steps(model, guide, data, False, **settings)
        return
    plain, traced = (_twenty_steps(model, guide, data, compile, **settings) for compile in (False, True))
    for a, b in zip(plain, traced, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimiser_trains_by_svi_as_by_the_trace(optimizer, estimator, pixels, interpreted):
    model, guide = _built("bernoulli", "gaussian")
    settings = {"optimizer": optimizer, "step_size": OPTIMIZERS[optimizer], **ESTIMATORS[estimator]}
    plain, traced = (_twenty_steps(model, guide, pixels, compile, **settings) for compile in (False, True))
    for a, b in zip(plain, traced, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5)
    before = [*model.parameters(), *guide.parameters()]
    assert max((a - b).abs().max().item() for a, b in zip(plain, before, strict=False)) > 1e-4


@pytest.mark.parametrize("optimizer", ["Adam", "ClippedAdam", "AdagradRMSProp"])
def test_the_plain_way_is_pyros(optimizer, pixels):
    """Pyro makes an optimiser for each parameter, we have one for all: the numbers are the same."""
    model, guide = _built("gaussian", "gaussian")
    ours = _twenty_steps(model, guide, pixels, False, optimizer=optimizer, step_size=1e-3)
    learner = AEVB(model, guide, pixels, batch=20)  # draws nothing
    rate = "eta" if optimizer == "AdagradRMSProp" else "lr"
    torch.manual_seed(1)
    with pyro.get_param_store().scope():
        svi = SVI(model, guide, getattr(pyro.optim, optimizer)({rate: 1e-3}), Trace_ELBO())
        for _ in range(20):
            loss = svi.step(pixels.minibatch(20))
    assert learner.loss == 0
    for a, b in zip(ours, [*model.parameters(), *guide.parameters(), torch.tensor(loss / 20)], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


OWN_ELBO = """
import pyro.infer
from pyro.infer.util import torch_item
from pyro.util import warn_if_nan

class Tempered(pyro.infer.Trace_ELBO):
    '''Half the weight on the guide's entropy: the loss of Trace_ELBO plus half of log q.'''

    def __init__(self, weight=0.5, **settings):
        super().__init__(**settings)
        self.weight = weight

    def _differentiable_loss_particle(self, model_trace, guide_trace):
        loss, surrogate = super()._differentiable_loss_particle(model_trace, guide_trace)
        log_q = guide_trace.log_prob_sum()
        warn_if_nan(log_q, "log q")
        return loss - self.weight * torch_item(log_q), surrogate - self.weight * log_q
"""


def test_an_estimator_of_the_users_own_trains_from_its_file(cli, tmp_path):
    # q is rewarded half as much for its entropy: it ends narrower. Both ways of training end in one place.
    (tmp_path / "own.py").write_text(OWN_ELBO)
    ends, widths = {}, {}
    for name, elbo in (("plain", "own.py"), ("compiled", "own.py:Tempered"), ("usual", "Trace_ELBO")):
        compile = "on" if name == "compiled" else "off"
        result = cli("train", "--hidden", 20, "--samples", "1e4", "--optimizer", "adam", "--step-size", "3e-3",
                     "--elbo", elbo, "--compile", compile, "--no-figures", "--out", name)  # fmt: skip
        assert result.status == 0, result.err
        assert "uncompiled" not in result.err
        ends[name] = float((tmp_path / name / "metrics.csv").read_text().split(",")[-1])
        run = pyro_vae_open(tmp_path / name)
        x = run.dataset.test.first()
        widths[name] = run.guide.posterior(x).base_dist.scale.mean().item()
    assert ends["compiled"] == pytest.approx(ends["plain"], abs=0.05)
    assert widths["plain"] < 0.9 * widths["usual"]
    assert (tmp_path / "plain" / "parts" / "elbo.py").read_text() == OWN_ELBO
    wrong = cli("train", "--elbo", "own.py:Tempered", "--set", "elbo.wait=3", "--out", "r")
    assert wrong.status == 2
    assert "elbo" in wrong.err
    assert "wait" in wrong.err


def pyro_vae_open(path):
    from pyro_vae import Run

    return Run.open(path, trust=True)


@pytest.mark.parametrize("elbo", [TraceGraph_ELBO, RenyiELBO])
def test_an_estimator_that_cannot_be_differentiated_trains_plainly_with_one_warning(elbo, pixels, caplog):
    caplog.set_level(logging.WARNING, logger="pyro_vae")
    model, guide = _built("bernoulli", "gaussian")
    learner = AEVB(model, guide, pixels, batch=20, elbo=elbo, particles=2, optimizer="adam", compile=True)
    for _ in range(3):
        learner.step()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "pyro_vae"]
    assert line == f"{elbo.__name__} has no differentiable_loss: its steps run uncompiled"
    assert learner.loss.isfinite()


def test_short_words_and_estimators_exclude_each_other(pixels):
    model, guide = _built("bernoulli", "gaussian")
    with pytest.raises(InputError, match="kl = analytic stands for TraceMeanField_ELBO: leave out one"):
        AEVB(model, guide, pixels, kl="analytic", elbo=TraceGraph_ELBO)
    AEVB(model, guide, pixels, kl="analytic", elbo=TraceMeanField_ELBO)
    with pytest.raises(InputError, match="elbo object cannot be built"):
        AEVB(model, guide, pixels, elbo=object)


def test_several_threads_trace_and_step_side_by_side(pixels):
    # While one thread traces, Pyro's reads of the loss are replaced in that thread alone.
    import threading

    from pyro_vae.host_reads import without_host_reads

    original = pyro.infer.util.torch_item
    seen = {}
    inside, leave = threading.Event(), threading.Event()

    def trace():
        with without_host_reads():
            inside.set()
            leave.wait(10)
            seen["tracing"] = pyro.infer.util.torch_item(torch.ones(()))

    thread = threading.Thread(target=trace)
    thread.start()
    assert inside.wait(10)
    assert pyro.infer.util.torch_item is not original
    seen["other"] = pyro.infer.util.torch_item(torch.ones(()))
    leave.set()
    thread.join()
    assert isinstance(seen["tracing"], torch.Tensor)
    assert seen["other"] == 1.0
    assert not isinstance(seen["other"], torch.Tensor)
    assert pyro.infer.util.torch_item is original
    with pytest.raises(ZeroDivisionError), without_host_reads():
        _ = 1 / 0
    assert pyro.infer.util.torch_item is original


def test_data_of_one_rank_weigh_one(pixels):
    assert Split(pixels.values).weight == 1.0
