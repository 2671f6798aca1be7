"""What a run tells others: the real TensorBoard, and stand-ins that keep what they are told."""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pyro_vae import train
from pyro_vae.errors import InputError
from pyro_vae.run.images import sampled

TINY = {"samples": 1500, "hidden": 5, "progress": False}


def test_tensorboard_has_bounds_and_pictures(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tmp_path / "run", log="tensorboard", **TINY)
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    for name in ("train_bound", "test_bound"):
        told = [(event.step, event.value) for event in events.Scalars(name)]
        expected = [*run.metrics[["samples", name]].itertuples(index=False, name=None)]
        np.testing.assert_allclose(told, expected, rtol=1e-6)
    assert [picture.step for picture in events.Images("samples")] == run.metrics["samples"].to_list()
    # 6 x 6 digits of 8 pixels, two apart.
    assert events.Images("samples")[0].width == 62
    # A new run in its place begins anew, and no one's draws depend on who is told.
    plain = train(run.path, overwrite=True, **TINY)
    assert not (run.path / "tensorboard").exists()
    for own, other in zip(run.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(own, other)


def test_a_link_is_not_followed_out_of_the_run_folder(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "other").mkdir()
    run = train(tmp_path / "run", **TINY)
    (run.path / "tensorboard").symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match="tensorboard is a link, which may lead out of the folder: remove it"):
        train(run.path, resume=True, log="tensorboard", samples=2000, progress=False)
    train(run.path, overwrite=True, log="tensorboard", **TINY)
    assert [*(tmp_path / "other").iterdir()] == []
    assert (run.path / "tensorboard").is_dir()


@pytest.fixture
def told(monkeypatch):
    """What stand-ins for mlflow and wandb were told."""
    heard = []

    @contextmanager
    def opened(**about):
        heard.append(about)
        yield SimpleNamespace(log=lambda values, step: heard.append((step, values)))
        heard.append("closed")

    mlflow = SimpleNamespace(
        start_run=opened,
        log_params=heard.append,
        log_metrics=lambda values, step: heard.append((step, values)),
        log_image=lambda picture, key, step: heard.append((step, {key: picture})),
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=opened, Image=lambda picture: picture))
    return heard


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_each_evaluation_is_told_once(told, tmp_path, name):
    run = train(tmp_path / "run", log=name, **TINY)
    first, *rest, last = told
    assert str(run.path) in first.values()
    assert last == "closed"
    assert any(isinstance(each, dict) and each.get("hidden", each.get("config")) for each in [first, *rest])
    evaluations = [each for each in rest if isinstance(each, tuple)]
    for column in ("train_bound", "test_bound"):
        found = [(step, values[column]) for step, values in evaluations if column in values]
        assert found == [*run.metrics[["samples", column]].itertuples(index=False, name=None)]
    pictures = [values["samples"] for _, values in evaluations if "samples" in values]
    assert len(pictures) == len(run.metrics)
    np.testing.assert_array_equal(pictures[-1], sampled(run))


def test_a_tracker_that_fails_does_not_end_a_run(told, tmp_path, monkeypatch, capsys):
    def gone(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(sys.modules["mlflow"], "log_metrics", gone)
    run = train(tmp_path / "run", log="mlflow", **{**TINY, "progress": True})
    assert run.rows[-1][0] == 1500
    said = capsys.readouterr().err
    assert said.count("note: --log failed, and the run continues without it: ConnectionError: no route to host") == 1


def test_a_tracker_that_is_not_there_is_answered_before_training(told, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"--log wandb needs wandb, .*: pip install 'pyro-vae\[wandb\]'"):
        train(tmp_path / "a", log="wandb", **TINY)
    with pytest.raises(InputError, match="--log comet is unknown: choose from tensorboard, mlflow, wandb"):
        train(tmp_path / "b", log="comet", **TINY)

    assert [*tmp_path.iterdir()] == []

    def refused(**_):
        raise PermissionError("no login")

    monkeypatch.setattr(sys.modules["mlflow"], "start_run", refused)
    with pytest.raises(InputError, match="--log mlflow cannot begin: PermissionError: no login"):
        train(tmp_path / "c", log="mlflow", **TINY)
