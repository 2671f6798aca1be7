"""Files with Pyro programs from the command line: they train, are opened again, and mistakes are told in one line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import pyro_vae
from pyro_vae.errors import InputError

# A pair of functions around nets, and a class of two methods, with the same mathematics.
FILE = """
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn
from torch.distributions import constraints

pyro.set_rng_seed(1)
pyro.clear_param_store()
decoder, encoder = nn.Linear(2, 3), nn.Linear(3, 2)


def model(batch):
    pyro.module("decoder", decoder)
    scale = pyro.param("scale", lambda: torch.tensor(0.5), constraint=constraints.positive)
    # MODEL
    with pyro.plate("rows", batch.shape[0]):
        z = pyro.sample("latent", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        loc = decoder(z)
        # BETWEEN
        pyro.sample("obs", dist.Normal(loc, scale).to_event(1), obs=batch)


def guide(batch):
    pyro.module("encoder", encoder)
    # GUIDE
    with pyro.plate("rows", batch.shape[0]):
        # INSIDE
        pyro.sample("latent", dist.Normal(encoder(batch), 0.5).to_event(1))


class VAE(nn.Module):
    def __init__(self, features, image_shape=None, z_dim=2, use_cuda=False):
        super().__init__()
        assert image_shape == (1, features)
        self.decoder, self.encoder = nn.Linear(z_dim, features), nn.Linear(features, z_dim)
        self.z_dim = z_dim

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("latent", dist.Normal(x.new_zeros(x.shape[0], self.z_dim), 1.0).to_event(1))
            pyro.sample("obs", dist.Normal(self.decoder(z), 0.5).to_event(1), obs=x.reshape(-1, 3))

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("latent", dist.Normal(self.encoder(x), 0.5).to_event(1))


if __name__ == "__main__":
    raise SystemExit("this is a script")
"""


def program(*replaced, **pieces):
    """The file with lines put in at `model`, `between`, `guide` and `inside`, and texts replaced."""
    text = FILE
    for place, lines in pieces.items():
        before, _, after = text.partition(f"# {place.upper()}\n")
        assert after
        text = before + f"\n{' ' * (len(before) - before.rfind(chr(10)) - 1)}".join(lines.splitlines()) + "\n" + after
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def run(cli, monkeypatch):
    """Writes a file, trains it into a folder and returns the result."""
    monkeypatch.setattr("pyro_vae.run.training._DRAWS", 100)
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[1.0, 0, 0.5], [0, 1, -0.5]])
    np.save("x.npy", x.numpy()[:, None])

    def trained(text, *options, model="vae.py:model", out="run"):
        Path("vae.py").write_text(text)
        learning = ("--samples", "1e3", "--batch", 20, "--step-size", "1e-2", "--optimizer", "adam", "--no-figures")
        return cli("train", "--data", "x.npy", "--model", model, *learning, "--out", out, *options)

    return trained


@pytest.mark.parametrize("spec", ["vae.py:model", "vae.py:VAE"])
def test_a_file_of_pyros_trains_and_is_used_as_any_other(spec, run, cli):
    z_dim = ("--set", "model.z_dim=2") if "VAE" in spec else ()
    result = run(FILE, *z_dim, model=spec)
    assert result.status == 0, result.err
    opened = pyro_vae.Run.open("run", trust=True)
    assert opened.settings.guide == (spec if "VAE" in spec else "vae.py:guide")
    assert opened.rows[-1][2] > opened.rows[0][2]
    found = json.loads(cli("evaluate", "run", "--trust", "--json", "--particles", 10).out)
    assert found["importance"]["log_px"] >= found["bound"]
    for command in (("sample",), ("reconstruct",), ("encode", "--data", "x.npy", "--out", "z.csv"),
                    ("analyze", "--limit", 3, "--draws", 20, "--warmup", 10, "--quick")):  # fmt: skip
        result = cli(command[0], "run", "--trust", *command[1:])
        assert result.status == 0, result.err
    Path("x.npy").unlink()  # what needs no data goes on without them
    assert cli("sample", "run", "--trust").status == 0


@pytest.mark.parametrize(("spec", "compile"), [("vae.py:model", "on"), ("vae.py:VAE", "off")])
def test_it_is_resumed_bitwise_and_runs_do_not_touch_each_other(spec, compile, run, cli):
    ends = {}
    for out, samples in (("whole", 2000), ("part", 1000)):
        assert run(FILE, "--samples", samples, "--compile", compile, model=spec, out=out).status == 0
    result = cli("train", "--resume", "--samples", 2000, "--out", "part", "--trust", "--no-figures")
    assert result.status == 0, result.err
    assert "uncompiled" not in result.err
    assert run(FILE, "--samples", 2000, "--compile", compile, model=spec, out="again").status == 0
    ends = {out: Path(out, "weights.safetensors").read_bytes() for out in ("whole", "part", "again")}
    assert ends["whole"] == ends["part"] == ends["again"]


def test_a_guide_may_be_another_and_a_file_may_be_named_alone(run):
    named = (("# INSIDE", "return pyro.sample('latent', dist.Normal(encoder(batch), 2.0).to_event(1))"),)
    result = run(program() + program(*named)[FILE.index("def guide") :].replace("def guide", "def wide").partition(
        "class VAE")[0], "--guide", "vae.py:wide")  # fmt: skip
    assert result.status == 0, result.err
    without_class = FILE.partition("class VAE")[0]
    result = run(without_class, model="vae.py", out="alone")
    assert result.status == 0, result.err
    assert pyro_vae.Run.open("alone", trust=True).settings.guide == "vae.py:guide"


def test_arguments_of_functions_are_set_and_given(run):
    text = program(("def model(batch):", "def model(batch, latent=5, factor=1.0, size=None):"),
                   ("batch.shape[0]", "(size if batch is None else len(batch))"),
                   ("loc = decoder(z)", "loc = factor * decoder(z)\n        assert latent == 3"))  # fmt: skip
    text = text.replace("def guide(batch):", "def guide(batch, latent=5):\n    assert latent == 3")
    result = run(text, "--latent", 3, "--set", "model.factor=2.0")
    assert result.status == 0, result.err


MISTAKES = {
    "a parameter that comes late": (
        program(model="model.calls = getattr(model, 'calls', 0) + 1\n"
                "if model.calls > 1: pyro.param('late', torch.zeros(()))"),
        r"pyro.param 'late' \(vae.py:\d+\) appears only after the first run, .*: ask for it in each call",
    ),
    "a parameter for each row": (
        program(inside="pyro.param('rows', torch.zeros(len(batch)))"),
        r"pyro.param 'rows' \(vae.py:\d+\) has shape \(2,\), and had \(20,\) in the first run: make its shape indep",
    ),
    "a parameter without a first value": (
        program(model="pyro.param('empty')"),
        r"pyro.param 'empty' \(vae.py:\d+\) has no first value: give it one where it is first asked for",
    ),
    "a parameter of whole numbers": (
        program(model="pyro.param('count', torch.tensor(3))"),
        r"pyro.param 'count' \(vae.py:\d+\) starts from a value of torch.int64, which cannot learn",
    ),
    "a first value outside": (
        program(("torch.tensor(0.5), constraint", "torch.tensor(-0.5), constraint")),
        r"pyro.param 'scale' \(vae.py:\d+\) starts from a value outside of its constraint",
    ),
    "a net that is made in the call": (
        program(('pyro.module("decoder", decoder)', 'decoder = pyro.module("decoder", nn.Linear(2, 3))')),
        r"pyro.module 'decoder' \(vae.py:\d+\) is given a net that is made in the call: make it once, outside",
    ),
    "two nets of one name": (
        program(('pyro.module("encoder", encoder)', 'pyro.module("decoder", encoder)')),
        r"pyro.param 'decoder\$\$\$weight' \(vae.py:\d+\) stands for two tensors, .*: give each net a name of its own",
    ),
    "an argument that nobody gives": (
        program(("def model(batch):", "def model(batch, beta):")),
        "vae.py:model takes 'beta', which a run does not know: give it a default",
    ),
    "no data": (
        program(("def model(batch):", "def model():")), "vae.py:model takes no data: give it a first argument x",
    ),
    "nothing observed": (
        program(("obs=batch", "obs=None")), "vae.py:model does not observe the data: sample a site 'x' with obs=x",
    ),
    "other data observed": (
        program(("obs=batch", "obs=batch + 1")),
        "vae.py:model observes 'obs', and none of it is the data as it is given them: sample a site with obs=x",
    ),
    "a latent variable x": (
        program(('"latent"', '"x"')),
        r"site 'x' \(vae.py:\d+\) is no data, and the data are 'obs': the name is theirs here, call it otherwise",
    ),
    "a latent variable without a guide": (
        program(between="pyro.sample('u', dist.Normal(0.0, 1.0))"),
        "vae.py:guide does not sample site 'u' of vae.py:model: give it one of that name",
    ),
    "latent variables of all datapoints in a plate": (
        program(
            model="with pyro.plate('parts', 3): pyro.sample('w', dist.Normal(0.0, 1.0))",
            guide="with pyro.plate('parts', 3): pyro.sample('w', dist.Normal(0.0, 1.0))",
        ),
        r"site 'w' of vae.py:guide lies in no plate of the datapoints, .*: make it one by .to_event",
    ),
    "a likelihood of the data": (
        program(between="loc = loc + batch.flip(-1)"),
        "vae.py:model draws site 'x' from the data that it is given, so that it cannot generate any: let it depend",
    ),
    "a plate on another dimension": (
        program(('pyro.plate("rows", batch.shape[0])', 'pyro.plate("rows", batch.shape[0], dim=-2)')),
        r"site 'latent' of vae.py:guide must be sampled inside pyro.plate\('data', n, dim=-1\), .*another dimension",
    ),
    "a plate of the features": (
        program(("dist.Normal(loc, scale).to_event(1), obs=batch", "dist.Normal(loc, scale), obs=batch")),
        r"site 'obs' of vae.py:model must be sampled inside pyro.plate.*made events by .to_event\(1\)",
    ),
    "a name that is not there": (program(), r"vae.py has no class modell: it has VAE", "vae.py:modell"),
    "a constructor's argument": (
        program(("z_dim=2, use_cuda", "z_dim, use_cuda"), ("image_shape=None, z", "image_shape, z")),
        "model VAE takes z_dim, which has no default: give --set model.z_dim=VALUE",
        "vae.py:VAE",
    ),
    "an unknown argument": (
        program(), "--set model.zdim is unknown: VAE takes features, image_shape, z_dim, use_cuda", "vae.py:VAE",
        "--set", "model.zdim=3",
    ),
    "an argument of the guide of a pair": (
        program(), "--set guide.z_dim is one of a pair: give --set model.z_dim", "vae.py:VAE", "--set", "guide.z_dim=3",
    ),
    "a setting that a pair does not take": (
        program(), "--hidden 7 does not apply to VAE: leave it out", "vae.py:VAE", "--hidden", 7,
    ),
    "nothing named": (
        program(('pyro.module("decoder", decoder)', "pass"), ('pyro.module("encoder", encoder)', "pass"),
                ("scale = pyro.param", "scale = 0.5 or pyro.param")),
        "model and guide has no parameter that learns: .*name the nets of a function by pyro.module",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name, run):
    text, message, *rest = MISTAKES[name]
    result = run(text, *rest[1:], model=(rest or ["vae.py:model"])[0])
    assert (result.status, result.err.count("\n")) == (2, 1), result.err
    assert re.search(message, result.err), result.err
    assert not Path("run").exists()


def test_it_is_an_input_error_in_python_too(run, tmp_path):
    run(program(model="pyro.param('empty')"))
    with pytest.raises(InputError, match=r"pyro\.param 'empty'"):
        pyro_vae.train(tmp_path / "r", data="x.npy", model="vae.py:model", progress=False)


def test_sizes_of_a_function_are_held_against_memory(run):
    """Weights of 3 x 10^10 numbers in pyro.param, 120 GB, and the product of two narrow ones of as many."""
    wide = """wide = pyro.param("wide", lambda: torch.zeros(3, width))"""
    taking = ("def model(batch):", "def model(batch, width=4):")
    text = program(taking, model=wide)
    assert run(text, out="small").status == 0
    result = run(text, "--set", "model.width=10000000000", out="large")
    assert result.status == 2
    line = r"pyro-vae: --model vae.py:model needs 120 GB \(vae.py:\d+\), and [\d.]+ GB of memory are free: lower .*\n"
    assert re.fullmatch(line, result.err)
    assert not Path("large").exists()
    product = 'wide = pyro.param("wide", lambda: torch.ones(width, 1) @ torch.ones(1, width))'
    result = run(program(taking, model=product), "--set", "model.width=200000", out="large")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "needs 160 GB" in result.err
