"""What a run tells others while it trains: TensorBoard, MLflow, Weights & Biases, each by one function.

None of their libraries is imported where it is not asked for.
"""

__all__ = ["Log", "require_tracker", "silent", "tracked"]

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module

from pyro_vae import ranks
from pyro_vae.errors import InputError, reason
from pyro_vae.run.folder import TENSORBOARD, inside
from pyro_vae.run.images import sampled
from pyro_vae.run.run import Run
from pyro_vae.run.settings import LOGS

Log = Callable[[int, Mapping[str, float]], None]
"""Takes the samples seen and values by name; where there are images, samples from the model go with them."""


def silent(samples: int, values: Mapping[str, float]) -> None:
    """Tells nobody."""


@contextmanager
def _tensorboard(run: Run) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(inside(run.path, TENSORBOARD)) as writer:

        def log(samples: int, values: Mapping[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, samples)
            if (picture := sampled(run)) is not None:
                writer.add_image("samples", picture, samples, dataformats="HWC")
            writer.flush()

        yield log


@contextmanager
def _mlflow(run: Run) -> Iterator[Log]:
    import mlflow

    with mlflow.start_run(run_name=str(run.path)):
        mlflow.log_params(run.settings.table())

        def log(samples: int, values: Mapping[str, float]) -> None:
            mlflow.log_metrics(dict(values), step=samples)
            if (picture := sampled(run)) is not None:
                mlflow.log_image(picture, key="samples", step=samples)

        yield log


@contextmanager
def _wandb(run: Run) -> Iterator[Log]:
    import wandb

    with wandb.init(project="pyro-vae", name=str(run.path), config=run.settings.table()) as tracker:

        def log(samples: int, values: Mapping[str, float]) -> None:
            picture = sampled(run)
            pictures = {} if picture is None else {"samples": wandb.Image(picture)}
            tracker.log({**values, **pictures}, step=samples)

        yield log


_TRACKERS: dict[str, Callable[[Run], AbstractContextManager[Log]]] = dict(
    zip(LOGS, (_tensorboard, _mlflow, _wandb), strict=True)
)


def require_tracker(name: str | None) -> None:
    """Checks that there is such a tracker here, where one is asked for.

    Raises:
        InputError: If it is unknown or not installed.
    """
    if name is None:
        return
    if name not in LOGS:
        raise InputError(f"--log {name} is unknown: choose from {', '.join(LOGS)}")
    try:
        import_module(name)
    except ImportError as error:
        raise InputError(
            f"--log {name} needs {name}, which is not installed: pip install 'pyro-vae[{name}]'"
        ) from error


@contextmanager
def tracked(name: str | None, run: Run) -> Iterator[Log]:
    """Opens a tracker for the time of a training; without a name, and on all ranks but the first, a silent one.

    Arguments:
        name: One of `LOGS`.
        run: The run.

    Raises:
        InputError: If it cannot be reached.
    """
    with ExitStack() as stack:
        try:
            log = silent if name is None or ranks.rank() else stack.enter_context(_TRACKERS[name](run))
        except InputError:
            raise
        except Exception as error:  # no server, no login
            raise InputError(f"--log {name} cannot begin: {reason(error)}") from error
        yield log
