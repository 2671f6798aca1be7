"""`pyro-vae sample`, `reconstruct` and `manifold`, run as a user would."""

import pytest
from matplotlib.image import imread

from pyro_vae import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("pictures") / "run", samples=2000, hidden=20, progress=False)


@pytest.mark.parametrize(
    ("command", "picture"),
    [
        (("sample", "--number", "7"), "samples.png"),
        (("reconstruct", "--number", "3"), "reconstructions.png"),
        (("manifold", "--grid", "4"), "manifold.png"),
    ],
)
def test_a_picture_lies_in_the_run_or_where_it_is_asked_for(cli, run, tmp_path, command, picture):
    name, *options = command
    result = cli(name, run.path, *options)
    assert (result.status, result.out) == (0, f"{run.path / picture}\n")
    result = cli(name, run.path, "--out", tmp_path / "elsewhere.png", *options)
    assert (result.status, result.out) == (0, f"{tmp_path / 'elsewhere.png'}\n")
    assert (imread(tmp_path / "elsewhere.png") == imread(run.path / picture)).all()
    result = cli(name, run.path, "--out", "picture.jpg")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "--out picture.jpg is not possible: give the name of a .png file" in result.err
