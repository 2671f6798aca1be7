"""`pyro-vae data` and `pyro-vae parts`: what there is to choose from."""

__all__ = ["data", "parts"]

import click


@click.command()
@click.argument("name", metavar="mnist|frey|digits|FILE")
@click.option("--data-dir", metavar="DIR", help="folder of the data sets  [default: $PYRO_VAE_DATA, else ./data]")
def data(name: str, data_dir: str | None) -> None:
    """Download a data set where it is missing, verify and describe it."""
    from pyro_vae.data.dataset import load_data

    loaded = load_data(name, folder=data_dir)
    train = loaded.train.first()
    for term, value in {
        "data": loaded.name,
        "training datapoints": f"{len(loaded.train):,}",
        "test datapoints": f"{len(loaded.test):,}",
        "datapoint": " x ".join(map(str, loaded.image_shape)) + " pixels"
        if loaded.image_shape
        else f"{loaded.features} cells",
        "stored as": f"{loaded.train.values.dtype}".removeprefix("torch.") + f", divided by {loaded.train.divisor}",
        "training values": f"{train.min():.4f} to {train.max():.4f}, mean {train.mean():.4f}",
        "sha-256": loaded.checksum,
    }.items():
        click.echo(f"{term:<20} {value}")


@click.command()
def parts() -> None:
    """List what is on the shelves."""
    from pyro_vae.run.parts import find, names

    for kind in ("model", "prior", "guide", "inference", "elbo", "marginal"):
        for name in names(kind):
            summary = (find(kind, name).__doc__ or "").strip().partition("\n")[0]
            click.echo(f"--{kind:<10} {name:<32} {summary.removeprefix('Creates ')}")
