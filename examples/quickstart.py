"""How do I train a VAE, judge it and look at it, from Python?

python examples/quickstart.py [SAMPLES]
"""

import sys

from pyro_vae import train
from pyro_vae.analysis import figures


def main(samples: float = 2e5, out: str = "runs/quickstart") -> None:
    run = train(out, data="digits", latent=2, samples=samples, overwrite=True)
    result = run.evaluate(split="test", particles=500)
    print(f"bound {result['bound']:.2f}, log p(x) {result['importance']['log_px']:.2f} nats per datapoint")
    for path in figures.all_of(run):
        print(path)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
