"""A run folder after `analyze`, shared by the tests of what it writes."""

import pytest

from pyro_vae import train
from pyro_vae.cli import main


@pytest.fixture(scope="session")
def analysed(tmp_path_factory):
    """A run on digits after `analyze`, which is to be left as it is."""
    out = tmp_path_factory.mktemp("analysed") / "run"
    train(out, data="digits", latent=2, hidden=20, samples=3000, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyro_vae.analysis.analyze._SIMULATIONS", 20)
        patch.setattr("pyro_vae.analysis.analyze._TRANSITIONS", 20)
        patch.setattr("pyro_vae.analysis.analyze._AT", 10)
        main(["analyze", str(out), "--limit", "12", "--chains", "2", "--draws", "30", "--warmup", "10"])
    return out


@pytest.fixture
def few_simulations(monkeypatch):
    """Keeps the simulation-based calibration short."""
    monkeypatch.setattr("pyro_vae.analysis.analyze._SIMULATIONS", 20)
    monkeypatch.setattr("pyro_vae.analysis.analyze._TRANSITIONS", 20)
    monkeypatch.setattr("pyro_vae.analysis.analyze._AT", 10)
