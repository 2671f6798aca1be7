"""Settings: what is refused, and in which words."""

import math

import pytest

from pyro_vae.errors import InputError
from pyro_vae.run.settings import Settings, read_toml, whole


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"latent": 0}, "--latent 0 is not possible: give a whole number of at least 1"),
        ({"latent": None}, "--latent None is not possible"),
        ({"checkpoint_every": -1}, "--checkpoint-every -1 is not possible: give seconds, 0 or more"),
        ({"checkpoint_every": math.inf}, "--checkpoint-every inf is not possible"),
        ({"data": "a\0.npy"}, "--data 'a\\x00.npy' is not possible: give a name or path"),
        ({"latent": 2.5}, "--latent 2.5 is not possible"),
        ({"latent": "two"}, "--latent two is not possible"),
        ({"latent": True}, "--latent True is not possible"),
        ({"samples": -1}, "--samples -1 is not possible"),
        ({"samples": math.inf}, "--samples inf is not possible"),
        ({"samples": math.nan}, "--samples nan is not possible"),
        ({"batch": 0}, "--batch 0 is not possible"),
        ({"train_size": 0}, "--train-size 0 is not possible"),
        ({"seed": -1}, "--seed -1 is not possible: give a whole number of at least 0"),
        ({"step_size": 0}, "--step-size 0 is not possible: give a number above 0"),
        ({"step_size": "fast"}, "--step-size fast is not possible"),
        ({"kl": "exact"}, "--kl exact is unknown: choose from sampled, analytic"),
        ({"binarize": "yes"}, "--binarize yes is unknown: choose from none, threshold, static, dynamic"),
        ({"divisor": 254}, "--divisor 254 is not possible: choose from 1, 255, 256"),
        ({"model": 3}, "--model 3 is not possible: give a name or path"),
        ({"data": ""}, "--data '' is not possible"),
        ({"latnet": 2}, "setting latnet of the call is unknown: did you mean latent?"),
        ({"lr": 2}, "setting lr of the call is unknown: give step_size"),
        ({"epochs": 2}, "setting epochs of the call is unknown: give samples, the number of epochs times"),
        ({"zzz": 2}, "setting zzz of the call is unknown: choose from data, model"),
        (
            {"set": {"decoder": {}}},
            "set.decoder is not possible: set KEY=VALUE in a table of model, prior, guide, inference",
        ),
        ({"set": {"model": 3}}, "set.model is not possible"),
        ({"data_dir": 5}, "--data-dir 5 is not possible: give a name or path"),
        ({"set": 3}, "set is a table"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(given, message):
    with pytest.raises(InputError) as refusal:
        Settings.of(given)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_numbers_may_be_written_with_an_exponent():
    # The paper's step size goes with its Adagrad; Adam has its own.
    assert Settings().step_size == 0.02
    assert (Settings(optimizer="adam").step_size, Settings(optimizer="Adam").step_size) == (1e-3, 1e-3)
    assert Settings(optimizer="adam", step_size=0.02).step_size == 0.02
    settings = Settings.of({"samples": "1e6", "latent": 3.0, "step_size": "2e-2"})
    assert (settings.samples, settings.latent, settings.step_size) == (1_000_000, 3, 0.02)
    assert isinstance(settings.samples, int)
    assert whole("limit", "1e3") == 1000


def test_a_table_makes_the_same_settings():
    settings = Settings.of({"latent": 5, "set": {"model": {"min_log_variance": -6}}})
    assert Settings.of(settings.table()) == settings
    assert "train_size" not in settings.table()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"latent = ", "is not a TOML file"),
        (b"\xff\xfe", "is not a TOML file"),
        (b"settings = 3", "has settings that are not a table"),
    ],
)
def test_files_that_hold_no_settings_are_refused(tmp_path, content, message):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_toml(tmp_path / "a.toml")
    with pytest.raises(InputError, match="No such file"):
        read_toml(tmp_path / "b.toml")
