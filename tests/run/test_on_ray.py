"""A grid on a Ray cluster of two nodes on this machine: it ends as it does in local processes."""

import threading
import time
from functools import partial

import pytest

from pyro_vae.errors import InputError, Interrupted
from pyro_vae.paper.cells import Cell
from pyro_vae.paper.grid import Grid
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.on_ray import OnRay
from pyro_vae.run.workers import Local

ray = pytest.importorskip("ray", reason="Ray is not installed")

TINY = ("--hidden", "8", "--checkpoint-every", "0.5", "--compile", "off")
CELLS = [Cell("digits", 2, algorithm, 0, TINY, step_sizes=(0.1,)) for algorithm in ("aevb", "wake_sleep")]


@pytest.fixture(scope="module")
def cluster():
    """A head with one core, and a second node with one core that a test may take away."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.2"}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        cluster.second = cluster.add_node(**node)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def _curves(folders):
    """The metrics of runs but for the seconds."""
    return [[(samples, *bounds) for samples, _, *bounds in read_metrics(path)] for path in folders.values()]


def _wait(ready):
    for _ in range(600):
        if ready():
            return
        time.sleep(0.1)
    raise AssertionError("it has not come to this within a minute")


def test_a_grid_survives_the_loss_of_a_node(cluster, tmp_path, capfd):
    workers = OnRay(cluster.address)
    ended = []
    grid = threading.Thread(target=lambda: ended.append(Grid(tmp_path, 40_000, workers).train(CELLS, "ray")))
    grid.start()
    folders = [tmp_path / "ray" / cell.name(0.1) for cell in CELLS]
    _wait(
        lambda: all(
            (path / "checkpoint.pt").exists() and len((path / "metrics.csv").read_text().splitlines()) > 7
            for path in folders
        )
    )
    cluster.remove_node(cluster.second, allow_graceful=False)
    grid.join()
    ((found, failures),) = ended
    assert failures == {}
    assert capfd.readouterr().err.count("it resumes from its last checkpoint") == 1
    logs = [path.with_name(f"{path.name}.log").read_text() for path in folders]
    assert [log.count("   1,000 samples") for log in logs] == [1, 1]  # none of them began anew
    local, _ = Grid(tmp_path, 40_000, Local(2)).train(CELLS, "local")
    assert _curves(found) == _curves(local)


def test_what_fails_on_a_worker_is_reported(cluster, tmp_path):
    bad = Cell("digits", 2, "aevb", 1, ("--batch", "100000"), step_sizes=(0.1,))
    found, failures = Grid(tmp_path, 2500, OnRay(cluster.address)).train([bad], "runs")
    assert found == {}
    assert "--batch 100000 is more than the" in failures[bad]


def test_a_signal_ends_tasks_after_checkpoints(cluster, tmp_path, monkeypatch):
    signals: list[int] = []
    monkeypatch.setattr("pyro_vae.run.pool.collected", partial(_Given, signals))
    folder = tmp_path / "runs" / CELLS[0].name(0.1)
    watch = threading.Thread(
        target=lambda: (_wait(lambda: (folder / "checkpoint.pt").exists()), time.sleep(1), signals.append(15))
    )
    watch.start()
    with pytest.raises(Interrupted):
        Grid(tmp_path, 10**9, OnRay(cluster.address)).train(CELLS[:1], "runs")
    assert "interrupted: continue with --resume" in folder.with_name(f"{folder.name}.log").read_text()


class _Given:
    """A context with the signals that have come."""

    def __init__(self, signals):
        self.signals = signals

    def __enter__(self):
        return self.signals

    def __exit__(self, *_):
        pass


def test_a_cluster_that_cannot_take_the_runs_is_refused(cluster, monkeypatch):
    with pytest.raises(InputError, match=r"--cpus 99, --gpus 0 is more than any node of .* has: lower it"):
        OnRay(cluster.address, cpus=99)
    with pytest.raises(InputError, match=r"--gpus 1.5 is not possible: give a share of one GPU, or a whole number"):
        OnRay(cluster.address, gpus=1.5)
