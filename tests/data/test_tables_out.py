"""What comes out goes on: latent variables, imputed cells and draws, as tables."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_vae.analysis.drawn import draw
from pyro_vae.analysis.encode import encode
from pyro_vae.analysis.impute import impute
from pyro_vae.analysis.tables import write_table
from pyro_vae.data import adapted, load_data
from pyro_vae.data.loading import more_of
from pyro_vae.errors import InputError
from pyro_vae.run.train import train
from pyro_vae.split import Split


def test_encodes_the_exact_posterior(oracle):
    oracle.guide.set_exact(oracle.model)
    split = Split(oracle.x, labels=torch.arange(200) % 3)
    table = encode(oracle.model, oracle.guide, split, classes=("a", "b", "c"), particles=40)
    mean, covariance = oracle.model.posterior(oracle.x)
    np.testing.assert_allclose(table[["z_1", "z_2"]], mean, atol=1e-5)
    np.testing.assert_allclose(table[["z_1_sd", "z_2_sd"]], covariance.diagonal().sqrt().expand(200, 2), atol=1e-5)
    # Under the exact posterior every draw has the weight p(x).
    np.testing.assert_allclose(table["log_px"], oracle.model.log_px(oracle.x), atol=2e-4)
    np.testing.assert_allclose(table["bound"], oracle.model.log_px(oracle.x), atol=2e-4)
    assert (table["khat"] < 0.7).all()
    assert table["label"].fillna("").tolist()[:4] == ["a", "b", "c", "a"]


def test_without_a_guide_a_gaussian_is_fitted(oracle):
    table = encode(oracle.model, None, Split(oracle.x[:20]), particles=2000)
    mean, _ = oracle.model.posterior(oracle.x[:20])
    # Its means are the posterior's but for the noise of 300 steps of Adam with one draw each.
    np.testing.assert_allclose(table[["z_1", "z_2"]], mean, atol=0.15)


def test_imputes_the_conditional_gaussian(oracle):
    # x_m given x_o is Gaussian: mean b_m + C_mo C_oo^-1 (x_o - b_o), covariance C_mm - C_mo C_oo^-1 C_om.
    x = oracle.x[:60].clone()
    holes = torch.rand(x.shape, generator=torch.Generator().manual_seed(5)) < 0.3
    holes[0] = True  # a datapoint of which nothing is known has the marginal
    x[holes] = math.nan
    data = load_data(x.numpy(), test_share=0.5)
    model, _, data = adapted(oracle.model, None, data)
    particles = 4000
    table = impute(model, None, data.train, particles=particles, draws=400)
    rows = data.train.first()
    covariance = oracle.model.weight @ oracle.model.weight.T + oracle.model.noise**2 * torch.eye(5)
    assert len(table) == int(rows.isnan().sum())
    errors = []
    for row, cells in table.groupby("row"):
        m = rows[row].isnan()
        gain = covariance[m][:, ~m] @ covariance[~m][:, ~m].inverse()
        mean = oracle.model.bias[m] + gain @ (rows[row] - oracle.model.bias)[~m]
        sd = (covariance[m][:, m] - gain @ covariance[~m][:, m]).diagonal().sqrt()
        assert cells["column"].tolist() == (m.nonzero().flatten() + 1).tolist()
        # A mean of K weighted draws has a standard error of about sd / sqrt(K / 2), since the fitted Gaussian leaves
        # more than half of the effective draws; a standard deviation one of sd / sqrt(K).
        errors.append((torch.tensor(cells["mean"].values) - mean) / sd / math.sqrt(2 / particles))
        errors.append((torch.tensor(cells["sd"].values) - sd) / sd / math.sqrt(2 / particles))
        drawn = torch.tensor(cells.filter(like="draw").values)
        assert (((drawn.mean(1) - mean) / sd).abs() < 5 / math.sqrt(400)).all()
        assert ((drawn.std(1) / sd).log().abs() < 5 / math.sqrt(800)).all()
    assert torch.cat(errors).abs().max() < 4.5


def test_nothing_missing_is_nothing_to_impute(oracle):
    with pytest.raises(InputError, match="no cell is missing"):
        impute(oracle.model, None, oracle.split)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(60, 3)) * [1, 100, 0.1] + [0, 1000, 5], columns=["a", "b", "c"])
    frame["kind"] = ["x", "y"] * 30
    frame.loc[::9, "b"] = np.nan
    frame.to_csv(folder / "x.csv", index=False)
    return train(
        folder / "run",
        data=str(folder / "x.csv"),
        label="kind",
        model="normal",
        scale="standard",
        hidden=5,
        samples=3000,
        batch=20,
        optimizer="Adam",
        progress=False,
    )


def test_draws_are_in_the_datas_own_units(run):
    table = draw(run.model, run.dataset, 500)
    assert list(table.columns) == ["a", "b", "c"]
    # The training cells of b have a mean of 1,000 and a standard deviation of 100, and so have draws, roughly.
    assert abs(table["b"].mean() - 1000) < 40
    assert 50 < table["b"].std() < 200
    assert abs(table["c"].mean() - 5) < 0.04


def test_new_data_of_the_same_kind_are_taken(run, tmp_path):
    new = pd.DataFrame(
        {"kind": ["y", "z", None], "c": [5.0, 5.1, 4.9], "b": [1000.0, None, 900.0], "a": [0.0, 1.0, -1.0]}
    )
    with pytest.raises(InputError, match="has no column b"):
        more_of(new.drop(columns="b"), run.dataset)
    with pytest.raises(InputError, match="has 2 features, and the run was trained on a, b, c"):
        more_of(np.zeros((4, 2)), run.dataset, kind=np.zeros(4))
    new.to_csv(tmp_path / "new.csv", index=False)
    rows = more_of(tmp_path / "new.csv", run.dataset).test
    assert rows.labels.tolist() == [1, -1, -1]  # "z" is none of the classes
    table = encode(run.model, run.guide, rows, classes=run.dataset.classes)
    assert table["label"].fillna("").tolist() == ["y", "", ""]
    imputed = impute(run.model, run.guide, rows, names=run.dataset.names)
    assert imputed["column"].tolist() == ["b"]
    assert imputed["row"].tolist() == [1]
    assert abs(imputed["mean"][0] - 1000) < 100


@pytest.mark.parametrize("name", ["z.csv", "z.tsv", "z.npz", "z.npy"])
def test_tables_are_read_back(tmp_path, name):
    frame = pd.DataFrame({"a": [1.5, 2.5], "label": np.array(["x", None], dtype=object)})
    path = write_table(frame, tmp_path / name)
    if name == "z.npy":
        assert np.load(path).tolist() == [[1.5], [2.5]]
    elif name == "z.npz":
        with np.load(path) as found:
            assert found["a"].tolist() == [1.5, 2.5]
            assert found["label"].tolist() == ["x", ""]
    else:
        pd.testing.assert_frame_equal(
            pd.read_csv(path, sep=None, engine="python"), frame, check_dtype=False, check_column_type=False
        )
    assert [*tmp_path.iterdir()] == [path]


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"give the name of a file that ends in \.csv"):
        write_table(pd.DataFrame(), tmp_path / "z.xlsx")
    with pytest.raises(InputError, match="in a folder that exists"):
        write_table(pd.DataFrame(), Path("nowhere") / "z.csv")


def test_tables_from_the_command_line(cli, run, tmp_path):
    assert cli("encode", run.path, "--out", "z.csv", "--particles", 30).status == 0
    table = pd.read_csv("z.csv")
    assert list(table.columns) == ["row", "z_1", "z_2", "z_1_sd", "z_2_sd", "label", "bound", "log_px", "khat"]
    assert table["row"].tolist() == run.dataset.rows[1].tolist()
    frame = pd.read_csv(run.settings.data)
    assert table["label"].tolist() == frame["kind"][table["row"]].tolist()
    result = cli("impute", run.path, "--data", run.settings.data, "--out", "m.csv", "--draws", 2, "--particles", 50)
    assert result.out == "7 rows in m.csv\n"
    table = pd.read_csv("m.csv")
    assert list(table.columns) == ["row", "column", "mean", "sd", "draw_1", "draw_2", "khat"]
    assert table["row"].tolist() == [*range(0, 60, 9)]
    assert set(table["column"]) == {"b"}
    assert cli("sample", run.path, "--number", 7, "--out", "x.npy").status == 0
    assert np.load("x.npy").shape == (7, 3)
    result = cli("encode", run.path, "--out", "z.doc")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert cli("sample", run.path).status == 0  # a table is drawn as its marginals
