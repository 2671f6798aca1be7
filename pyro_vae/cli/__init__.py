"""The command line, `pyro-vae`."""

__all__ = ["main"]

from pyro_vae.cli.main import main
