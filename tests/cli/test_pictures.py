"""Pictures of a trained model, asked for as a user would."""

import numpy as np
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
        (("sample", "--z", "1.5,-0.3", "--z", "-1,0"), "samples.png"),
        (("reconstruct", "--index", "300,2"), "reconstructions.png"),
        (("latent", "--split", "train"), "latent.png"),
        (("traverse", "--steps", "3", "--index", "5"), "traverse.png"),
        (("interpolate", "3", "7", "--steps", "3"), "interpolate.png"),
    ],
)
def test_a_picture_lies_in_the_run_or_where_it_is_asked_for(cli, run, tmp_path, command, picture):
    name, *options = command
    result = cli(name, run.path, *options)
    assert (result.status, result.out) == (0, f"{run.path / picture}\n")
    result = cli(name, run.path, "--out", tmp_path / "elsewhere.png", *options)
    assert (result.status, result.out) == (0, f"{tmp_path / 'elsewhere.png'}\n")
    assert (imread(tmp_path / "elsewhere.png") == imread(run.path / picture)).all()
    result = cli(name, run.path, "--out", "picture.jpg", *options)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "--out picture.jpg is not possible: give the name of a .png, .svg or .pdf file" in result.err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("sample", "--z", "1"), "1 latent variables are given, and the model has 2"),
        (("sample", "--z", "1,x"), "--z 1,x is not possible: give numbers, separated by commas"),
        (("sample", "--z", "1,0", "--z", "1"), "every z needs as many numbers"),
        (("sample", "--z", "1,nan"), "latent variables of z are outside of their support"),
        (("reconstruct", "--index", "359"), "datapoint 359 is not there: the test split has 359, from 0 on"),
        (("reconstruct", "--index", "1.5"), "--index 1.5 is not possible: give whole numbers, separated by commas"),
        (("interpolate", "0", "x"), "'x' is not a valid integer"),
        (("traverse", "--index", "400"), "datapoint 400 is not there"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_line(cli, run, command, message):
    name, *options = command
    result = cli(name, run.path, *options)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert message in result.err


def test_a_picture_may_be_drawn_by_lines(cli, run, tmp_path):
    for name, start in (("a.svg", b"<?xml"), ("a.pdf", b"%PDF")):
        assert cli("latent", run.path, "--out", tmp_path / name).status == 0
        assert (tmp_path / name).read_bytes().startswith(start)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    own = {"model": "conditional", "guide": "conditional", "optimizer": "adam"}
    return train(tmp_path_factory.mktemp("pictures") / "conditional", samples=2000, hidden=20, progress=False, **own)


def test_a_class_is_drawn_where_the_model_takes_a_label(cli, conditional, run, tmp_path):
    for name, *options in (("sample", "--number", "7"), ("manifold", "--grid", "4")):
        pictures = []
        for label in ("3", "4"):
            out = tmp_path / f"{name}-{label}.png"
            result = cli(name, conditional.path, *options, "--label", label, "--out", out)
            assert (result.status, result.out) == (0, f"{out}\n")
            pictures.append(imread(out))
        assert pictures[0].shape != pictures[1].shape or (pictures[0] != pictures[1]).any()
        for path, label, said in (
            (conditional.path, "cat", "--label cat is not a class of the data: choose from 0, 1"),
            (run.path, "3", "--label does not apply to a model that takes no label: leave it out"),
        ):
            result = cli(name, path, "--label", label)
            assert (result.status, result.err.count("\n")) == (2, 1)
            assert said in result.err
    assert cli("sample", conditional.path, "--label", "3", "--number", "4", "--out", tmp_path / "x.csv").status == 0


def test_analogies_are_drawn_where_the_model_takes_a_label(cli, conditional, run):
    result = cli("analogies", conditional.path, "--number", "3")
    assert (result.status, result.out) == (0, f"{conditional.path / 'analogies.png'}\n")
    result = cli("analogies", run.path)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "takes no label" in result.err


def test_analogies_of_data_without_classes_are_refused(cli):
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (50, 3, 3), dtype=np.uint8))
    tiny = ("--hidden", 3, "--samples", 100, "--batch", 10, "--compile", "off", "--no-figures")
    assert cli("train", "--data", "x.npy", *tiny, "--out", "run").status == 0
    result = cli("analogies", "run")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "has data without classes, of which there are no analogies: train with a label" in result.err


def test_data_without_labels_train_no_conditional_model(cli, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((50, 4)))
    result = cli("train", "--data", tmp_path / "x.npy", "--model", "conditional", "--out", tmp_path / "run")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "model conditional needs labels, and the data have none: name their column or array by --label" in result.err
