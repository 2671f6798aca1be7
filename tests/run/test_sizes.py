"""How large parts get, held against the memory at hand before they are."""

import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pyro_vae import Run, train
from pyro_vae.errors import InputError
from pyro_vae.run import parts, sizes
from pyro_vae.run.sizes import built_within, require_step, within_memory

CPU = torch.device("cpu")
GIB = 2**30


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Plain(nn.Module):
    """Weights that only torch's own constructors make."""

    def __init__(self, n):
        super().__init__()
        self.a, self.b = nn.Linear(n, 3), nn.Parameter(torch.zeros(n))


class Drawn(nn.Module):
    """Weights that are drawn, and looked at: the meta device cannot build it."""

    def __init__(self, n):
        super().__init__()
        self.a = nn.Parameter(torch.randn(n) * random.random() * np.random.rand())
        self.largest = self.a.max().item()


class Repeated(nn.Module):
    """What other tensors are blown up to."""

    def __init__(self, n, how):
        super().__init__()
        start = torch.ones(1)
        self.register_buffer(
            "a",
            {
                "expand": lambda: start.expand(n).clone(),
                "repeat": lambda: start.repeat(n),
                "outer": lambda: torch.ones(n // 1000, 1) * torch.ones(1, 1000),
                "arange": lambda: torch.arange(n),
                "eye": lambda: torch.eye(int(n**0.5)),
                "new": lambda: start.new_zeros(n),
            }[how](),
        )


@pytest.fixture
def ten_gigabytes(monkeypatch):
    monkeypatch.setattr(sizes, "free_memory", lambda: 10 * 10**9)


def test_what_is_too_large_is_refused_with_its_numbers_before_it_is_allocated(ten_gigabytes):
    before = peak()
    # 3 * 10^12 weights and 3 biases of the layer, 10^12 of the other: 4 bytes each.
    with pytest.raises(InputError, match=r"^model Plain has 4,000,000,000,003 parameters or more, 16 TB, and 10 GB of"):
        built_within("model Plain", lambda: Plain(10**12))
    # 4 * 4 * 10^8 numbers, of which the largest tensor would fit alone: 10 GB hold 5 GB twice.
    with pytest.raises(InputError, match=r"1,600,000,003 parameters or more, 6.4 GB"):
        built_within("model Plain", lambda: Plain(4 * 10**8))
    with pytest.raises(InputError, match="model Drawn has"):
        built_within("model Drawn", lambda: Drawn(10**12))
    assert peak() - before < GIB / 2


@pytest.mark.parametrize("how", ["expand", "repeat", "outer", "arange", "eye", "new"])
def test_whatever_makes_a_tensor_is_seen(ten_gigabytes, how):
    before = peak()
    with pytest.raises(InputError, match="of memory are free: lower its sizes"):
        built_within("model Repeated", lambda: Repeated(10**12, how))
    assert peak() - before < GIB / 2
    assert len(built_within("model Repeated", lambda: Repeated(10**4, how)).a) > 0


def test_a_prior_leaves_room_for_the_networks(ten_gigabytes):
    # Two buffers of 10^8 numbers, 0.8 GB: more than an eighth of the half of 10 GB. Each network is at least as large.
    before = peak()
    line = "prior NormalPrior with latent 100,000,000 has 200,000,000 parameters or more, 800 MB, .* most of it for the"
    with pytest.raises(InputError, match=line):
        parts.build("prior", parts.find("prior", "normal"), 10**8)
    assert peak() - before < GIB / 4


def test_a_million_layers_are_refused_soon():
    part = parts.find("model", "bernoulli")
    with pytest.raises(InputError, match=r"depth 1,000,000 has more than 20,000 tensors of weights: lower its sizes"):
        parts.build("model", part, 4, 2, own={"depth": 10**6}, hidden=2)


def test_what_fits_is_what_it_would_be_without_a_look(monkeypatch):
    """A part that is large is built twice, with the same random numbers."""
    monkeypatch.setattr(sizes, "_LARGE", 1000)
    monkeypatch.setattr(sizes, "_SMALL", 100)

    def made(build):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        return build().a, torch.rand(1), random.random(), np.random.rand()

    usual = made(lambda: Drawn(10**4))
    assert all(a == b if isinstance(a, float) else torch.equal(a, b) for a, b in zip(
        usual, made(lambda: built_within("model Drawn", lambda: Drawn(10**4))), strict=True
    ))  # fmt: skip


def test_nothing_is_left_behind(ten_gigabytes):
    """Neither hooks nor a mode of torch's."""
    with pytest.raises(InputError):
        built_within("model Plain", lambda: Plain(10**12))
    hooks = nn.modules.module._global_parameter_registration_hooks
    assert not hooks
    assert torch.zeros(2).device == CPU


MADE = {
    "zeros": lambda n: torch.zeros(n),
    "a matrix of two vectors": lambda n: torch.ones(n // 1000, 1) @ torch.ones(1, 1000),
    "a layer's output": lambda n: nn.functional.linear(torch.ones(n // 1000, 2), torch.ones(1000, 2)),
    "distances": lambda n: torch.cdist(torch.ones(n // 1000, 2), torch.ones(1000, 2)),
    "draws": lambda n: torch.distributions.Normal(0.0, 1.0).sample((n,)),
    "draws of a generator": lambda n: torch.randn(n, generator=torch.Generator()),
    "a tensor that grows": lambda n: torch.empty(0).resize_(n),
    "padding": lambda n: nn.functional.pad(torch.ones(1), (0, n)),
    "classes": lambda n: nn.functional.one_hot(torch.tensor([0]), n),
    "many that are kept": lambda n: [torch.empty(n // 100) for _ in range(100)],
    "a list of them": lambda n: torch.cat([torch.ones(1).expand(n // 2)] * 2),
}


@pytest.mark.parametrize("how", MADE)
def test_a_function_makes_nothing_that_no_memory_holds(ten_gigabytes, how):
    before = peak()
    line = r"^--model f needs \S+ [GT]B.*, and 10 GB of memory are free: lower its sizes$"
    with pytest.raises(InputError, match=line), within_memory("--model f"):
        MADE[how](4 * 10**9)  # 16 GB, and 32 GB of whole numbers
    assert peak() - before < GIB / 2
    with within_memory("--model f"):
        small = MADE[how](10**5)
    assert len(small) > 0


def test_what_is_let_go_of_counts_no_more(ten_gigabytes):
    """Three times 4.8 GB, of which one is there at a time, and then all; what nobody writes takes no place."""
    with within_memory("--model f"):
        for _ in range(3):
            torch.empty(12 * 10**8)
    kept = []

    def keep():
        for _ in range(3):
            kept.append(torch.empty(12 * 10**8))

    with pytest.raises(InputError, match=r"needs 14.4 GB \(test_sizes.py:\d+\), and 10 GB"), within_memory("--model f"):
        keep()
    assert len(kept) == 2


def test_a_step_that_no_memory_holds_is_refused(ten_gigabytes):
    module = nn.Linear(100, 50)
    require_step([module], 100, 1, 100, CPU)
    # 2 * 100 * 10^9 * 100 numbers of 4 bytes.
    with pytest.raises(InputError, match=r"--batch 100 with --particles 1000000000 and 5,050 parameters need 80 TB"):
        require_step([module], 100, 10**9, 100, CPU)


def test_weights_are_read_before_a_model_is_looked_at(tmp_path, monkeypatch):
    # 9 pixels of 4 grey levels were trained; 10^6 levels would make 100 * 9 * 10^6 numbers of the datapoints of a look.
    monkeypatch.chdir(tmp_path)
    bytes_ = np.random.default_rng(0).integers(0, 4, (200, 9), dtype=np.uint8)
    train("run", data=bytes_, model="categorical", hidden=5, samples=200, set={"model": {"levels": 4}}, progress=False)
    record = Path("run/run.toml")
    record.write_text(record.read_text().replace("levels = 4", "levels = 1000000"))
    before = peak()
    with pytest.raises(InputError, match=r"decoder.1.weight has shape \(36, 5\), not \(9000000, 5\)"):
        Run.open("run")
    assert peak() - before < GIB
    with pytest.raises(InputError, match=r"checkpoint.pt does not fit the run: .* not \(9000000, 5\)"):
        train("run", resume=True, samples=400, progress=False)
    assert peak() - before < GIB
    record.write_text(record.read_text().replace('prior = "normal"', 'prior = "mixture"').replace("1000000", "4"))
    with pytest.raises(InputError, match=r"weights.safetensors cannot be read: it lacks p_z.logits"):
        Run.open("run")
    with pytest.raises(InputError, match=r"checkpoint.pt does not fit the run: ValueError: it lacks p_z.logits"):
        train("run", resume=True, samples=400, progress=False)
