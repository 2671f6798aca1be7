"""The settings of a run: their defaults, their checks, and the files they are read from.

Nothing here needs torch, so that the command line can answer at once.
"""

__all__ = [
    "BINARIZE",
    "COMPILE",
    "KL",
    "LOGS",
    "MARGINAL",
    "MEANT",
    "OF_DATA",
    "PARTS",
    "Settings",
    "is_file",
    "read_toml",
    "require_named",
    "usual_step",
    "whole",
]

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pyro_vae.data.choices import BINARIZE, CHANNELS, SCALES
from pyro_vae.errors import InputError
from pyro_vae.run.toml import read_toml_file

KL = ("sampled", "analytic")
COMPILE = ("auto", "on", "off")
LOGS = ("tensorboard", "mlflow", "wandb")
MARGINAL = "importance"
"""The estimator of log p(x) where none is asked for."""

PARTS = ("model", "prior", "guide", "inference", "elbo")

OF_DATA = (
    "binarize",
    "divisor",
    "train_size",
    "columns",
    "drop",
    "kinds",
    "label",
    "covariates",
    "group",
    "split_column",
    "test",
    "test_share",
    "stratify",
    "scale",
    "channels",
    "resize",
)
"""The settings that `load_data` has under the same names."""

# What people call settings elsewhere, and what they are here.
MEANT = {
    "epochs": "--samples, the number of epochs times that of training datapoints",
    "num_epochs": "--samples, the number of epochs times that of training datapoints",
    "steps": "--samples, the number of steps times --batch",
    "lr": "--step-size",
    "learning_rate": "--step-size",
    "batch_size": "--batch",
    "latent_dim": "--latent",
    "z_dim": "--latent",
    "hidden_dim": "--hidden",
    "dataset": "--data",
    "optim": "--optimizer",
    "num_particles": "--particles",
    "loss": "--elbo",
    "output": "--out",
}

_TRUTH = {"true": True, "false": False}

Options = dict[str, dict[str, Any]]


def _setting(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on, as `run.toml` records it."""

    data: str = _setting("digits", "digits, mnist, frey, one of torchvision's, or the path of a file or a folder")
    model: str = _setting("bernoulli", "generative model p(x|z), by name or FILE.py[:CLASS]")
    prior: str = _setting("normal", "prior p(z), by name or FILE.py[:CLASS]")
    guide: str = _setting("gaussian", "recognition model q(z|x), by name or FILE.py[:CLASS]")
    inference: str = _setting("aevb", "learning algorithm, by name or FILE.py[:CLASS]")
    elbo: str = _setting("Trace_ELBO", "estimator of the bound, a class of pyro.infer by name, or FILE.py[:CLASS]")
    latent: int = _setting(2, "number of latent variables")
    hidden: int = _setting(500, "number of hidden units")
    samples: int = _setting(200_000, "training budget in datapoint evaluations, 1e6 for example")
    batch: int = _setting(100, "datapoints in a minibatch")
    step_size: float = _setting(None, "global step size  [default: 0.02, of other optimizers than adagrad 0.001]")
    train_size: int | None = _setting(None, "use the first N training datapoints only")
    kl: str = _setting("sampled", "the paper's estimator A (sampled) or B (analytic)", KL)
    particles: int = _setting(1, "draws of z per datapoint in the objective")
    enumerate: bool = _setting(False, "sum out all discrete latent variables, not only those that are marked to be")
    optimizer: str = _setting("adagrad", "adagrad with the paper's warm-up, or a name from torch.optim or pyro.optim")
    binarize: str = _setting("none", "how pixels are made binary", BINARIZE)
    divisor: int = _setting(256, "what bytes are divided by, 256 or 255; 1 makes counts of them")
    columns: str | None = _setting(None, "columns of a table that are cells, A,B,C  [default: all]")
    drop: str | None = _setting(None, "columns of a table to leave out, A,B,C")
    kinds: str | None = _setting(None, "kinds of columns, A:real,B:category; positive, count and binary are others")
    label: str | None = _setting(None, "column that is the label")
    covariates: str | None = _setting(None, "columns that are covariates, A,B,C")
    group: str | None = _setting(None, "column that is a group, all of which is in one split")
    split_column: str | None = _setting(None, "column that says train or test")
    test: str | None = _setting(None, "file whose datapoints are the test split")
    test_share: float = _setting(0.2, "share of the test split, where the data have none of their own")
    stratify: bool = _setting(False, "give the test split that share of each class: true or false")
    scale: str = _setting("none", "how networks see the cells; bounds stay in the data's own units", SCALES)
    channels: str | None = _setting(None, "where the channels of images are, first or last")
    resize: str | None = _setting(None, "size to make images of a folder, 28x28 for example")
    seed: int = _setting(0, "the seed of everything random")
    device: str = _setting("auto", "auto, cpu, cuda, cuda:1, ...")
    compile: str = _setting("auto", "compile the steps: on, off, or where the budget repays it", COMPILE)
    checkpoint_every: float = _setting(60.0, "seconds between checkpoints: a run that is killed loses no more")
    data_dir: str | None = _setting(None, "folder of the data sets  [default: $PYRO_VAE_DATA, else ./data]")
    set: Options = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.step_size is None:
            object.__setattr__(self, "step_size", usual_step(self.optimizer))
        for name in ("latent", "hidden", "samples", "batch", "train_size", "particles", "seed", "divisor"):
            value = getattr(self, name)
            if value is not None or name != "train_size":
                object.__setattr__(self, name, whole(name, value, least=0 if name == "seed" else 1))
        if self.divisor not in (1, 255, 256):
            raise InputError(f"--divisor {self.divisor} is not possible: choose from 1, 255, 256")
        if not 0 < _real(self.test_share) < 1:
            raise InputError(f"--test-share {self.test_share} is not possible: give a share between 0 and 1")
        for name in ("stratify", "enumerate"):
            if (truth := _TRUTH.get(str(getattr(self, name)).lower())) is None:
                raise InputError(f"--{name} {getattr(self, name)} is not possible: choose from true, false")
            object.__setattr__(self, name, truth)
        if self.channels not in (None, *CHANNELS):
            raise InputError(f"--channels {self.channels} is unknown: choose from {', '.join(CHANNELS)}")
        if not 0 < _real(self.step_size) < math.inf:
            raise InputError(f"--step-size {self.step_size} is not possible: give a number above 0")
        if not 0 <= _real(self.checkpoint_every) < math.inf:
            raise InputError(f"--checkpoint-every {self.checkpoint_every} is not possible: give seconds, 0 or more")
        for name in ("step_size", "checkpoint_every", "test_share"):
            object.__setattr__(self, name, _real(getattr(self, name)))
        for entry in fields(self):
            value, choices = getattr(self, entry.name), entry.metadata.get("choices")
            if choices and value not in choices:
                raise InputError(f"{_flag(entry.name)} {value} is unknown: choose from {', '.join(choices)}")
            if entry.type in ("str", str, str | None) and not (
                (isinstance(value, str) and value and "\0" not in value) or (value is None and entry.default is None)
            ):
                raise InputError(f"{_flag(entry.name)} {value!r} is not possible: give a name or path")
        if not isinstance(self.set, Mapping):
            raise InputError("set is a table in a configuration file: [set.model], for example")
        for part, options in self.set.items():
            if part not in PARTS or not isinstance(options, Mapping):
                raise InputError(f"set.{part} is not possible: set KEY=VALUE in a table of {', '.join(PARTS)}")

    @classmethod
    def of(cls, given: Mapping[str, Any], where: str = "the call") -> "Settings":
        """Builds settings from a mapping.

        Arguments:
            given: Values by the names of the settings.
            where: What the mapping is from, for the message.

        Raises:
            InputError: If there is an unknown name or an impossible value.
        """
        names = [entry.name for entry in fields(cls)]
        for name in given:
            if name not in names:
                if name in MEANT:
                    raise InputError(
                        f"setting {name} of {where} is unknown: give {MEANT[name].replace('--', '').replace('-', '_')}"
                    )
                near = difflib.get_close_matches(name, names, n=1)
                mend = f"did you mean {near[0]}?" if near else f"choose from {', '.join(names)}"
                raise InputError(f"setting {name} of {where} is unknown: {mend}")
        return cls(**given)

    def table(self) -> dict[str, Any]:
        """Returns the settings as a table for a TOML file, which has no word for what is not set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def usual_step(optimizer: str) -> float:
    """Returns the step size where none is given: the paper's for its Adagrad, and Adam's own for all others."""
    return 0.02 if optimizer == "adagrad" else 1e-3


def whole(name: str, value: Any, least: int = 1, most: int = 2**53) -> int:
    """Reads a whole number, which may be written `1e6`.

    Raises:
        InputError: If the value is none, or not between the least and the most.
    """
    number = _real(value)
    if not (least <= number <= most and number.is_integer()):
        bounds = f"of at least {least}" if most == 2**53 else f"from {least} to {most}"
        raise InputError(f"{_flag(name)} {value} is not possible: give a whole number {bounds}")
    return int(number)


def read_toml(path: Path) -> dict[str, Any]:
    """Reads the settings of a configuration file, or those in a run's `run.toml`.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        content = read_toml_file(path)
    except OSError as error:
        raise InputError(f"--config {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"--config {path} is not a TOML file of settings: {error}") from error
    settings = content.get("settings", content)
    if not isinstance(settings, dict):
        raise InputError(f"{path} has settings that are not a table: write [settings]")
    return settings


def is_file(spec: Any) -> bool:
    """Whether a part is asked for by path, `FILE.py` or `FILE.py:CLASS`."""
    return isinstance(spec, str) and (spec.endswith(".py") or ".py:" in spec)


def require_named(given: Mapping[str, Any], named: Mapping[str, Any], where: str) -> None:
    """Checks that the user's files in settings from elsewhere are those that the user has named in this call.

    Arguments:
        given: The settings.
        named: Those that the user has named.
        where: What the others are from, for the message.

    Raises:
        InputError: If one is not.
    """
    for kind in PARTS:
        spec = given.get(kind)
        if is_file(spec) and named.get(kind) != spec:
            raise InputError(
                f"{where} names a user's Python code, {spec}: read it, then give --trust, or name it by --{kind}"
            )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _real(value: Any) -> float:
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
