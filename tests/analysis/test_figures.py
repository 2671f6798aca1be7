"""The pictures of a run."""

from dataclasses import replace

import numpy as np
import pandas as pd
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


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Three columns, a category among them, and labels."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 2, 300)
    data = {"size": rng.normal(groups), "count": rng.poisson(3, 300), "kind": np.array(["a", "b"])[groups]}
    pd.DataFrame(data | {"group": groups}).to_csv(folder / "t.csv", index=False)
    settings = {"kinds": "count:count,kind:category", "model": "mixed", "label": "group"}
    return train(
        folder / "run", data=str(folder / "t.csv"), samples=1000, hidden=5, latent=1, progress=False, **settings
    )


DRAW = {
    "curve": figures.curve,
    "sample": figures.sample,
    "reconstruct": figures.reconstruct,
    "manifold": figures.manifold,
    "latent": figures.latent,
    "traverse": figures.traverse,
    "interpolate": lambda run, **where: figures.interpolate(run, 3, 7, **where),
}


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_every_picture_is_a_figure_and_is_saved_where_that_is_asked_and_again(run, draw, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in run.path.iterdir()}
    figure = draw(run)
    assert isinstance(figure, Figure)
    assert {path: path.stat().st_mtime_ns for path in run.path.iterdir()} == before
    first, second = tmp_path / "1.png", tmp_path / "2.png"
    draw(run, path=str(first))
    assert figures.save(figure, second) is figure
    assert np.array_equal(imread(first), imread(second))
    assert imread(first)[..., :3].std() > 0.05  # not blank


def test_a_picture_needs_a_place(run, tmp_path):
    for path in (tmp_path / "no" / "such" / "folder.png", tmp_path / "picture", tmp_path):
        with pytest.raises(InputError, match=r"give the name of a \.png, \.svg or \.pdf file in a folder that exists"):
            figures.curve(run, path=path)


def test_a_run_without_two_latents_has_no_manifold(tmp_path):
    run = train(tmp_path / "run", samples=1000, hidden=5, latent=3, progress=False)
    drawn = ["curve.png", "latent.png", "reconstructions.png", "samples.png"]
    assert sorted(path.name for path in figures.all_of(run)) == drawn
    assert isinstance(Run.open(tmp_path / "run"), Run)
    (axes,) = figures.latent(run).axes
    assert axes.get_xlabel().startswith("component 1 (")


def _tiles(figure, count, gap=2, side=8):
    """The images in a row of a figure, whose ink is dark: as values of the data."""
    picture = 1 - figure.axes[0].images[0].get_array()[gap : gap + side, :, 0]
    return [picture[:, gap + n * (side + gap) :][:, :side] for n in range(count)]


def test_a_path_goes_from_one_datapoint_to_the_other(run):
    x = run.dataset.test.first(8)[[3, 7]]
    tiles = _tiles(figures.interpolate(run, 3, 7, steps=3), 5)
    np.testing.assert_allclose(tiles[0], x[0].view(8, 8), atol=1e-6)
    np.testing.assert_allclose(tiles[-1], x[1].view(8, 8), atol=1e-6)
    with torch.no_grad():
        z = run.guide.posterior(x).mean
        expected = run.model.likelihood(torch.stack([z[0], z.mean(0), z[1]])).mean
    for tile, image in zip(tiles[1:-1], expected, strict=True):
        np.testing.assert_allclose(tile, image.view(8, 8), atol=1e-5)


def test_given_latent_variables_are_decoded(run):
    (tile,) = _tiles(figures.sample(run, z=[[1.5, -0.3]]), 1)
    with torch.no_grad():
        expected = run.model.likelihood(torch.tensor([[1.5, -0.3]])).mean
    np.testing.assert_allclose(tile, expected.view(8, 8), atol=1e-6)


def test_a_row_of_a_traversal_moves_one_latent_variable(run):
    # All but one are at datapoint 5's means, so that each row has an image of a point on a line along an axis through
    # these. The middle of the normal prior is 0, up to the error of a median of 10,000 draws, 0.0125.
    (axes,) = figures.traverse(run, index=5, steps=3).axes
    with torch.no_grad():
        z = run.guide.posterior(run.dataset.test.first(6)[5:]).mean
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert {*names} <= {"$z_{1}$", "$z_{2}$"}  # those that are used
    picture = 1 - axes.images[0].get_array()[..., 0]
    for row, name in enumerate(names):
        point = z.clone()
        point[0, int(name[-3]) - 1] = 0.0
        with torch.no_grad():
            expected = run.model.likelihood(point).mean.view(8, 8)
        tile = picture[2 + 10 * row :, 2 + 10 :][:8, :8]
        np.testing.assert_allclose(tile, expected, atol=0.02)


def test_the_latent_space_shows_the_encoders_means_by_label(run):
    _, axes = figures.latent(run).axes
    with torch.no_grad():
        z = run.guide.posterior(run.dataset.test.first()).mean.numpy()
    labels = run.dataset.test.labels.numpy()
    assert [text.get_text() for text in axes.texts] == [str(n) for n in range(10)]
    colours = set()
    for n, points in enumerate(axes.collections):
        np.testing.assert_allclose(points.get_offsets(), z[labels == n], atol=1e-6)
        colours.add(tuple(points.get_facecolor()[0]))
    assert len(colours) == 10


def test_a_table_has_its_columns_beside_the_datas(table):
    assert sorted(path.name for path in figures.all_of(table)) == ["curve.png", "latent.png", "samples.png"]
    figure = figures.sample(table, 400)
    assert [axes.get_title() for axes in figure.axes if axes.axison] == ["size", "count", "kind"]
    size, count, kind = (axes for axes in figure.axes if axes.axison)
    # Shares of the two categories: of the data, and of what is drawn.
    data, drawn = np.array([bar.get_height() for bar in kind.patches]).reshape(2, 2)
    x = table.dataset.train.first()
    np.testing.assert_allclose(data, [(x[:, 2] == n).float().mean() for n in (0, 1)], rtol=1e-5)
    assert drawn.sum() == pytest.approx(1)
    assert [text.get_text() for text in kind.get_xticklabels()] == ["a", "b"]
    assert size.get_legend_handles_labels()[1] == ["training data", "drawn from the model"]
    assert len(count.patches) > 4
    # With one latent variable there is a histogram, a colour for each label.
    (axes,) = figures.latent(table).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0", "1"]
    for draw in (figures.reconstruct, figures.manifold, figures.traverse, DRAW["interpolate"]):
        with pytest.raises(InputError, match=r"a picture needs images, and .*t\.csv is a table"):
            draw(table)


def test_a_table_is_drawn_at_given_latent_variables(table):
    rows = figures.drawn(table, 50, [[-3.0], [3.0]])
    assert rows.shape == (100, 3)
    with torch.no_grad():
        expected = table.model.likelihood(torch.tensor([[-3.0], [3.0]])).mean[:, 0]
        sd = table.model.likelihood(torch.tensor([[-3.0], [3.0]])).variance[:, 0].sqrt()
    for n, part in enumerate((rows[:50], rows[50:])):
        assert abs(part["size"].mean() - expected[n]) < 4 * sd[n] / 50**0.5


GOOD = [(0, -540), (1000, -200), (10_000, -110), (20_000, -105), (50_000, -102), (100_000, -100)]
FAILED = [(0, -540), (1000, -200), (10_000, -110), (100_000, -9000)]
NOT_FINITE = [(0, -540), (1000, -200), (2000, float("-inf")), (3000, float("nan"))]


@pytest.mark.parametrize(("bounds", "inset"), [(GOOD, True), (FAILED, False), (NOT_FINITE, False)])
def test_a_curve_shows_every_value(run, bounds, inset):
    (axes,) = figures.curve(replace(run, rows=[[n, 0.0, bound + 1, bound] for n, bound in bounds])).axes
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    shown = [bound for _, bound in bounds if np.isfinite(bound)]
    assert left <= 0
    assert right >= bounds[-1][0]
    assert low <= min(shown)
    assert high >= max(shown) + 1
    # The last tenfold is shown larger where all of it lies in less than a quarter of the whole: -110 to -99 of -540.
    assert len(axes.child_axes) == inset
    if inset:
        (larger,) = axes.child_axes
        assert -115 < larger.get_ylim()[0] <= -110
        assert -99 <= larger.get_ylim()[1] < -90
    missing = [text for text in axes.texts if text.get_text() == "not finite"]
    assert [text.xy[0] for text in missing] == [n for n, bound in bounds if not np.isfinite(bound)]
