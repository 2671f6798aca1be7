"""The pictures of a run."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from pyro_vae import Run, train
from pyro_vae.analysis import figures
from pyro_vae.errors import InputError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("figures") / "run", samples=12_000, hidden=10, latent=2, progress=False)


@pytest.mark.parametrize("draw", [figures.curve, figures.sample, figures.reconstruct, figures.manifold])
def test_every_picture_can_be_drawn_anywhere_and_again(run, draw, tmp_path):
    first, second = draw(run, path=tmp_path / "1.png"), draw(run, path=str(tmp_path / "2.png"))
    assert np.array_equal(imread(first), imread(second))
    assert imread(first)[..., :3].std() > 0.05  # not blank
    for path in (tmp_path / "no" / "such" / "folder.png", tmp_path / "picture", tmp_path):
        with pytest.raises(InputError, match=r"give the name of a \.png file in a folder that exists"):
            draw(run, path=path)


def test_a_run_without_two_latents_has_no_manifold(tmp_path):
    run = train(tmp_path / "run", samples=1000, hidden=5, latent=3, progress=False)
    assert sorted(path.name for path in figures.all_of(run)) == ["curve.png", "reconstructions.png", "samples.png"]
    assert isinstance(Run.open(tmp_path / "run"), Run)


def test_a_table_has_a_curve_alone_and_that_is_said(run, caplog):
    table = replace(run, dataset=replace(run.dataset, image_shape=None))
    assert [path.name for path in figures.all_of(table)] == ["curve.png"]
    assert caplog.messages == ["digits is a table and has no images: the training curve alone is drawn"]
    for draw in (figures.sample, figures.reconstruct, figures.manifold):
        with pytest.raises(InputError, match="a picture needs images, and digits is a table"):
            draw(table)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, which are not saved."""
    made = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: made.append(figure) or path)
    return made


GOOD = [(0, -540), (1000, -200), (10_000, -110), (20_000, -105), (50_000, -102), (100_000, -100)]
FAILED = [(0, -540), (1000, -200), (10_000, -110), (100_000, -9000)]
NOT_FINITE = [(0, -540), (1000, -200), (2000, float("-inf")), (3000, float("nan"))]


@pytest.mark.parametrize(("bounds", "inset"), [(GOOD, True), (FAILED, False), (NOT_FINITE, False)])
def test_a_curve_shows_every_value(run, drawn, bounds, inset):
    figures.curve(replace(run, metrics=[[n, 0.0, bound + 1, bound] for n, bound in bounds]))
    (axes,) = drawn[0].axes
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
