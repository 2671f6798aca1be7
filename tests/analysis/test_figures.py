"""The pictures: what lies where."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from pyro_vae import Run, train
from pyro_vae.analysis import figures
from pyro_vae.errors import InputError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("figures") / "run", samples=12_000, hidden=10, latent=2, progress=False)


def test_images_are_laid_out_row_by_row(run):
    # Five grey images in three columns: the sixth place stays white. Digits of 8 pixels are drawn four times as large.
    images = torch.linspace(0, 0.8, 5).unsqueeze(1).expand(5, 64)
    axes = Figure().subplots()
    height, width = figures._show(axes, images, run, columns=3)
    assert (height, width) == (2 * 33 - 1, 3 * 33 - 1)
    picture = axes.images[0].get_array()
    for n, grey in enumerate((0.0, 0.2, 0.4, 0.6, 0.8, 1.0)):
        row, column = 33 * (n // 3), 33 * (n % 3)
        np.testing.assert_allclose(picture[row : row + 32, column : column + 32], grey, atol=1e-6)
    assert (picture[32] == 1).all()  # the line between the rows


def test_an_image_keeps_its_orientation(run):
    image = torch.arange(64.0) / 64  # brighter to the right and to the bottom
    axes = Figure().subplots()
    figures._show(axes, [image], run, columns=1)
    picture = axes.images[0].get_array()
    np.testing.assert_allclose(picture[::4, ::4], image.reshape(8, 8), atol=1e-6)


@pytest.mark.parametrize("draw", [figures.curve, figures.sample, figures.reconstruct, figures.manifold])
def test_every_picture_can_be_drawn_anywhere_and_again(run, draw, tmp_path):
    first, second = (draw(run, path=tmp_path / f"{n}.png") for n in (1, 2))
    assert np.array_equal(imread(first), imread(second))
    assert imread(first)[..., :3].std() > 0.05  # not blank
    for path in (tmp_path / "no" / "such" / "folder.png", tmp_path / "picture", tmp_path):
        with pytest.raises(InputError, match=r"give the name of a \.png file in a folder that exists"):
            draw(run, path=path)


def test_a_run_without_two_latents_has_no_manifold(tmp_path):
    run = train(tmp_path / "run", samples=1000, hidden=5, latent=3, progress=False)
    assert sorted(path.name for path in figures.all_of(run)) == ["curve.png", "reconstructions.png", "samples.png"]
    assert isinstance(Run.open(tmp_path / "run"), Run)
