"""Train on a file that is larger than memory, beside data that lie in memory: speed, memory, and going on bitwise.

python examples/benchmark_mapped.py [GIGABYTES [SAMPLES]]
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pyro_vae import fit, train
from pyro_vae.data import Dataset, load_data, mapped
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.models.normal import NormalModel

FEATURES, HIDDEN, LATENT = 784, 200, 20
IN_MEMORY = 50_000


def most() -> int:
    """The most that this process has held in memory, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def speed(data: Dataset, samples: float) -> float:
    """Samples a second of processor time, which other processes do not change, once steps are compiled."""
    torch.manual_seed(0)
    model, guide = NormalModel(FEATURES, LATENT, hidden=HIDDEN), GaussianGuide(FEATURES, LATENT, hidden=HIDDEN)
    learner = AEVB(model, guide, data.train, optimizer="adam", step_size=1e-4, compile=samples >= 1e5)
    clock = fit(learner, samples / 10)
    start, began = clock.samples, time.process_time()
    fit(learner, samples, clock=clock)
    return (clock.samples - start) / (time.process_time() - began)


def main(gigabytes: float = 20, samples: float = 2e5) -> None:
    with tempfile.TemporaryDirectory() as folder:
        small, large, runs = Path(folder, "small.npy"), Path(folder, "large.npy"), Path(folder, "runs")
        np.save(small, np.zeros((IN_MEMORY, FEATURES), np.float32))
        rows = int(gigabytes * 1e9) // (4 * FEATURES)
        # Sparse: zeros take no room on the disk, and the same room in memory as any others.
        np.lib.format.open_memmap(large, mode="w+", dtype=np.float32, shape=(rows, FEATURES)).flush()
        mapped.LARGE = min(mapped.LARGE, large.stat().st_size - 1)
        settings = {"model": "normal", "hidden": HIDDEN, "latent": LATENT, "optimizer": "adam", "step_size": 1e-4}
        settings |= {"progress": False, "compile": "off"}
        train(runs / "small", data=str(small), samples=samples / 10, **settings)
        usual, before = speed(load_data(small), samples), most()
        found = speed(load_data(large), samples)
        print(f"{large.stat().st_size / 1e9:.1f} GB, {rows:,} datapoints")
        print(f"speed: {found:,.0f} samples a second of processor time, {found / usual:.2f} of {usual:,.0f} in memory")
        run = train(runs / "large", data=str(large), samples=samples / 10, **settings)
        print(f"memory: at most {most() - before:,} MiB above the {before:,} MiB of a small run")
        train(runs / "half", data=str(large), samples=samples / 20, **settings)
        again = train(runs / "half", resume=True, samples=samples / 10, progress=False)
        same = all(map(torch.equal, run.model.state_dict().values(), again.model.state_dict().values()))
        print(f"a run that is cut in half and goes on has {'the same' if same else 'OTHER'} weights at its end")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
