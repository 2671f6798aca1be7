"""How files become numbers: data sets by name or path, and their splits."""

__all__ = ["Dataset", "Split", "data_dir", "load_data"]

from pyro_vae.data.dataset import Dataset, data_dir, load_data
from pyro_vae.split import Split
