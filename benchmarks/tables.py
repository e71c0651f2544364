"""Tables: `metanas search mlp` as it is, beside tuned models of scikit-learn, on its diabetes, wine and breast cancer.

    python benchmarks/tables.py --seeds 1 2 3 4 5

The three tables are written to CSV. For each seed metanas splits a table (inner 40 %, outer 40 %, test 20 %), searches
on inner and outer, trains what it found, and random networks of the same space beside it, on both, and tests once. The
models of scikit-learn are fitted on the same rows (inner and outer, encoded in the same way), with their settings
chosen by cross-validation there, and tested on the same test rows:

    linear     ridge (RidgeCV, 30 values of alpha), logistic regression (LogisticRegressionCV, 15 values of C, 5 folds)
    boosting   HistGradientBoosting, 20 random settings, 4 folds

Printed: R2 (diabetes) or accuracy, the mean over the seeds with its 95 % interval (Student's t); the difference of
metanas to each by seed, with its interval, since the splits differ far more than the models do; seconds a run.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from scipy.stats import loguniform, randint, t
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.model_selection import RandomizedSearchCV

import metanas
from metanas.data import Data

TABLES: dict[str, Callable[[], Any]] = {
    "diabetes": lambda: load_diabetes(scaled=False),
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
}
BOOSTING = {
    "learning_rate": loguniform(0.01, 0.3),
    "max_iter": randint(30, 400),
    "max_leaf_nodes": randint(3, 32),
    "min_samples_leaf": randint(3, 40),
    "l2_regularization": loguniform(1e-3, 100),
}


def write_csv(path: Path, table: Any) -> None:
    """A table of scikit-learn as a CSV file with the target y."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*table.feature_names, "y"])
        rows.writerows([*map(repr, map(float, x)), y] for x, y in zip(table.data, table.target, strict=True))


def linear(data: Data, seed: int) -> Any:
    if data.classes:
        return LogisticRegressionCV(Cs=15, cv=5, max_iter=5000)
    return RidgeCV(np.logspace(-3, 4, 30))


def boosting(data: Data, seed: int) -> Any:
    model = HistGradientBoostingClassifier() if data.classes else HistGradientBoostingRegressor()
    return RandomizedSearchCV(model, BOOSTING, n_iter=20, cv=4, random_state=seed)


def fitted(make: Callable[[Data, int], Any], data: Data, seed: int) -> float:
    """The test score of a model of scikit-learn."""
    model = make(data, seed).fit(data.train.inputs.numpy(), data.train.targets.numpy())
    return float(model.score(data.test.inputs.numpy(), data.test.targets.numpy()))


def interval(values: list[float]) -> str:
    """Mean and half of the 95 % interval of a mean."""
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):7.4f} +- {half:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    for name, load in TABLES.items():
        scores: dict[str, list[float]] = {}
        seconds: dict[str, list[float]] = {}
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scikit-learn's own, on renamed arguments
            path = Path(folder, "table.csv")
            write_csv(path, load())
            for seed in options.seeds:
                started = time.perf_counter()
                run = Path(folder, f"run-{seed}")
                result = metanas.search("mlp", path, target="y", seed=seed, settings={"threads": 1}, run=run)
                seconds.setdefault("metanas", []).append(time.perf_counter() - started)
                assert result.random_score is not None
                scores.setdefault("metanas", []).append(result.test_score)
                scores.setdefault("random networks", []).append(result.random_score)
                data = metanas.load_data(path, target="y", seed=seed)
                for model, make in (("linear", linear), ("boosting", boosting)):
                    started = time.perf_counter()
                    scores.setdefault(model, []).append(fitted(make, data, seed))
                    seconds.setdefault(model, []).append(time.perf_counter() - started)
                shown = ", ".join(f"{model} {column[-1]:.4f}" for model, column in scores.items())
                print(f"    {name} {seed}: {shown}; {result.architecture}", flush=True)
        print(f"{name}, {result.metric}, {len(options.seeds)} seeds")
        for model, column in scores.items():
            margin = [a - b for a, b in zip(scores["metanas"], column, strict=True)]
            beside = "" if model == "metanas" else f"   metanas beyond it {interval(margin)}"
            took = f"{statistics.median(seconds[model]):6.1f} s" if model in seconds else ""
            print(f"{model:<16} {interval(column)} {took:<9}{beside}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
