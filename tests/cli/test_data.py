"""`pyro-vae data` and `pyro-vae parts`."""

import numpy as np
import pandas as pd


def test_data_describes_and_verifies(cli, real_data):
    result = cli("data", "frey", "--data-dir", real_data)
    assert result.status == 0
    for text in ("1,600", "365", "28 x 20 pixels", "uint8, divided by 256", "265a83a23adb"):
        assert text in result.out


def test_data_is_read_as_train_reads_them(cli):
    frame = pd.DataFrame(np.arange(0.5, 40).reshape(20, 2), columns=["a", "b"]).assign(
        sex=["f", "m"] * 10, n=range(20), kind=["x", "y", "z", None] * 5
    )
    frame.loc[:4, "a"] = np.nan
    frame.to_csv("x.csv", index=False)
    result = cli("data", "x.csv", "--label", "kind", "--kinds", "sex:category", "--drop", "b", "--test-share", 0.25)
    assert result.status == 0, result.err
    found = dict(line.split("  ", 1) for line in result.out.splitlines())
    found = {term: value.strip() for term, value in found.items()}
    assert found["training datapoints"] == "15"
    assert found["columns"] == "a (real), sex (category:2), n (count)"
    assert found["classes"] == "3: x, y, z"
    assert found["training values"].endswith("% missing")
    for flags, message in (
        ((), "has text in column sex, f in row 1"),
        (("--label", "knid"), "did you mean kind?"),
        (("--scale", "twice"), "--scale twice is unknown: choose from none, unit, standard"),
        (("--test-share", 2), "--test-share 2 is not possible"),
    ):
        result = cli("data", "x.csv", *flags)
        assert (result.status, result.err.count("\n")) == (2, 1)
        assert message in result.err


def test_parts_lists_the_shelves(cli):
    result = cli("parts")
    assert result.status == 0
    for text in ("--model      bernoulli", "--prior      normal", "--guide      gaussian", "--inference  aevb"):
        assert text in result.out
