"""A grid of one's own: what runs it has, that it goes on, and its table."""

import csv
import json

import numpy as np
import pytest

from pyro_vae.errors import InputError
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.sweep import Sweep, points

TINY = {"hidden": 8, "samples": 300, "batch": 20, "compile": "off"}
EVALUATION = ["--limit", "10"]


def test_a_grid_has_all_combinations_of_its_values_with_each_seed():
    found = points({"seed": 3, "set": {"guide": {"depth": 2}}}, {"latent": ["2", "5"], "model.depth": [1, 2]}, 2)
    assert [point.name for point in found][:3] == [
        "latent=2-model.depth=1-seed=3",
        "latent=2-model.depth=1-seed=4",
        "latent=2-model.depth=2-seed=3",
    ]
    assert len(found) == 8
    last = found[-1].settings
    assert (last.latent, last.seed, last.set) == (5, 4, {"guide": {"depth": 2}, "model": {"depth": 2}})


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"latents": ["2"]}, "setting latents of --grid is unknown: did you mean latent?"),
        ({"latent": ["two"]}, "--latent two is not possible"),
        ({"seed": ["1"]}, "--grid seed is not possible: give --seeds"),
        ({name: ["1"] * 100 for name in ("latent", "hidden", "batch")}, "--grid has 1,000,000 runs, and 10,000 are"),
        ({"prior": ["a b", "a_b"]}, "two runs of one name, prior=a_b-seed=0"),
    ],
)
def test_impossible_grids_are_refused(grid, message):
    with pytest.raises(InputError, match=message):
        points({}, grid, 1)


def test_a_sweep_goes_on_and_does_nothing_twice(tmp_path, workers):
    grid = points(TINY, {"prior": ["normal", "laplace"]}, 2)
    sweep = Sweep(tmp_path, workers, EVALUATION)
    trained = sweep.finish(grid)
    assert (len(trained.folders), trained.failures) == (4, {})
    assert [command[0] for command in workers.commands] == ["train", "evaluate"] * 4
    table = sweep.table(trained)
    assert list(table)[:5] == ["prior", "seed", "samples", "seconds", "measure"]
    assert [*table["prior"]] == ["normal", "normal", "laplace", "laplace"]
    with (tmp_path / "sweep.csv").open() as file:
        rows = [*csv.DictReader(file)]
    result = json.loads((tmp_path / "prior=laplace-seed=1" / "evaluation.json").read_text())["result"]
    assert float(rows[3]["importance"]) == result["importance"]["log_px"]
    done = len(workers.commands)
    sweep.finish(grid)
    assert len(workers.commands) == done
    # A larger budget goes on from the checkpoints, and another evaluation trains nothing.
    more = points({**TINY, "samples": 400}, {"prior": ["normal", "laplace"]}, 1)
    assert [read_metrics(path)[-1][0] for path in sweep.finish(more).folders.values()] == [400, 400]
    assert [command[:2] for command in workers.commands[done::2]] == [["train", "--resume"]] * 2
    done = len(workers.commands)
    Sweep(tmp_path, workers, ["--limit", "5"]).finish(more[:1])
    assert [command[0] for command in workers.commands[done:]] == ["evaluate"]
    # Other settings are no continuation.
    other = points({**TINY, "hidden": 9}, {"prior": ["normal"]}, 1)
    with pytest.raises(InputError, match=r"holds another run: choose another --out, or remove it .--hidden 9 cannot"):
        sweep.finish(other)
    faster = points({**TINY, "step_size": 0.1}, {"prior": ["normal"]}, 1)
    with pytest.raises(InputError, match=r"it has --step-size 0\.02"):
        sweep.finish(faster)


@pytest.mark.parametrize(
    "found",
    [
        {},
        [1],
        {"result": {}},
        {"result": {"measure": "m", "bound": "x", "bound_se": 0.0}},
        {"result": {"measure": "m", "bound": 0.0, "bound_se": 0.0, "importance": {"se": 0.0}}},
        "\x1b",
    ],
)
def test_an_evaluation_that_is_none_is_made_anew(tmp_path, workers, found):
    grid = points(TINY, {"prior": ["normal"]}, 1)
    sweep = Sweep(tmp_path, workers, EVALUATION)
    folder = sweep.finish(grid).folders[grid[0]]
    if isinstance(found, dict):
        found = {"samples": 300, "arguments": EVALUATION, **found}
    (folder / "evaluation.json").write_text(json.dumps(found))
    table = sweep.table(sweep.finish(grid))
    assert [command[0] for command in workers.commands] == ["train", "evaluate", "evaluate"]
    assert np.isfinite(table["importance"].item())


def test_a_run_folder_that_is_a_link_is_refused(tmp_path, workers):
    (elsewhere := tmp_path / "elsewhere").mkdir()
    grid = points(TINY, {"prior": ["normal"]}, 1)
    (out := tmp_path / "out").mkdir()
    (out / grid[0].name).symlink_to(elsewhere)
    with pytest.raises(InputError, match="is a link"):
        Sweep(out, workers, EVALUATION).finish(grid)
    assert not workers.commands
    assert not [*elsewhere.iterdir()]


def test_a_users_file_goes_on_as_long_as_it_is_the_same(tmp_path, workers):
    part = tmp_path / "mine.py"
    text = "from pyro_vae.models.bernoulli import BernoulliModel\n\n\nclass Mine(BernoulliModel):\n    '''A {}.'''\n"
    part.write_text(text.format("model"))
    grid = points(TINY, {"model": [str(part)]}, 1)
    sweep = Sweep(tmp_path / "out", workers, EVALUATION)
    assert sweep.finish(grid).failures == {}
    assert sweep.finish(grid).failures == {}
    part.write_text(text.format("model that has changed"))
    with pytest.raises(InputError, match="holds another run"):
        sweep.finish(grid)


def test_a_run_that_fails_is_reported_and_the_others_go_on(tmp_path, workers):
    grid = points(TINY, {"batch": ["100000", "20"]}, 1)
    trained = Sweep(tmp_path, workers, EVALUATION).finish(grid)
    assert [point.values for point in trained.folders] == [(("batch", "20"),)]
    ((_, said),) = trained.failures.items()
    assert "batch=100000-seed=0: --batch 100000 is more than the" in said


def test_the_command_line(cli, in_process, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (150, 3)).astype(np.uint8))
    lines = ("data = 'x.npy'", "samples = 300", "hidden = 4", "seeds = 2", "[grid]", "latent = [1, 2]")
    (tmp_path / "grid.toml").write_text("\n".join(lines))
    done = cli("sweep", "grid.toml", "--limit", 5, "--grid", "model=gaussian,beta", "--out", "out", "--cells")
    assert done.status == 0, done.err
    assert done.out.split() == ["out/sweep.csv", "out/sweep.png"]
    assert (tmp_path / "out" / "sweep.png").stat().st_size > 5000
    with (tmp_path / "out" / "sweep.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 8
    assert all(0 <= int(row["active_latents"]) <= int(row["latent"]) for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "sweep needs a grid: give --grid latent=2,5,10"),
        (("--grid", "latent"), "--grid latent is not KEY=A,B,..."),
        (("--grid", "latent=2,"), "--grid latent=2, is not KEY=A,B,..."),
        (("--grid", "prior=nope"), "--prior nope is unknown: choose from "),
        (("--grid", "model.nope=1"), "nope"),
        (("--grid", "latent=2", "--seeds", "0"), "--seeds 0 is not possible"),
        (("--grid", "latent=2", "--cpus", "2"), "--cpus and --gpus are for runs on Ray"),
        (("--grid", "latent=2", "--data", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_wrong_input_is_answered_before_anything_is_trained(cli, arguments, message, tmp_path):
    result = cli("sweep", *arguments)
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_file_from_elsewhere_runs_no_python_code_that_was_not_named(cli, in_process, tmp_path):
    (tmp_path / "mine.py").write_text("raise SystemExit('it runs')")
    for lines in ("model = 'mine.py'\n[grid]\nlatent = [2]\n", "[grid]\nmodel = ['mine.py']\n"):
        (tmp_path / "grid.toml").write_text(lines)
        result = cli("sweep", "grid.toml")
        assert result.status == 2
        assert "grid.toml names a user's Python code, mine.py: read it, then give --trust" in result.err
