"""What a step costs on several ranks, and how much of it is their sum of gradients.

    torchrun --nproc-per-node 2 examples/benchmark_ranks.py

MNIST's shapes, 784-500-20, on random pixels. Milliseconds, medians over the steps of the slowest rank.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

from pyro_vae import ranks
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.split import Split


def main(steps: int = 200, *batches: int) -> None:
    ranks.join()
    data = Split(torch.rand(10_000, 784)).divided()
    if ranks.rank() == 0:
        print(f"{ranks.count()} ranks, {torch.get_num_threads()} threads each")
        print("batch  step (ms)  sum of gradients (ms)  datapoints/s")
    for batch in batches or (100, 400, 1600, 6400):
        torch.manual_seed(0)
        model, guide = BernoulliModel(784, 20, hidden=500), GaussianGuide(784, 20, hidden=500)
        learner = AEVB(model, guide, data, batch=batch, kl="analytic", compile=True)
        # The compilation comes first; what is left has as many datapoints whatever the batch.
        learner.step()
        rounds = max(3, steps * 100 // batch)
        step = _median(learner.step, rounds)
        gradients = [torch.zeros_like(parameter) for parameter in learner.update.parameters]
        added = _median(lambda gradients=gradients: ranks.summed(gradients), rounds)
        if ranks.rank() == 0:
            print(f"{batch:5}  {step * 1e3:9.2f}  {added * 1e3:21.2f}  {batch / step:12,.0f}")


def _median(call: Callable[[], object], rounds: int) -> float:
    """The median time of a call in seconds, on the slowest rank."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return max(ranks.gathered(statistics.median(times)))


if __name__ == "__main__":
    main(*(int(float(argument)) for argument in sys.argv[1:]))
