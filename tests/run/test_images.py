"""Images side by side: what lies where, and what is dark."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pyro_vae import load_data, train
from pyro_vae.data.schema import described, without_data
from pyro_vae.errors import InputError
from pyro_vae.run import images
from pyro_vae.split import Split


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Eight by eight pixels of data that are light on dark, as photographs are."""
    folder = tmp_path_factory.mktemp("images")
    np.save(folder / "x.npy", np.random.default_rng(0).random((50, 8, 8)))
    return train(folder / "run", data=str(folder / "x.npy"), samples=100, batch=10, hidden=5, progress=False)


def _with(run, shape, **changed):
    return replace(run, dataset=replace(run.dataset, image_shape=shape, **changed))


def _picture(run, rows, columns):
    axes = Figure().subplots()
    size = images.show(axes, rows, run, columns)
    picture = axes.images[0].get_array()
    assert picture.shape == (*size, 3)
    return picture


@pytest.mark.parametrize(("side", "gap"), [(8, 2), (16, 1)])
def test_images_are_laid_out_row_by_row_apart_from_each_other(run, side, gap):
    # Five grey images in three columns, white pixels around each, two where they are few: the sixth place stays white.
    greys = torch.linspace(0, 0.8, 5).unsqueeze(1).expand(5, side**2)
    picture = _picture(_with(run, (side, side)), greys, 3)
    step = side + gap
    assert picture.shape == (2 * step + gap, 3 * step + gap, 3)
    expected = np.ones_like(picture)
    for n, grey in enumerate((0.0, 0.2, 0.4, 0.6, 0.8)):
        row, column = gap + step * (n // 3), gap + step * (n % 3)
        expected[row : row + side, column : column + side] = grey
    np.testing.assert_allclose(picture, expected, atol=1e-6)


def test_an_image_keeps_its_orientation_and_what_is_missing_is_grey(run):
    image = torch.arange(64.0) / 64  # brighter to the right and to the bottom
    image[5] = float("nan")
    first, _ = np.split(_picture(run, [image, 2 * image - 0.5], 2)[2:-2, 2:-2], [8, 10], axis=1)[:2]
    expected = image.nan_to_num(0.5).reshape(8, 8, 1).expand(8, 8, 3)
    np.testing.assert_allclose(first, expected, atol=1e-6)


def test_ink_is_dark_on_paper(run):
    ones = torch.ones(1, 64)
    assert (_picture(run, ones, 1) == 1).all()
    assert (_picture(_with(run, (8, 8), ink=True), ones, 1)[2:-2, 2:-2] == 0).all()
    digits = load_data("digits")
    assert digits.ink
    assert without_data("digits", described(digits), "gone").ink


def test_counts_are_scaled_to_their_data(run):
    # Counts 0 to 39 as often as one another: 99.5 % of them are at most 39, which is white.
    counts = torch.arange(40.0).repeat(16, 1).t().reshape(10, 64)
    counted = _with(run, (8, 8), train=Split(counts))
    picture = _picture(counted, torch.full((1, 64), 39 / 2), 1)
    np.testing.assert_allclose(picture[2:-2, 2:-2], 0.5, atol=1e-6)


def test_colours_are_shown_and_cells_beside_the_image_are_not(run):
    # Two by three pixels, red in the first column and blue in the last, and a label beside them.
    image = torch.tensor([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0]]] * 2)
    row = torch.cat([image.flatten(), torch.tensor([7.0])])
    picture = _picture(_with(run, (2, 3, 3)), row.expand(2, -1), 2)
    assert picture.shape == (2 + 4, 2 * 5 + 2, 3)
    for left in (2, 7):
        np.testing.assert_array_equal(picture[2:4, left : left + 3], image)


def test_a_table_has_no_images(run):
    with pytest.raises(InputError, match=r"a picture needs images, and .*x.npy is a table"):
        _picture(_with(run, None), torch.ones(1, 64), 1)


def test_the_axes_of_a_manifold_are_the_priors_quantiles_with_round_ticks(run):
    # Columns are the normal distribution's quantiles at 1/8, 3/8, 5/8 and 7/8, the outer ones +-1.15035 and the inner
    # +-0.31864: 1 lies (1 - 0.31864) / (1.15035 - 0.31864) = 0.81923 of the way between the last two.
    axes = Figure().subplots()
    images.show_manifold(axes, run, 4)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["-1", "-0.5", "0", "0.5", "1"]
    size = 4 * 10 + 2  # of 8 pixels each, two apart
    share = (2.5 + 0.81923) / 4
    np.testing.assert_allclose(axes.get_xticks()[[0, 2, 4]], [size * (1 - share), size / 2, size * share], rtol=1e-4)
    # The second one grows upwards, and rows of pixels downwards.
    np.testing.assert_allclose(axes.get_yticks()[[0, 2, 4]], [size * share, size / 2, size * (1 - share)], rtol=1e-4)
