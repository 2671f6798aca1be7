"""Images side by side: what lies where, and what is dark."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pyro_vae import train
from pyro_vae.errors import InputError
from pyro_vae.run import images


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Eight by eight pixels of data that are light on dark, as photographs are."""
    folder = tmp_path_factory.mktemp("images")
    np.save(folder / "x.npy", np.random.default_rng(0).random((50, 8, 8)))
    return train(folder / "run", data=str(folder / "x.npy"), samples=100, batch=10, hidden=5, progress=False)


def _with(run, shape, data=None):
    return replace(
        run,
        dataset=replace(run.dataset, image_shape=shape),
        settings=replace(run.settings, data=data or run.settings.data),
    )


def _picture(run, rows, columns):
    axes = Figure().subplots()
    size = images.show(axes, rows, run, columns)
    picture = axes.images[0].get_array()
    assert picture.shape == (*size, 3)
    return picture


def test_images_are_laid_out_row_by_row_with_a_line_between_them(run):
    # Five grey images of 8 pixels in three columns, a white pixel around each: the sixth place stays white.
    greys = torch.linspace(0, 0.8, 5).unsqueeze(1).expand(5, 64)
    picture = _picture(run, greys, 3)
    assert picture.shape == (2 * 9 + 1, 3 * 9 + 1, 3)
    expected = np.ones_like(picture)
    for n, grey in enumerate((0.0, 0.2, 0.4, 0.6, 0.8)):
        row, column = 1 + 9 * (n // 3), 1 + 9 * (n % 3)
        expected[row : row + 8, column : column + 8] = grey
    np.testing.assert_allclose(picture, expected, atol=1e-6)


def test_an_image_keeps_its_orientation_and_what_is_missing_is_grey(run):
    image = torch.arange(64.0) / 64  # brighter to the right and to the bottom
    image[5] = float("nan")
    first, _ = np.split(_picture(run, [image, 2 * image - 0.5], 2)[1:-1, 1:-1], [8], axis=1)
    expected = image.nan_to_num(0.5).reshape(8, 8, 1).expand(8, 8, 3)
    np.testing.assert_allclose(first, expected, atol=1e-6)


def test_ink_is_dark_on_paper(run):
    ones = torch.ones(1, 64)
    assert (_picture(run, ones, 1) == 1).all()
    for name in ("digits", "mnist", "MNIST", "KMNIST"):
        assert (_picture(_with(run, (8, 8), name), ones, 1) == 0).all()


def test_colours_are_shown_and_cells_beside_the_image_are_not(run):
    # Two by three pixels, red in the first column and blue in the last, and a label beside them.
    image = torch.tensor([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0]]] * 2)
    row = torch.cat([image.flatten(), torch.tensor([7.0])])
    picture = _picture(_with(run, (2, 3, 3)), row.expand(2, -1), 2)
    assert picture.shape == (2 + 2, 2 * 4 + 1, 3)
    for left in (1, 5):
        np.testing.assert_array_equal(picture[1:3, left : left + 3], image)


def test_a_table_has_no_images(run):
    with pytest.raises(InputError, match=r"a picture needs images, and .*x.npy is a table"):
        _picture(_with(run, None), torch.ones(1, 64), 1)


def test_the_axes_of_a_manifold_are_the_priors_quantiles(run):
    # The middles of three cells of equal probability: the normal distribution's inverse CDF at 1/6, 1/2, 5/6.
    axes = Figure().subplots()
    images.show_manifold(axes, run, 3)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["-0.97", "0.00", "0.97"]
    # Each stands under the middle of its column of images, of 8 pixels and one between them.
    np.testing.assert_allclose(axes.get_xticks(), [28 / 6, 28 / 2, 28 * 5 / 6])
