"""How well are digits told apart by 100 labels? The model M2 of Kingma et al. (2014), who report 11.97 +- 1.71 %.

python examples/semi_supervised.py [SAMPLES [DRAWS [DATA [FOLDER]]]]

Of each class ten training datapoints keep their labels, chosen anew in each draw; the others lose theirs. The labelled
ones stand in the file 50 times, so that a minibatch has some. A classifier that sees these alone, logistic regression,
stands beside the model's q(y | x).
"""

import csv
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

import pyro_vae

KEPT, REPEATED = 10, 50  # labels of each class, and how often each labelled datapoint stands in the file
SETTINGS = {
    "model": "semi_supervised",
    "guide": "semi_supervised",
    "elbo": "TraceEnum_ELBO",
    "latent": 50,
    "hidden": 500,
    "batch": 50,
    "optimizer": "adam",
    "step_size": 1e-3,
    "binarize": "dynamic",
}


def labels_of_some(labels: np.ndarray, draw: int) -> np.ndarray:
    """The labels of KEPT datapoints of each class; not-a-number, which is missing, for the others."""
    random = np.random.default_rng(draw)
    kept = [random.choice(np.flatnonzero(labels == each), KEPT, replace=False) for each in np.unique(labels)]
    return np.where(np.isin(np.arange(len(labels)), np.concatenate(kept)), labels, np.nan)


def written(data: pyro_vae.data.Dataset, labels: np.ndarray, path: Path) -> Path:
    """Writes the data with some of their labels."""
    rows = np.concatenate([np.arange(len(labels)), *[np.flatnonzero(labels == labels)] * (REPEATED - 1)])
    arrays = {"train": data.train.values.numpy()[rows], "test": data.test.values.numpy()}
    np.savez_compressed(path, train_labels=labels[rows], test_labels=data.test.labels.numpy(), **arrays)
    return path


def main(samples: float = 2e5, draws: float = 5, name: str = "mnist", folder: str = "runs/semi_supervised") -> None:
    data = pyro_vae.load_data(name)
    x, classes = data.test.first(), data.test.labels.numpy()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for draw in range(int(draws)):
        labels = labels_of_some(data.train.labels.numpy(), draw)
        own = {"activation": "softplus"}
        run = pyro_vae.train(
            place := out / f"draw-{draw}",
            resume=place.exists(),
            data=str(written(data, labels, out / f"labels-{draw}.npz")),
            samples=samples,
            compile="on" if samples >= 1e5 else "off",
            seed=draw,
            set={"model": own, "guide": own, "inference": {"kl_warmup": samples / 2}},
            **SETTINGS,
        )
        with torch.no_grad():
            told = run.guide.classifier(x).argmax(-1).numpy()
        known = labels == labels
        alone = LogisticRegression(max_iter=1000).fit(data.train.first()[known], labels[known]).predict(x)
        rows.append({"draw": draw, "M2": (told != classes).mean(), "logistic regression": (alone != classes).mean()})
        print(", ".join(f"{key} {value:.2%}" if value != draw else f"draw {draw}" for key, value in rows[-1].items()))
    print("", "| | test error, mean | standard deviation |", "|---|---|---|", sep="\n")
    for each in ("M2", "logistic regression"):
        errors = [row[each] for row in rows]
        print(f"| {each} | {np.mean(errors):.2%} | {np.std(errors, ddof=len(errors) > 1):.2%} |")
    with (out / "errors.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    numbers, texts = sys.argv[1:3], sys.argv[3:]
    main(*map(float, numbers), *texts)
