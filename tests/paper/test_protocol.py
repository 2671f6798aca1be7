"""The paper's protocol: its panels, and what an algorithm gets."""

import subprocess
import sys

import pytest

from pyro_vae.errors import InputError
from pyro_vae.paper.protocol import FIGURE2, FIGURE3, PANELS, STEP_SIZES, find_algorithm, read_panels


def test_panels_are_read_as_they_are_written():
    expected = [("mnist", 3), ("mnist", 20), ("frey", 10)]
    assert read_panels(["mnist:3,20", "frey:10"]) == read_panels(["mnist:3,20 frey:10"]) == expected
    assert read_panels(["mnist:3,20 frey:10", "mnist:20"]) == expected
    assert len(read_panels([])) == 9
    assert read_panels(["frey"]) == [("frey", size) for size in PANELS["frey"]]
    for wrong in ("mnist:x", "cifar:3", "mnist:0", "mnist:3,,4"):
        with pytest.raises(InputError, match=f"--panels {wrong} is not possible"):
            read_panels([wrong])


def test_the_papers_algorithms_get_what_the_paper_gives_them_and_others_the_defaults():
    assert find_algorithm("aevb").arguments == ("--kl", "analytic")
    assert find_algorithm("mcem").step_sizes == (0.1,)
    assert all(find_algorithm(name).color for name in {*FIGURE2, *FIGURE3})
    for spec, name in (("full_vb", "full_vb"), ("folder/mine.py", "mine"), ("folder/mine.py:Mine", "Mine")):
        other = find_algorithm(spec)
        assert (other.name, other.color, other.arguments, other.step_sizes) == (name, None, (), STEP_SIZES)


def test_it_needs_neither_torch_nor_pandas():
    code = "import sys, pyro_vae.paper.protocol; assert not {'torch', 'pandas'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
