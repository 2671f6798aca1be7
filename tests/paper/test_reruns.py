"""The paper's experiments from the command line: which runs they have, and what they write."""

import shutil
from pathlib import Path

import pytest
from matplotlib.text import Text

from pyro_vae.paper import figures, protocol
from pyro_vae.paper.commands import marginals
from pyro_vae.paper.grid import Grid, Trained
from pyro_vae.paper.reruns import figure4, figure5
from pyro_vae.paper.values import read_values
from pyro_vae.run.run import Run
from pyro_vae.run.train import train


@pytest.fixture
def digits(monkeypatch, in_process):
    """Digits as a data set of Figure 2, with small networks, trained in this process."""
    monkeypatch.setattr("pyro_vae.paper.grid.PILOT", 500)
    monkeypatch.setitem(protocol.PANELS, "digits", (2,))
    monkeypatch.setitem(protocol.NETWORKS, "digits", ("--hidden", "8"))
    monkeypatch.setitem(figures._DATA, "digits", "Digits")
    monkeypatch.setitem(figures._FLOORS, "digits", -60.0)


def test_a_users_algorithm_appears_in_figure_2_by_an_argument(cli, digits, algorithm, monkeypatch):
    drawn = []
    monkeypatch.setattr("pyro_vae.paper.figures._save", lambda figure, path: drawn.append(figure) or path)
    # The file is in the current folder, where the user names it without the space.
    algorithm.rename("my_algorithm.py")
    specs = ["aevb", "my_algorithm.py:Ascent"]
    figure = ("paper", "figure2", "--panels", "digits:2", "--samples", "1500", "--algorithms", ",".join(specs))
    result = cli(*figure)
    assert result.status == 0, result.err
    table = read_values(Path("runs/paper/figure2.csv"))
    assert [*table["algorithm"].unique()] == specs
    assert {*table["samples"]} == {500, 1000, 1500}  # where the step was chosen, by the schedule, and at the end
    # Each chose from the paper's three steps.
    assert len([*Path("runs/paper/figure2").glob("digits-2-my_algorithm.Ascent.*-0/run.toml")]) == 3
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == ["AEVB", "Ascent", "train", "test"]
    colors = [line.get_color() for line in drawn[0].axes[0].get_lines()]
    assert colors == ["#0072B2"] * 2 + ["#CC79A7"] * 2


def test_another_call_adds_its_runs_to_the_table(cli, digits, monkeypatch):
    monkeypatch.setattr("pyro_vae.paper.figures._save", lambda figure, path: path)
    figure = ("paper", "figure2", "--algorithms", "aevb", "--samples", "1000", "--panels")
    for panels in ("digits:2", "digits:3"):
        assert cli(*figure, panels).status == 0
    path = Path("runs/paper/figure2.csv")
    table = read_values(path)
    assert [*table["panel"]] == ["digits:2"] * 4 + ["digits:3"] * 4  # two splits at 500 and at 1000
    # A table with another value of a run that is there: the run's own comes back, and no row is there twice.
    path.write_text(path.read_text().replace(str(table["value"][0]), "-1.0"))
    assert cli(*figure, "digits:2").status == 0
    again = read_values(path)
    assert [*again["panel"]] == ["digits:3"] * 4 + ["digits:2"] * 4
    assert again.sort_values("panel", kind="stable", ignore_index=True).equals(table)


def test_figure_2_from_the_command_line(cli, real_data, in_process):
    figure = ("paper", "figure2", "--panels", "frey:2", "--algorithms", "aevb", "--samples", "1500")
    result = cli(*figure, "--data-dir", real_data)
    assert result.status == 0, result.err
    written = [Path(line) for line in result.out.split()]
    assert [path.name for path in written] == ["figure2.csv", *_drawn("2")]
    table = read_values(written[0])
    assert [*table.groupby(["panel", "algorithm", "split"]).groups] == [
        ("frey:2", "aevb", split) for split in ("test", "train")
    ]
    assert {*table["samples"]} == {1000, 1500}
    assert all(path.stat().st_size > 5000 for path in written[1:])


def test_figure_3_from_the_command_line(cli, real_data, in_process, monkeypatch):
    monkeypatch.setattr("pyro_vae.paper.reruns.STAGES", (15_000,))
    monkeypatch.setitem(protocol.ALGORITHMS, "aevb", protocol.Algorithm("AEVB", "#0072B2", step_sizes=(0.02,)))
    monkeypatch.setattr("pyro_vae.paper.commands._EVALUATED", 20)
    estimate = ("--marginal", "importance", "--marginal", "ais", "--set", "ais.temperatures=20")
    monkeypatch.setattr("pyro_vae.paper.commands._ESTIMATE", estimate)
    figure = ("paper", "figure3", "--train-sizes", "200", "--algorithms", "aevb", "--samples", "2e4", "--jobs", "2")
    result = cli(*figure, "--data-dir", real_data)
    assert result.status == 0, result.err
    written = [Path(line) for line in result.out.split()]
    assert [path.name for path in written] == ["figure3.csv", *_drawn("3")]
    table = read_values(written[0])
    assert [*table[["panel", "algorithm", "split", "samples"]].itertuples(index=False, name=None)] == [
        ("N=200", "aevb", split, samples) for samples in (15_000, 20_000) for split in ("train", "test")
    ]
    # Untrained, the pixels are fair coins: 784 log 1/2 = -543; after a warm-up of 10,100 samples that is history.
    assert table["value"].between(-500, -100).all()
    assert (table["seconds"] > 0).all()
    # The last row is what `evaluate` says of the trained pair.
    folder = Path("runs/paper/figure3/mnist200-3-aevb-0.02-0")
    found = Run.open(folder).evaluate(limit=20, marginal=["importance", "ais"], set={"ais": {"temperatures": 20}})
    for row in marginals(folder)[-2:].itertuples():
        assert row.log_px == pytest.approx(found[row.estimator]["log_px"], abs=1e-3)
        assert row.se == pytest.approx(found[row.estimator]["se"], rel=0.1)
    # Both are lower bounds, and the figure shows the higher one.
    higher = max(found["importance"]["log_px"], found["ais"]["log_px"])
    assert table["value"].iloc[-1] == pytest.approx(higher, abs=1e-3)
    before = _written(Path("runs/paper/figure3"))
    assert cli(*figure, "--data-dir", real_data).status == 0
    assert _written(Path("runs/paper/figure3")) == before  # nothing is done twice


def _drawn(figure):
    return [f"figure{figure}{ending}" for ending in (".png", ".svg", ".pdf", "-time.png")]


RESULTS = Path(__file__).parents[2] / "docs" / "results" / "paper"


@pytest.mark.parametrize("figure", ["2", "3"])
def test_a_figure_is_drawn_again_from_its_table(cli, tmp_path, figure, monkeypatch):
    """No label touches another panel, all letters have one size, and each panel shows its curves."""
    drawn = []
    monkeypatch.setattr("pyro_vae.paper.figures._save", lambda figure, path: drawn.append(figure) or path)
    shutil.copy(RESULTS / f"figure{figure}.csv", tmp_path)
    result = cli("paper", f"figure{figure}", "--redraw", "--out", tmp_path)
    assert [Path(line).name for line in result.out.split()] == _drawn(figure)
    drawing = drawn[0]
    drawing.savefig(tmp_path / "figure.png")  # lays it out
    assert drawing.get_size_inches()[0] == 7.2
    panels = [axes for axes in drawing.axes if axes.axison]
    assert len(panels) == {"2": 9, "3": 2}[figure]
    boxes = [axes.get_tightbbox() for axes in panels]
    for n, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[n + 1 :])
    labels = [text for text in drawing.findobj(Text) if text.get_text() and text.get_visible()]
    assert {text.get_fontsize() for text in labels} == {8.0}
    for axes in panels:  # the best curve comes up to the upper two thirds, and the axis begins where curves do
        low, high = axes.get_ylim()
        best = max(line.get_ydata()[-1] for line in axes.get_lines())
        assert low + (high - low) / 3 < best < high


def test_a_figure_without_a_table_is_not_drawn(cli, tmp_path):
    result = cli("paper", "figure2", "--redraw", "--out", tmp_path)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "figure2.csv is not there: train the runs first, or name the folder of the table by --out" in result.err


def _written(out):
    return {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}


def test_figures_4_and_5_have_the_papers_grids(monkeypatch, tmp_path):
    run = train(tmp_path / "run", samples=1000, hidden=5, latent=2, progress=False)
    drawn = []
    monkeypatch.setattr(Grid, "train", lambda _, cells, __: Trained(dict.fromkeys(cells, run.path), {}))
    monkeypatch.setattr("pyro_vae.paper.figures._save", lambda figure, path: drawn.append(figure) or path)
    kinds = ("png", "svg", "pdf")
    assert figure4(Grid(tmp_path, 1000)) == [tmp_path / f"figure4.{kind}" for kind in kinds]
    assert figure5(Grid(tmp_path, 1000)) == [tmp_path / f"figure5.{kind}" for kind in kinds]
    # A digit has 8 pixels along each side, and two pixels before it and after the last.
    shapes = [[axes.images[0].get_array().shape[:2] for axes in figure.axes] for figure in drawn[::3]]
    grids = [[tuple((n - 2) / 10 for n in shape) for shape in figure] for figure in shapes]
    assert grids == [[(20, 20), (10, 10)], [(10, 10)] * 4]
