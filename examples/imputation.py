"""How well are missing cells imputed? Half of the cells of scikit-learn's breast-cancer table are hidden and told.

python examples/imputation.py [STEPS] [MASKS]

MIWAE (Mattei & Frellsen, 2019) beside column means, scikit-learn's nearest neighbours and its chained regressions, by
the mean squared error of the hidden cells over their variance, which standardised columns have as 1.
"""

import csv
import sys
import warnings

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

import pyro_vae
from pyro_vae.analysis.impute import impute
from pyro_vae.data import adapted
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.models.normal import NormalModel

LATENT, HIDDEN = 10, 64


def miwae(holed: np.ndarray, steps: int, seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    # No datapoint is left out to test: what is to be told are hidden cells of the training data.
    data = pyro_vae.data({"train": holed, "test": holed})
    model, guide, data = adapted(
        NormalModel(data.features, LATENT, hidden=HIDDEN), GaussianGuide(data.features, LATENT, hidden=HIDDEN), data
    )
    learner = AEVB(model, guide, data.train, batch=64, particles=10, objective="iwae", optimizer="Adam", step_size=3e-3)
    for _ in range(steps):
        learner.step()
    cells = impute(model, guide, data.train, particles=1000, draws=0, seed=seed)
    filled = holed.copy()
    filled[cells["row"], cells["column"] - 1] = cells["mean"]
    return filled


def main(steps: float = 10_000, masks: float = 5) -> None:
    x = load_breast_cancer().data
    x = (x - x.mean(0)) / x.std(0)
    rows = []
    for seed in range(int(masks)):
        hidden = np.random.default_rng(seed).random(x.shape) < 0.5
        holed = np.where(hidden, np.nan, x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the regressions have not converged is their affair
            told = {
                "column means": SimpleImputer().fit_transform(holed),
                "KNNImputer": KNNImputer().fit_transform(holed),
                "IterativeImputer": IterativeImputer(max_iter=30, random_state=seed).fit_transform(holed),
            }
        told["objective=iwae"] = miwae(holed, int(steps), seed)
        errors = {name: float(((filled - x)[hidden] ** 2).mean()) for name, filled in told.items()}
        rows.append({"mask": seed, **errors})
        print(", ".join(f"{name} {value:.3f}" for name, value in rows[-1].items()), flush=True)
    print("", "| | " + " | ".join(f"mask {row['mask']}" for row in rows) + " | mean |", sep="\n")
    print("|---" * (len(rows) + 2) + "|")
    for name in list(rows[0])[1:]:
        values = [row[name] for row in rows]
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + f" | **{np.mean(values):.3f}** |")
    with open("imputation.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:3]))
