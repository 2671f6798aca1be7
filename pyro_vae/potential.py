"""The old name of `pyro_vae.log_joint`, for programs written for version 0.1."""

__all__ = ["Potential"]

from pyro_vae.log_joint import LogJoint as Potential
