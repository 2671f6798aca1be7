"""The paper's grid: which runs it has, that it goes on where it was, and what it writes."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyro_vae.errors import InputError
from pyro_vae.paper.grid import Cell, marginals, train_all
from pyro_vae.paper.reruns import PANELS, figure2, figure3, figure4, figure5, panels, paper_values
from pyro_vae.paper.workers import Local
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.train import Run, train

TINY = ("--hidden", "8", "--batch", "20")


def test_panels_are_read_as_they_are_written():
    assert (
        panels(["mnist:3,20", "frey:10"])
        == panels(["mnist:3,20 frey:10"])
        == [
            ("mnist", 3),
            ("mnist", 20),
            ("frey", 10),
        ]
    )
    assert len(panels([])) == 9
    assert panels(["frey"]) == [("frey", size) for size in PANELS["frey"]]
    for wrong in ("mnist:x", "cifar:3", "mnist:0", "mnist:3,,4"):
        with pytest.raises(InputError, match=f"--panels {wrong} is not possible"):
            panels([wrong])


def test_the_papers_values_are_those_of_its_figures():
    # Facts read off the figures: the last AEVB test value of 20 latents, MCEM's at N = 1000, wake-sleep's on Frey.
    found = {(r["panel"], r["algorithm"], r["split"], r["samples"]): r["value"] for r in paper_values("2")}
    assert found["mnist:20", "aevb", "test", 240_000_000] == -99.4
    assert found["frey:10", "aevb", "test", 1_000_000] == 792
    assert found["frey:2", "wake_sleep", "train", 10_000_000] == 579
    assert {key[0] for key in found} == {f"{data}:{size}" for data, sizes in PANELS.items() for size in sizes}
    marginal = {(r["panel"], r["algorithm"], r["split"], r["samples"]): r["value"] for r in paper_values("3")}
    assert marginal["N=1000", "mcem", "test", 60_000_000] == -141.6
    assert marginal["N=50000", "aevb", "train", 10_000_000] == -135.5


def _written(out):
    return {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}


def test_a_grid_takes_the_best_step_goes_on_and_does_nothing_twice(tmp_path, capfd):
    # A step of 1e30 leaves the loss without a finite value.
    cells = [Cell("digits", 2, "aevb", 0, TINY, step_sizes=(0.001, 0.1, 1e30))]
    folders, failures = train_all(cells, 3000, tmp_path, workers=Local(2))
    assert failures == {}
    assert folders == {cells[0]: tmp_path / "digits-2-aevb-0.1-0"}
    bounds = {step: read_metrics(tmp_path / cells[0].name(step))[-1][2] for step in (0.001, 0.1)}
    assert bounds[0.1] > bounds[0.001]
    assert "digits-2-aevb-1e+30-0 is dropped: the " in capfd.readouterr().err
    before = _written(tmp_path)
    assert train_all(cells, 3000, tmp_path, workers=Local(2)) == (folders, {})
    assert _written(tmp_path) == before
    # `pilot` of 100,000 samples or less: a larger budget tries the steps further before one of them goes on.
    train_all(cells, 4000, tmp_path, workers=Local(2))
    assert read_metrics(folders[cells[0]])[-1][0] == 4000


def test_a_run_that_fails_is_reported_and_the_others_go_on(tmp_path):
    good = Cell("digits", 2, "aevb", 0, TINY, step_sizes=(0.1,))
    bad = Cell("digits", 2, "aevb", 1, ("--batch", "100000"), step_sizes=(0.1,))
    folders, failures = train_all([bad, good], 2500, tmp_path, workers=Local(2))
    assert list(folders) == [good]
    assert "--batch 100000 is more than the" in failures[bad]


def test_a_signal_ends_a_grid_after_checkpoints(tmp_path):
    code = (
        "from pathlib import Path; from pyro_vae.paper.grid import Cell, train_all\n"
        f"train_all([Cell('digits', 2, 'aevb', 0, {TINY}, step_sizes=(0.1,))], 10**8, Path('out'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "out" / "digits-2-aevb-0.1-0"
    for _ in range(300):
        time.sleep(0.2)
        if (folder / "checkpoint.pt").exists() and len((folder / "metrics.csv").read_text().splitlines()) > 3:
            break
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert "Interrupted: interrupted by signal 15" in errors
    assert "interrupted: go on by --resume" in (tmp_path / "out" / f"{folder.name}.log").read_text()
    assert (folder / "checkpoint.pt").exists()


def test_figure_3_from_the_command_line(cli, real_data, monkeypatch):
    monkeypatch.setattr("pyro_vae.paper.reruns.STAGES", (15_000,))
    monkeypatch.setattr("pyro_vae.paper.reruns.STEP_SIZES", (0.02,))
    monkeypatch.setattr("pyro_vae.paper.grid._PILOT", 11_000)
    monkeypatch.setattr("pyro_vae.paper.grid._EVALUATED", 50)
    figure = ("paper", "figure3", "--train-sizes", "200", "--algorithms", "aevb", "--samples", "2e4", "--jobs", "2")
    result = cli(*figure, "--data-dir", real_data)
    assert result.status == 0, result.err
    written = [Path(line) for line in result.out.split()]
    assert [path.name for path in written] == ["figure3.csv", "figure3.png", "figure3.svg", "figure3-time.png"]
    with written[0].open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["panel"], row["algorithm"], row["split"], row["samples"]) for row in rows] == [
        ("N=200", "aevb", split, samples) for samples in ("15000", "20000") for split in ("train", "test")
    ]
    # Untrained, the pixels are fair coins: 784 log 1/2 = -543; after a warm-up of 10,100 samples that is history.
    assert all(-500 < float(row["value"]) < -100 and float(row["seconds"]) > 0 for row in rows)
    # The last row is what `evaluate` says of the trained pair.
    folder = next(path for path in Path("runs/paper/figure3").glob("mnist200-3-aevb-*-0") if marginals(path))
    own = {"ais": {"temperatures": 300, "chains": 4}}
    found = Run.open(folder).evaluate(limit=50, marginal=["importance", "ais"], set=own)
    for row in marginals(folder)[-2:]:
        assert row["log_px"] == pytest.approx(found[row["estimator"]]["log_px"], abs=1e-3)
        assert row["se"] == pytest.approx(found[row["estimator"]]["se"], rel=0.1)
    # Both are lower bounds, and the figure shows the higher one.
    higher = max(found["importance"]["log_px"], found["ais"]["log_px"])
    assert float(rows[-1]["value"]) == pytest.approx(higher, abs=1e-3)
    before = _written(Path("runs/paper/figure3"))
    assert cli(*figure, "--data-dir", real_data).status == 0
    assert _written(Path("runs/paper/figure3")) == before  # nothing is done twice


def test_figure_2_from_the_command_line(cli, real_data):
    figure = ("paper", "figure2", "--panels", "frey:2", "--algorithms", "aevb", "--samples", "1500")
    result = cli(*figure, "--data-dir", real_data)
    assert result.status == 0, result.err
    written = [Path(line) for line in result.out.split()]
    assert [path.name for path in written] == ["figure2.csv", "figure2.png", "figure2.svg", "figure2-time.png"]
    with written[0].open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["panel"], row["algorithm"], row["split"]) for row in rows}
    assert found == {("frey:2", "aevb", split) for split in ("train", "test")}
    assert {row["samples"] for row in rows} == {"1000", "1500"}
    assert all(path.stat().st_size > 5000 for path in written[1:])


def test_figures_4_and_5_have_the_papers_grids(monkeypatch, tmp_path):
    run = train(tmp_path / "run", samples=1000, hidden=5, latent=2, progress=False)
    drawn = []
    monkeypatch.setattr("pyro_vae.paper.reruns.load_data", lambda *_, **__: None)
    monkeypatch.setattr("pyro_vae.paper.reruns.train_all", lambda cells, *_, **__: (dict.fromkeys(cells, run.path), {}))
    monkeypatch.setattr("pyro_vae.paper.figures._save", lambda figure, path: drawn.append(figure) or path)
    assert figure4(tmp_path, 1000) == [tmp_path / "figure4.png"]
    assert figure5(tmp_path, 1000) == [tmp_path / "figure5.png"]
    # A digit has 8 pixels along each side, and a pixel before it and after the last.
    grids = [[tuple((n - 1) / 9 for n in axes.images[0].get_array().shape[:2]) for axes in f.axes] for f in drawn]
    assert grids == [[(20, 20), (10, 10)], [(10, 10)] * 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--panels", "mnist:one"), "--panels mnist:one is not possible: write mnist:3,20 or frey:10, for example"),
        (("--algorithms", "mcem"), "--algorithms mcem is not in Figure 2: choose from aevb, wake_sleep"),
        (("frey:3",), "frey:3 is not expected: give --panels before it"),
        (("--samples", "many"), "--samples many is not possible"),
        (("--jobs", "0"), "--jobs 0 is not possible"),
        (("--data-dir", "nowhere", "--panels", "mnist:3"), "--data mnist cannot be downloaded"),
    ],
)
def test_wrong_input_is_answered_before_anything_is_trained(cli, arguments, message, monkeypatch, tmp_path):
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [])  # offline
    result = cli("paper", "figure2", *arguments)
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_an_algorithm_of_another_figure_is_refused_in_python_too(tmp_path):
    with pytest.raises(InputError, match="not in Figure 2"):
        figure2(tmp_path, [("mnist", 3)], ["mcem"], 1000, 1)
    with pytest.raises(InputError, match="not in Figure 3: choose from aevb, wake_sleep, mcem"):
        figure3(tmp_path, [1000], ["full_vb"], 1000, 1)
