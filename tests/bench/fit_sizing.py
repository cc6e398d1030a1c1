"""Fits the outline's model: `python -m tests.bench.fit_sizing FOLDER --version DATE` writes its coefficients.

FOLDER holds `images/` and `truth.csv`. Every body is seen as it is, mirrored, and by cameras that look up and down;
predictions that set the deviations and fill the printed table are cross-validated by body.
"""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict

from tests.bench.bodies import GIRTH_COLUMNS, VIEWS, bodies, feature_rows, reference
from worker.sizing.measurements import NORMAL_90
from worker.sizing.outline import COEFFICIENTS_PATH, HIDDEN, NEIGHBOURS

Array = NDArray[np.float64]

GAMMA = 0.0007
ALPHA = 0.2
FOLDS = 10
#: Widths from the armpits to the hips, and what is predicted from instead: calves, forearms, head and joints.
TORSO_WIDTHS = tuple(f"torso_{index}" for index in range(7, 24))
LIMBS = (
    "head_",
    "skeleton_",
    *(f"legs_{index}" for index in range(5, 11)),
    *(f"arms_{index}" for index in range(4, 8)),
)
#: How far the head is turned, and the whole mask's area.
WITH_TORSO = ("skeleton_19", "skeleton_20")
LIMB_ALPHA = 100.0


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Keep the features here and read them when they are there."
)
@click.option("--version", required=True, help="Version to write into the coefficients, such as 2026-11-23.")
def fit(folder: Path, cache: Path | None, version: str) -> None:
    """Fit, cross-validate, print the table and write the coefficients."""
    rows = _cached(folder, cache)
    people = bodies(folder)
    names = [name for name in rows[0][0] if name != HIDDEN]
    heights = np.array([body.number("height_cm") for body in people])
    weights = np.array([body.number("weight_kg") for body in people])
    views = np.array(
        [[[view[name] for name in names] + [height] for view in row] for row, height in zip(rows, heights, strict=True)]
    )
    hidden = np.array([[view[HIDDEN] for view in row] for row in rows])
    truth = np.array([[body.number(column) for column in GIRTH_COLUMNS] for body in people])
    flat = views.reshape(-1, views.shape[-1])
    mean, scale = flat.mean(axis=0), flat.std(axis=0)
    views = (views - mean) / scale
    # The last target is the root of the body-mass index.
    shares = np.column_stack([truth / heights[:, None], np.sqrt(weights) / (heights / 100)])
    target_mean, target_scale = shares.mean(axis=0), shares.std(axis=0)
    targets = (shares - target_mean) / target_scale
    arrays: dict[str, Array | np.float64] = {
        "mean": mean,
        "scale": scale,
        "rows": views.reshape(-1, views.shape[-1]),
        "target_mean": target_mean,
        "target_scale": target_scale,
        "gamma": np.float64(GAMMA),
        "heights": np.array([heights.min(), heights.max(), heights.std()]),
        "dual": _model(views, targets).dual_coef_,
    }
    arrays |= _strangeness(views)
    arrays |= _looseness(names, views, mean, scale, heights)
    arrays |= _errors(_cross_validated(views, targets) * target_scale + target_mean, truth, heights, weights, hidden)
    data = json.dumps({"data": reference(folder), "views": VIEWS, "gamma": GAMMA, "alpha": ALPHA, "folds": FOLDS})
    stored: dict[str, Any] = {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}
    stored |= {"feature_names": np.array(names), "version": np.array(version), "provenance": np.array(data)}
    np.savez_compressed(COEFFICIENTS_PATH, **stored)
    click.echo(f"{COEFFICIENTS_PATH}: {COEFFICIENTS_PATH.stat().st_size / 1e6:.2f} MB")


def _cross_validated(views: Array, targets: Array) -> Array:
    predicted = np.zeros((*views.shape[:2], targets.shape[1]))
    for train, test in KFold(FOLDS, shuffle=True, random_state=1).split(views):
        found = _model(views[train], targets[train]).predict(views[test].reshape(-1, views.shape[-1]))
        predicted[test] = found.reshape(len(test), views.shape[1], -1)
    return predicted


def _errors(
    predicted: Array, truth: Array, heights: Array, weights: Array, hidden: Array
) -> dict[str, Array | np.float64]:
    """Deviations without and with the weight, and what a stated weight adds to the girths."""
    missing = truth[:, None] - predicted[..., :-1] * heights[:, None, None]
    roots = np.sqrt(weights / heights)[:, None] - predicted[..., -1] * np.sqrt(heights[:, None]) / 100
    per_root = (missing * roots[..., None]).sum(axis=(0, 1)) / (roots**2).sum()
    with_weight = missing - roots[..., None] * per_root
    flat = hidden.ravel()
    slope = np.array([_slope(flat, error) for error in with_weight.reshape(len(flat), -1).T])
    spread = 1 + slope * hidden[..., None]
    for name, errors in (("height", missing), ("height, weight", with_weight)):
        for view, label in ((0, "level"), (-1, "tilted most")):
            found = "  ".join(f"{value:.2f}" for value in np.abs(errors[:, view]).mean(axis=0))
            click.echo(f"{name:15} {label:12} MAE cm {found}")
    deviations = [
        np.quantile(np.abs(errors / spread), 0.9, axis=(0, 1)) / NORMAL_90 for errors in (missing, with_weight)
    ]
    return {
        "girths_per_root": per_root,
        "root_deviation": roots.std(),
        "slope": slope,
        "deviations": np.array(deviations),
    }


def _cached(folder: Path, cache: Path | None) -> list[list[dict[str, float]]]:
    if cache and cache.exists():
        stored: list[list[dict[str, float]]] = json.loads(cache.read_text())
        return stored
    rows = feature_rows(folder)
    if cache:
        cache.write_text(json.dumps(rows))
    return rows


def _model(inputs: Array, targets: Array) -> KernelRidge:
    """All views of a body have its truth."""
    rows = inputs.reshape(-1, inputs.shape[-1])
    return KernelRidge(alpha=ALPHA, kernel="rbf", gamma=GAMMA).fit(rows, np.repeat(targets, inputs.shape[1], axis=0))


def _looseness(
    names: list[str], views: Array, mean: Array, scale: Array, heights: Array
) -> dict[str, Array | np.float64]:
    """The torso's width from limbs, head and joints, where clothing hides least."""
    torso = np.array([name in TORSO_WIDTHS for name in [*names, "height"]]) / len(TORSO_WIDTHS)
    limbs = np.array([name.startswith(LIMBS) and name not in WITH_TORSO for name in names] + [True])
    width = (views * scale + mean) @ torso
    rows, owners = views[:, :, limbs].reshape(-1, limbs.sum()), np.repeat(np.arange(len(views)), VIEWS)
    model = Ridge(alpha=LIMB_ALPHA)
    expected = cross_val_predict(model, rows, width.ravel(), groups=owners, cv=GroupKFold(FOLDS))
    excess = (width - expected.reshape(width.shape))[:, 0] * heights
    model.fit(rows, width.ravel())
    weights = np.zeros(len(limbs))
    weights[limbs] = model.coef_
    limit = np.quantile(excess, 0.98)
    click.echo(f"torso from limbs: deviation {excess.std():.2f} cm, one in fifty above {limit:.2f} cm")
    return {
        "torso_average": torso,
        "limb_weights": weights,
        "limb_intercept": np.float64(model.intercept_),
        "loose_cm": np.float64(limit),
    }


def _strangeness(views: Array) -> dict[str, Array | np.float64]:
    """Mean distances of all views to the nearest views of other bodies, and their usual ratio to those neighbours' own.

    One body in a hundred exceeds that ratio.
    """
    flat = views.reshape(-1, views.shape[-1])
    owner = np.repeat(np.arange(len(views)), views.shape[1])
    squares = (flat**2).sum(axis=1)
    nearest, apart = [], []
    for index, view in enumerate(flat):
        distances = squares - 2 * (flat @ view) + squares[index]
        distances[owner == owner[index]] = np.inf
        chosen = np.argpartition(distances, NEIGHBOURS)[:NEIGHBOURS]
        nearest.append(chosen)
        apart.append(np.sqrt(distances[chosen].mean()))
    own = np.array(apart)
    ratio = own / own[np.array(nearest)].mean(axis=1)
    return {"apart": own, "strange": np.quantile(ratio.reshape(views.shape[:2])[:, 0], 0.99)}


def _slope(hidden: Array, error: Array) -> float:
    """The growth of the errors with the part that arms hide: the most likely c in deviation ~ 1 + c x hidden."""

    def loss(slope: float) -> float:
        spread = 1 + slope * hidden
        return float(np.log(spread).mean() + np.log(np.sqrt(((error / spread) ** 2).mean())))

    return float(min(np.linspace(0, 5, 51), key=loss))


if __name__ == "__main__":
    fit()
