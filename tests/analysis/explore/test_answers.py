"""What the server answers to a page, whatever it says."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from bokeh.document import Document

from pyro_vae.analysis.explore.answers import Answers
from pyro_vae.analysis.explore.explorer import Explorer
from pyro_vae.analysis.explore.page import Page


@pytest.fixture
def talk():
    """Opens a page on a run, without a server between them."""

    def open_page(run):
        document, explorer, ended = Document(), Explorer(run), []
        page = Page(explorer)
        page.fill(document)
        Answers(page, document, lambda: ended.append(True))
        document.validate()

        def say(**words):
            page.hand.said = json.dumps(words)

        def wait():
            """What the server does when its time comes."""
            for callback in document.session_callbacks:
                callback.callback()

        return SimpleNamespace(page=page, explorer=explorer, hand=page.hand, say=say, wait=wait, ended=ended)

    return open_page


def test_a_chosen_datapoint_is_held_and_seen_with_its_like(talk, pictures):
    open_page = talk(pictures)
    points, page = open_page.explorer.points, open_page.page
    open_page.say(do="pick", index=3)
    np.testing.assert_allclose(open_page.hand.held[1:], points.vectors[3], atol=1e-6)
    near = points.nearest(points.row(3)[0], 3)
    np.testing.assert_allclose(page.sources["near"].data["x"], open_page.explorer.places()[near, 0])
    assert page.told.text.startswith(f"row {points.rows[3]}. Nearest in the data (circles): {points.rows[near[0]]}, ")
    strip = page.strips["nearest"].data
    assert strip["text"] == ["chosen", *(str(points.rows[n]) for n in near)]
    for image, n in zip(strip["image"][1:], near, strict=True):
        np.testing.assert_array_equal(image, open_page.explorer.picture.pixels(points.row(n))[0])


def test_a_point_at_rest_is_seen_with_the_data_that_its_picture_is_like(talk, pictures):
    open_page = talk(pictures)
    points, z = open_page.explorer.points, [0.5, -0.5]
    open_page.say(do="settled", z=z)
    near = points.nearest(open_page.explorer.space.means(np.array([z]))[0])
    assert open_page.page.strips["nearest"].data["text"] == ["picture", *(str(points.rows[n]) for n in near)]


def test_posterior_and_guide_lie_on_the_plane(talk, pictures):
    open_page = talk(pictures)
    points, page = open_page.explorer.points, open_page.page
    open_page.say(do="posterior")
    assert page.told.text == "choose a datapoint first: click on one"
    open_page.say(do="pick", index=3)
    open_page.say(do="posterior", serial=2)
    assert "drawing" in page.told.text
    open_page.wait()
    cloud = np.stack([page.sources["cloud"].data[axis] for axis in "xy"], 1)
    outline = np.stack([page.sources["ellipse"].data[axis] for axis in "xy"], 1)
    mean, covariance = pictures.model.posterior(points.row(3))
    sd = covariance.diagonal().sqrt().numpy()
    # Five standard errors of 50 chains; of the 1,000 draws that the ellipse is read from, whose half axes are
    # sqrt(-2 log 0.1) = 2.146 standard deviations.
    assert (abs(cloud.mean(0) - mean[0].numpy()) < 0.71 * sd).all()
    np.testing.assert_allclose(np.ptp(outline, axis=0) / 2, 2.146 * sd, rtol=5 / np.sqrt(2 * 1000))
    assert "500 draws of its posterior by HMC" in page.told.text
    open_page.say(do="pick", index=4)
    assert len(page.sources["cloud"].data["x"]) == 0  # it was another's


def test_a_path_is_nine_pictures_along_a_line(talk, pictures):
    open_page = talk(pictures)
    open_page.say(**{"do": "path", "from": [0.0, 0.0], "to": [1.0, 2.0]})
    strip = open_page.page.strips["path"].data
    assert strip["text"] == ["A", *[""] * 7, "B"]
    for n, image in enumerate(strip["image"]):
        expected = open_page.explorer.picture.at(np.array([n / 8, n / 4]))["image"][0]
        np.testing.assert_array_equal(image, expected)


def test_bound_and_khat_are_found_while_they_are_looked_at(talk, pictures):
    open_page = talk(pictures)
    points, page = open_page.explorer.points, open_page.page
    assert np.isnan(page.sources["points"].data["c"]).all()
    page.colour.value = "z_1"
    np.testing.assert_allclose(page.sources["points"].data["c"], points.vectors[:, 0], rtol=1e-5)
    page.colour.value = "bound"
    for _ in range(len(points.rows) // points.together + 1):
        open_page.wait()
    np.testing.assert_allclose(page.sources["points"].data["c"], points.column("bound"), rtol=1e-5)
    assert page.told.text == f"bound of {len(points.rows)} of {len(points.rows)} datapoints"
    assert not page.colour.document.session_callbacks


def test_a_table_has_the_datapoint_in_its_bars(talk, linear):
    open_page = talk(linear)
    open_page.say(do="pick", index=2)
    places = open_page.explorer.picture.places(open_page.explorer.points.row(2)[0])
    np.testing.assert_allclose(open_page.page.datapoint.data["place"], places)
    assert not open_page.page.strips


def test_without_data_there_are_sliders_and_a_picture(talk, made, oracle, monkeypatch):
    from dataclasses import replace

    from pyro_vae.data.schema import described, without_data

    run = made(oracle.model, None, oracle.x.numpy())
    run = replace(run, dataset=without_data("gone.csv", described(run.dataset), "gone.csv is gone"))
    open_page = talk(run)
    assert open_page.explorer.points is None
    open_page.hand.wanted = [1.0, 0.3, 0.4]
    np.testing.assert_allclose(
        open_page.page.shown.data["mean"], open_page.explorer.picture.at(np.array([0.3, 0.4]))["mean"]
    )
    open_page.say(do="settled", z=[0.3, 0.4])
    open_page.say(do="pick", index=0)
    assert open_page.page.told.text == "The page asked for what is not there: load it again."


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "[" * 100_000,
        "3",
        "null",
        "[]",
        '{"do": "pick"}',
        '{"do": ["pick"]}',
        '{"do": "__init__"}',
        '{"do": "pick", "index": -1}',
        '{"do": "pick", "index": 1e9}',
        '{"do": "pick", "index": true}',
        '{"do": "pick", "index": "../../etc/passwd"}',
        '{"do": "settled", "z": [1]}',
        '{"do": "settled", "z": [1e300, 0]}',
        '{"do": "settled", "z": [NaN, 0]}',
        '{"do": "settled", "z": {"a": 1}}',
        '{"do": "settled", "z": [[1], [2, 3]]}',
        '{"do": "settled", "z": ["a", 0]}',
        '{"do": "path", "from": [0, 0]}',
        '{"do": "settled", "z": [' + "9" * 400 + ", 0]}",
        '{"do": "settled", "z": [' + "9" * 9000 + ", 0]}",
    ],
    ids=lambda said: said[:40],
)
def test_what_makes_no_sense_is_refused(talk, oracle, made, said):
    open_page = talk(made(oracle.model, oracle.guide, oracle.x[:10].numpy()))
    open_page.hand.said = said
    assert open_page.page.told.text == "The page asked for what is not there: load it again."


@pytest.mark.parametrize("wanted", [[], [1.0], [1.0] * 9, [1.0, 1e300, 0.0], [1, 10**400, 0], [10**400, 0.0]])
def test_a_point_that_is_none_is_answered_and_changes_no_picture(talk, oracle, made, wanted):
    open_page = talk(made(oracle.model, oracle.guide, oracle.x[:10].numpy()))
    open_page.hand.wanted = [1.0, 0.1, 0.1]
    before = open_page.page.shown.data["mean"]
    open_page.hand.wanted = wanted
    assert open_page.hand.answered == 2
    assert open_page.page.shown.data["mean"] == before


def test_the_end_is_told_to_the_page_first(talk, pictures):
    open_page = talk(pictures)
    open_page.say(do="end")
    assert open_page.page.told.text == "The explorer has ended: close this page."
    assert not open_page.ended
    open_page.wait()
    assert open_page.ended


def test_names_are_no_markup(talk, oracle, made, monkeypatch):
    from dataclasses import replace
    from pathlib import Path

    run = made(
        oracle.model, oracle.guide, oracle.x.numpy(), labels=np.array(["<img src=x onerror=alert(1)>", "b"] * 100)
    )
    open_page = talk(replace(run, path=Path("runs/<script>")))
    open_page.say(do="pick", index=0)
    document = open_page.page.told.document
    texts = [model.text for model in document.models if type(model).__name__ == "Div"]
    assert any("&lt;script&gt;" in text for text in texts)
    assert any("&lt;img" in text for text in texts)
    assert not any("<script" in text or "<img" in text for text in texts)
