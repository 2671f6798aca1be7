"""A grid: it chooses steps, goes on where it was, and survives what fails."""

import signal
import subprocess
import sys
import time

from pyro_vae.paper.cells import Cell
from pyro_vae.paper.grid import Grid
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.workers import WorkerLost

TINY = ("--hidden", "8", "--batch", "20")


def _written(out):
    return {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}


def test_a_grid_takes_the_best_step_goes_on_and_does_nothing_twice(tmp_path, workers, capfd):
    # A step of 1e30 leaves the loss without a finite value.
    cell = Cell("digits", 2, "aevb", 0, TINY, step_sizes=(0.001, 0.1, 1e30))
    trained = Grid(tmp_path, 3000, workers).train([cell], "runs")
    assert trained == ({cell: tmp_path / "runs" / "digits-2-aevb-0.1-0"}, {})
    bounds = {step: read_metrics(tmp_path / "runs" / cell.name(step))[-1][2] for step in (0.001, 0.1)}
    assert bounds[0.1] > bounds[0.001]
    assert "dropped digits-2-aevb-1e+30-0: the " in capfd.readouterr().err
    before = _written(tmp_path)
    assert Grid(tmp_path, 3000, workers).train([cell], "runs") == trained
    assert _written(tmp_path) == before
    # `pilot` of 100,000 samples or less: a larger budget tries the steps further before one of them goes on.
    Grid(tmp_path, 4000, workers).train([cell], "runs")
    assert read_metrics(trained.folders[cell])[-1][0] == 4000
    assert [command[:2] for command in workers.commands[-2:]] == [["train", "--resume"]] * 2


def test_every_step_size_may_diverge(tmp_path, workers):
    cell = Cell("digits", 2, "aevb", 0, TINY, step_sizes=(1e30, 1e31))
    folders, failures = Grid(tmp_path, 3000, workers).train([cell], "runs")
    assert (folders, failures) == ({}, {cell: "digits-2-aevb-1e+30-0: every step size diverges"})


def test_a_run_that_fails_is_reported_and_the_others_go_on(tmp_path, workers):
    good = Cell("digits", 2, "aevb", 0, TINY, step_sizes=(0.1,))
    bad = Cell("digits", 2, "aevb", 1, ("--batch", "100000"), step_sizes=(0.1,))
    folders, failures = Grid(tmp_path, 2500, workers).train([bad, good], "runs")
    assert list(folders) == [good]
    assert "--batch 100000 is more than the" in failures[bad]


def test_a_run_that_loses_its_worker_goes_on_and_not_for_ever(tmp_path, workers, monkeypatch, capfd):
    cell = Cell("digits", 2, "aevb", 0, TINY, step_sizes=(0.1,))
    run, lost = workers.run, iter([WorkerLost("gone")])

    def lose_one(arguments, log):
        for loss in lost:
            raise loss
        return run(arguments, log)

    monkeypatch.setattr(workers, "run", lose_one)
    folders, failures = Grid(tmp_path, 2000, workers).train([cell], "runs")
    assert (list(folders), failures) == ([cell], {})
    assert capfd.readouterr().err.count("digits-2-aevb-0.1-0: gone, it resumes from its last checkpoint") == 1
    lost = iter([WorkerLost("gone")] * 5)
    _, failures = Grid(tmp_path, 3000, workers).train([cell], "runs")
    assert failures == {cell: "digits-2-aevb-0.1-0: it has lost 5 workers"}


def test_a_signal_ends_a_grid_after_checkpoints(tmp_path):
    arguments = (*TINY, "--checkpoint-every", "0.5", "--compile", "off")
    code = (
        "from pathlib import Path; from pyro_vae.paper.cells import Cell; from pyro_vae.paper.grid import Grid\n"
        f"Grid(Path(), 10**8).train([Cell('digits', 2, 'aevb', 0, {arguments}, step_sizes=(0.1,))], 'out')"
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
    assert "interrupted: continue with --resume" in (tmp_path / "out" / f"{folder.name}.log").read_text()
    assert (folder / "checkpoint.pt").exists()
