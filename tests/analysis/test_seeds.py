"""Differences between models of several seeds: against moments by hand, and how often equal ones are told apart."""

import json
import math

import pytest
import torch

from pyro_vae import train
from pyro_vae.analysis.seeds import difference
from pyro_vae.marginal import Estimates


def _runs(values, se=0.0):
    return [Estimates(torch.tensor(row).double(), torch.full((len(row),), se).double()) for row in values]


def test_its_parts_are_the_moments_of_the_layout():
    # a has the means (2, 4) of its seeds and (1, 5) of its datapoints, 3 in all; residuals of 1 with alternating signs,
    # so that their mean square with 1 degree of freedom is 4. b is 0 but for its seeds, -1 and 1, without residuals.
    a = _runs([[1.0, 3.0], [1.0, 7.0]], se=0.1)
    b = _runs([[-1.0, -1.0], [1.0, 1.0]])
    found = difference(a, b)
    # Seed means of a are 2 and 4, of b -1 and 1: variances 2 and 2, over 2 seeds each: 2. Datapoint means 1 and 5: 4.
    # Residuals of a, 1 - 2 - 1 + 3 = 1 and so on: 4 / (1 * 1) / (2 * 2) = 1.
    assert found.mean == 3
    assert found.se == pytest.approx(math.sqrt(2 + 4 - 1))
    assert found.of_seeds == pytest.approx(1)
    assert found.of_draws == pytest.approx(math.sqrt(4 * 0.01 / 16))
    assert found.of_datapoints == pytest.approx(math.sqrt(5 - 1 - 0.0025))
    # A new run of each: 2 + 2 and, for what is known of the means, 2 more, with 2 degrees of freedom: Student's t with
    # these has the distribution function 1/2 + t / (2 sqrt(2 + t^2)), and t = 3 / sqrt(6).
    assert found.flips == pytest.approx(0.5 - math.sqrt(1.5) / (2 * math.sqrt(3.5)))


def _simulated(generator, seeds, datapoints, above=0.0, of_seeds=3.0):
    """Two models that differ by their seeds, by datapoint, and by each seed at each datapoint."""

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shared = 20 * normal(datapoints)
    models = []
    for mean in (0.0, above):
        own = shared + 2 * normal(datapoints)
        values = mean + own + of_seeds * normal(seeds, 1) + normal(seeds, datapoints)
        models.append([Estimates(row + 0.3 * normal(datapoints), torch.full((datapoints,), 0.3)) for row in values])
    return models


def test_equal_models_are_called_different_in_five_percent_of_comparisons():
    # Of 200 comparisons at 5 %, 10 are expected, and 4 to 16 within two standard deviations, 2 to 8 %. One run of each,
    # paired by datapoint, has a standard error of sqrt(2 * 4 + 2 * 1.09) / sqrt(200) = 0.23, and differences of seeds
    # of 3 sqrt(2) = 4.2: |N(0, 4.2)| is above 2 * 0.23 in 91 %, and within three standard deviations in 85 to 97 %.
    generator = torch.Generator().manual_seed(0)
    called = alone = 0
    for _ in range(200):
        first, other = _simulated(generator, seeds=5, datapoints=200)
        called += difference(other, first).p < 0.05
        mean, se = other[0].minus(first[0])
        alone += abs(mean) > 1.96 * se
    assert 4 <= called <= 16
    assert 170 <= alone <= 194


def test_where_seeds_make_nothing_datapoints_are_what_is_left():
    # Without seeds' own part the test must not be fooled either: datapoints alone make the error.
    generator = torch.Generator().manual_seed(1)
    called = 0
    for _ in range(200):
        first, other = _simulated(generator, seeds=3, datapoints=50, of_seeds=0.0)
        called += difference(other, first).p < 0.05
    assert 4 <= called <= 16


def test_the_number_of_seeds_that_it_asks_for_settles_it():
    # A difference of 3 where seeds have 3: so many seeds as are asked for call it in about 80 % of comparisons.
    generator = torch.Generator().manual_seed(2)
    exact = _simulated(generator, seeds=400, datapoints=200, above=3.0)
    found = difference(exact[1], exact[0])
    assert found.mean == pytest.approx(3, abs=4 * found.se)
    # The variance 2 * 9 / n, and what datapoints leave, must be the square of the difference over 1.96 + 0.84.
    expected = 18 / ((found.mean / 2.8) ** 2 - found.of_datapoints**2)
    assert 0.85 * expected < found.seeds < 1.2 * expected
    called = 0
    for _ in range(100):
        first, other = _simulated(generator, seeds=found.seeds, datapoints=200, above=found.mean)
        called += difference(other, first).p < 0.05
    assert 66 <= called <= 92  # 80 % within three standard deviations of 4 %
    # A new run of each ranks them the other way where N(mean, 2 * 9) is below 0.
    below = torch.distributions.Normal(found.mean, math.sqrt(18.0)).cdf(torch.zeros(())).item()
    assert found.flips == pytest.approx(below, abs=0.04)


def test_datapoints_that_are_too_few_are_not_mended_by_seeds():
    generator = torch.Generator().manual_seed(3)
    first, other = _simulated(generator, seeds=50, datapoints=20, above=0.1, of_seeds=0.0)
    assert difference(other, first).seeds is None


def test_equal_values_differ_by_nothing():
    runs = _runs([[1.0, 2.0], [1.0, 2.0]])
    found = difference(runs, runs)
    assert (found.mean, found.se, found.p) == (0, 0, 1)


def test_by_seed(cli):
    for prior in ("normal", "laplace"):
        for seed in (0, 1):
            settings = {"prior": prior, "seed": seed, "samples": 300, "hidden": 5}
            train(f"{prior}{seed}", progress=False, **settings)
    paths = ("normal0", "normal1", "laplace0", "laplace1")
    options = ("--limit", 20, "--particles", 20, "--by", "seed")
    done = cli("compare", *paths, *options, "--json")
    assert done.status == 0, done.err
    first, second = json.loads(done.out)["models"]
    assert (first["name"], second["name"]) == ("prior=normal", "prior=laplace")
    assert (second["runs"], second["seeds"]) == (["laplace0", "laplace1"], [0, 1])
    for kind in ("bound", "importance"):
        assert second[kind]["difference"] == pytest.approx(second[kind]["mean"] - first[kind]["mean"])
        assert 0 <= second[kind]["p"] <= 1
    shown = cli("compare", *paths, *options).out
    assert "prior=laplace" in shown
    assert "flips" in shown
    assert cli("compare", *paths, *options, "--csv").out.count("\n") == 3
    alone = cli("compare", "normal0", "normal1", "laplace0", *options)
    assert alone.status == 2
    assert "prior=laplace has one, laplace0: train another" in alone.err
    assert "all of one" in cli("compare", "normal0", "normal1", *options).err
    twice = cli("compare", "normal0", "normal0", "laplace0", "laplace1", *options).err
    assert "normal0 and normal0 have one seed, 0" in twice
