"""`pyro-vae paper`: wrong input, answered in one line before anything is trained."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--panels", "mnist:one"), "--panels mnist:one is not possible: write mnist:3,20 or frey:10, for example"),
        (("--algorithms", "none"), "--algorithms none is unknown: choose from aevb, "),
        (
            ("--algorithms", "aevb,none.py:Mine"),
            "--algorithms none.py cannot be read: No such file or directory: give the path of a Python file",
        ),
        (("frey:3",), "frey:3 is not expected: give --panels before it"),
        (("--samples", "many"), "--samples many is not possible"),
        (("--jobs", "0"), "--jobs 0 is not possible"),
        (("--data-dir", "nowhere", "--panels", "mnist:3"), "--data mnist cannot be downloaded"),
        (("--cpus", "2"), "--cpus and --gpus are for runs on Ray: give --ray as well, or --jobs alone"),
        (("--ray", "local", "--jobs", "2"), "--jobs 2 does not apply on Ray: give --cpus, the cores of each run"),
    ],
)
def test_wrong_input_is_answered_before_anything_is_trained(cli, arguments, message, monkeypatch, tmp_path):
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [])  # offline
    result = cli("paper", "figure2", *arguments)
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_cluster_that_does_not_answer_is_said(cli):
    pytest.importorskip("ray", reason="Ray is not installed")
    result = cli("paper", "figure4", "--ray", "127.0.0.1:1")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "--ray 127.0.0.1:1 does not answer: start it by `ray start`" in result.err


def test_a_damaged_table_is_refused_before_the_long_part(cli, tmp_path):
    (tmp_path / "figure2.csv").write_text("nonsense\n")
    for command in ("figure2", "claims"):
        result = cli("paper", command, "--out", tmp_path)
        assert (result.status, result.err.count("\n")) == (2, 1)
        assert "figure2.csv is damaged: its columns are not figure, panel" in result.err
        assert [path.name for path in tmp_path.iterdir()] == ["figure2.csv"]
