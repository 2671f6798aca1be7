"""The tutorials are executed with a small budget, and what they show is looked at."""

import io
import os
from base64 import b64decode
from pathlib import Path

import jupytext
import pytest
from matplotlib.image import imread
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
SHORT = {
    "samples = 1e5": "samples = 2e3",
    "samples = 5e4": "samples = 2e3",
    "particles=200": "particles=60, limit=20",
    "particles=100": "particles=60, limit=20",
    "digits = 10": "digits = 2",
    "image_shape=": "draws=30, warmup=20, predictive=40, image_shape=",
}


def _executed(name, folder):
    """What each cell of code of a tutorial has shown, by its last line."""
    book = jupytext.read(ROOT / "docs" / "tutorials" / f"{name}.py", fmt="py:percent")
    for cell in book.cells:
        for long, short in SHORT.items():
            cell.source = cell.source.replace(long, short) if cell.cell_type == "code" else cell.source
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)  # a notebook has its own
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return {cell.source.splitlines()[-1]: cell.outputs for cell in book.cells if cell.cell_type == "code"}


@pytest.fixture(scope="module")
def first_vae(tmp_path_factory):
    return _executed("first_vae", tmp_path_factory.mktemp("first_vae"))


@pytest.fixture(scope="module")
def own_model(tmp_path_factory):
    return _executed("own_model", tmp_path_factory.mktemp("own_model"))


@pytest.fixture(scope="module")
def posterior(tmp_path_factory):
    return _executed("posterior", tmp_path_factory.mktemp("posterior"))


def _shown(outputs, line, kind):
    """The last thing that the cell with this last line shows."""
    *_, last = (out for out in next(o for end, o in outputs.items() if end.startswith(line)) if "data" in out)
    return last.data[kind]


def _require_picture(outputs, line):
    picture = imread(io.BytesIO(b64decode(_shown(outputs, line, "image/png"))))
    assert min(picture.shape[:2]) > 100
    assert picture[..., :3].std() > 0.05  # not blank


def test_the_first_shows_a_run_its_pictures_and_a_comparison(first_vae):
    run = _shown(first_vae, "run", "text/html")
    assert "<td>runs/normal</td>" in run
    assert "2,000 samples" in run
    assert "train_bound" in _shown(first_vae, "run.metrics", "text/html")
    _require_picture(first_vae, "figures.latent")
    _require_picture(first_vae, "figures.interpolate")
    compared = _shown(first_vae, "pyro_vae.compare", "text/html")
    assert all(words in compared for words in ("runs/normal", "runs/laplace", "bound difference", "20 datapoints"))


def test_the_second_compares_models_of_ones_own(own_model):
    assert "runs/gamma" in _shown(own_model, "pyro_vae.compare([normal", "text/html")
    assert "runs/disrupted" in _shown(own_model, "pyro_vae.compare([gamma", "text/html")


def test_the_third_shows_diagnostics_predictions_and_a_comparison(posterior):
    assert "rhat" in _shown(posterior, 'judged[["rhat"', "text/html")
    assert "khat" in _shown(posterior, 'judged[["khat"', "text/html")
    assert "z[4]" in _shown(posterior, 'az.summary(one, kind="stats"', "text/html")
    _require_picture(posterior, "_ = az.plot_pair")
    _require_picture(posterior, "plt.show")
    compared = _shown(posterior, "pyro_vae.compare", "text/html")
    assert all(words in compared for words in ("runs/posterior", "runs/full_rank", "bound difference"))
