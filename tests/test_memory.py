"""The memory at hand, asked before something large is allocated."""

import subprocess
import sys

import pytest
from torch import nn

from pyro_vae.memory import free_memory, require_room, said, widest


def test_what_the_machine_has_not_is_refused():
    require_room(2**20, "it takes")
    require_room(free_memory() // 2, "it takes")
    with pytest.raises(ValueError, match=r"it unpacks to 1 PB, and \d.* of memory are free"):
        require_room(10**15, "it unpacks to")


def test_the_limit_of_a_process_counts():
    """What `ulimit -v` leaves: 8 GiB of addresses, of which the libraries take some."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))\n"
        "from pyro_vae.memory import free_memory; print(free_memory())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 2**33


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (9.1e9, "9.1 GB"), (3e15, "3 PB"), (5e25, "5.0e+10 PB")],
)
def test_sizes_are_said_with_their_unit(size, text):
    assert said(size) == text


def test_the_widest_layer_is_found():
    assert widest([nn.Linear(3, 70), nn.Linear(70, 2)], 50) == 70
    assert widest([nn.Linear(3, 7), nn.LazyLinear(900)], 50) == 50  # it has no shape yet
