"""What a run keeps of its data is enough for what needs none of them."""

import tomllib

import numpy as np
import pandas as pd
import pytest
import tomli_w
import torch

from pyro_vae.analysis.drawn import draw
from pyro_vae.analysis.encode import encode
from pyro_vae.analysis.impute import impute
from pyro_vae.data import adapted, load_data
from pyro_vae.data.loading import more_of
from pyro_vae.data.schema import described, without_data
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.marginal import bound
from pyro_vae.models.mixed import MixedModel
from pyro_vae.models.normal import NormalModel


def _frame():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        generator.normal(size=(40, 3)) * [1, 100, 0.1] + [0, 1000, 5], columns=["a", "b b", 'c"\n'[:1]]
    )
    frame["colour"] = ["red", "green", "blue", "red"] * 10
    frame["kind"] = ["x", "y"] * 20
    frame.loc[::9, "b b"] = np.nan
    return frame


def _kept(data):
    return tomllib.loads(tomli_w.dumps(described(data)))


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (_frame(), {"label": "kind", "kinds": "colour:category", "scale": "standard"}),
        (_frame(), {"label": "kind", "drop": "a", "covariates": "colour"}),
        (np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), dtype=np.uint8), {"scale": "unit"}),
        (np.random.default_rng(0).random((30, 9)), {"binarize": "dynamic"}),
    ],
)
def test_a_file_of_settings_keeps_all_but_the_data(data, options):
    data = load_data(data, **options)
    absent = without_data(data.name, _kept(data), "they are gone")
    for name in ("image_shape", "checksum", "binarize", "names", "kinds", "classes", "missing", "levels", "offers"):
        assert getattr(absent, name) == getattr(data, name), name
    assert absent.features == data.features
    assert (absent.train.total, absent.test.total) == (len(data.train), len(data.test))
    for name in ("scaled", "fill"):
        found, expected = getattr(absent, name), getattr(data, name)
        assert (found is None) == (expected is None)
        if expected is not None:
            torch.testing.assert_close(torch.stack([*found]), torch.stack([*expected]))
    assert {k: v for k, v in absent.reading.items() if v is not None} == _kept(data)["reading"]
    pair = NormalModel(absent.features, 2, hidden=3), GaussianGuide(absent.features, 2, hidden=3)
    for read in (absent.train.first, lambda: absent.test.minibatch(3), lambda: bound(*pair, absent.test)):
        with pytest.raises(InputError, match="they are gone"):
            read()


def test_a_pair_goes_on_without_its_data(tmp_path):
    frame = _frame()
    data = load_data(frame, label="kind", kinds="colour:category", scale="standard")
    torch.manual_seed(0)
    model = MixedModel(4, 2, hidden=5, kinds=data.kinds)
    guide = GaussianGuide(4, 2, hidden=5)
    with_data = adapted(model, guide, data)
    without = adapted(model, guide, without_data("x", _kept(data), "they are gone"))
    pd.testing.assert_frame_equal(draw(with_data[0], with_data[2], 20), draw(without[0], without[2], 20))
    tables = []
    for p, q, rows in (with_data, without):
        new = more_of(frame[:12], rows).test
        tables.append((encode(p, q, new, classes=rows.classes), impute(p, q, new, names=rows.names)))
    for found, expected in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(found, expected)
    assert list(tables[0][0]["label"]) == ["x", "y"] * 6
    frame["colour"] = "pink"
    with pytest.raises(InputError, match="has pink in column colour, which is none of blue, green, red"):
        more_of(frame, data)


def test_what_was_not_kept_is_said():
    data = load_data(np.random.default_rng(0).normal(size=(30, 3)))
    kept = _kept(data)
    for name, value in (("features", "many"), ("reading", 3), ("image_shape", ["a"]), ("loc", [1.0, 2.0])):
        with pytest.raises(InputError, match=r"run.toml does not say what its data are, and they are gone"):
            without_data("x", {**kept, name: value}, "they are gone")
    # A run of an older version.
    with pytest.raises(InputError, match="does not say"):
        without_data("x", {"checksum": "0", "image_shape": [8, 8]}, "they are gone")


def test_labels_that_are_gone_cannot_be_drawn_from():
    class Labelled(NormalModel):
        def forward(self, x=None, size=None, label=None):
            return super().forward(x, size)

    data = load_data(np.random.default_rng(0).normal(size=(30, 3)), labels=np.arange(30) % 3)
    model, _, _ = adapted(Labelled(3, 2, hidden=4), None, without_data("x", _kept(data), "they are gone"))
    with pytest.raises(InputError, match="are generated from those of the training data"):
        model(None, size=2)
