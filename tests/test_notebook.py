"""The notebook of the examples is executed, and what it shows is looked at."""

import io
import os
from base64 import b64decode
from pathlib import Path

import nbformat
import pytest
from matplotlib.image import imread
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
SMALL = {"samples = 2e5": "samples = 2e3", "image_shape=": "draws=30, warmup=20, image_shape=", "200)": "20, limit=20)"}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What each cell of code has shown, by its last line."""
    book = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)
    for cell in book.cells:
        for long, short in SMALL.items():
            cell.source = cell.source.replace(long, short) if cell.cell_type == "code" else cell.source
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)  # a notebook has its own
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        folder = tmp_path_factory.mktemp("notebook")
        NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    return {cell.source.splitlines()[-1]: cell.outputs for cell in cells}


def _shown(outputs, line, kind):
    """The last thing that a cell shows, after the progress of what it has done."""
    *_, last = (out for out in next(o for end, o in outputs.items() if end.startswith(line)) if "data" in out)
    return last.data[kind]


@pytest.mark.parametrize("line", ["figures.latent", "figures.traverse", "figures.interpolate", "az.plot_pair"])
def test_pictures_are_shown(outputs, line):
    picture = imread(io.BytesIO(b64decode(_shown(outputs, line, "image/png"))))
    assert min(picture.shape[:2]) > 100
    assert picture[..., :3].std() > 0.05  # not blank


def test_results_are_shown_as_tables(outputs):
    run = _shown(outputs, "run", "text/html")
    assert "<td>runs/notebook</td>" in run
    assert "2,000 samples" in run
    assert "train_bound" in _shown(outputs, "run.metrics", "text/html")
    assert "r_hat" in _shown(outputs, "az.summary", "text/html")
    compared = _shown(outputs, "pyro_vae.compare", "text/html")
    assert all(words in compared for words in ("runs/notebook", "runs/laplace", "bound difference", "20 datapoints"))
