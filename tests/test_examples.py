"""Every example runs, with a tiny budget."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
ARGUMENTS = {
    "arviz_analysis.py": ["2000", "2"],
    "benchmark.py": ["1"],
    "benchmark_gpu.py": ["1"],
    "benchmark_hmc.py": ["20", "1"],
    "benchmark_mapped.py": ["0.05", "2000"],
    "benchmark_ranks.py": ["1", "100"],
    "benchmark_scaling.py": ["1"],
    "clusters.py": ["300", "1", "digits"],
    "colour_images.py": ["300"],
    "compare_baselines.py": ["300"],
    "conv_decoder.py": ["300"],
    "counts.py": ["300"],
    "estimators.py": ["2000", "4"],
    "full_vb.py": ["2000"],
    "imputation.py": ["20", "1"],
    "own_model.py": ["300"],
    "quickstart.py": ["2000"],
    "semi_supervised.py": ["300", "1", "digits"],
    "swap_likelihood.py": ["300"],
    "swap_prior.py": ["300"],
    "tutorial_vae.py": ["1000"],
}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [path.name, *ARGUMENTS[path.name]])
    monkeypatch.syspath_prepend(str(EXAMPLES))  # as where a script lies
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
