"""Fits the sizing model: `python -m tests.bench.fit_sizing FOLDER --version DATE` writes its coefficients.

FOLDER holds `images/` and `truth.csv`. Every body is seen four times (mirrored, other margins); predictions that
calibrate the uncertainty and fill the printed table are cross-validated by body.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict

from tests.bench.bodies import GIRTH_COLUMNS, Body, bodies, feature_rows, reference
from worker.sizing.charts import DEFAULT_CHART
from worker.sizing.measurements import COEFFICIENTS_PATH, HIDDEN, NEIGHBOURS, NORMAL_90, VARIANTS

Array = NDArray[np.float64]

VIEWS = 4
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
#: How much more than one outline feature the optional inputs count.
EXTRA_WEIGHT = (3.0, 1.5)


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
    views = np.array(
        [[[view[name] for name in names] + [height] for view in row] for row, height in zip(rows, heights, strict=True)]
    )
    hidden = np.array([row[0][HIDDEN] for row in rows])
    truth = np.array([[body.number(column) for column in GIRTH_COLUMNS] for body in people])
    flat = views.reshape(-1, views.shape[-1])
    mean, scale = flat.mean(axis=0), flat.std(axis=0)
    views = (views - mean) / scale
    shares = truth / heights[:, None]
    target_mean, target_scale = shares.mean(axis=0), shares.std(axis=0)
    targets = (shares - target_mean) / target_scale
    extra = _extras(people, heights)
    extra_mean, extra_scale = extra.mean(axis=0), extra.std(axis=0) / np.array(EXTRA_WEIGHT)
    extra = (extra - extra_mean) / extra_scale
    arrays: dict[str, Array | np.float64] = {
        "mean": mean,
        "scale": scale,
        "rows": views.reshape(-1, views.shape[-1]),
        "extras": np.repeat(extra, VIEWS, axis=0),
        "extra_mean": extra_mean,
        "extra_scale": extra_scale,
        "target_mean": target_mean,
        "target_scale": target_scale,
        "gamma": np.float64(GAMMA),
        "strange": np.float64(_strange(views)),
    }
    arrays |= _looseness(names, views, mean, scale, heights)
    for variant in VARIANTS:
        columns = [column for column, name in enumerate(("bmi", "sex")) if name in variant.split("_")]
        inputs = np.concatenate([views, np.repeat(extra[:, None, columns], VIEWS, axis=1)], axis=2)
        predicted = np.zeros_like(targets)
        for train, test in KFold(FOLDS, shuffle=True, random_state=1).split(inputs):
            predicted[test] = _model(inputs[train], targets[train]).predict(inputs[test, 0])
        errors = (predicted - targets) * target_scale * heights[:, None]
        slope = np.array([_slope(hidden, error) for error in errors.T])
        quantile = np.quantile(np.abs(errors) / (1 + slope * hidden[:, None]), 0.9, axis=0)
        model = _model(inputs, targets)
        arrays |= {f"dual_{variant}": model.dual_coef_, f"slope_{variant}": slope, f"quantile_{variant}": quantile}
        click.echo(f"{variant:8} MAE cm " + "  ".join(f"{value:.2f}" for value in np.abs(errors).mean(axis=0)))
        spread = quantile * (1 + slope * hidden[:, None])
        _print_sizes(truth[:, 0], errors[:, 0], spread[:, 0] / NORMAL_90)
        _print_coverage(hidden, np.abs(errors) <= spread)
    data = json.dumps({"data": reference(folder), "views": VIEWS, "gamma": GAMMA, "alpha": ALPHA, "folds": FOLDS})
    stored: dict[str, Any] = {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}
    stored |= {"feature_names": np.array(names), "version": np.array(version), "provenance": np.array(data)}
    np.savez_compressed(COEFFICIENTS_PATH, **stored)
    click.echo(f"{COEFFICIENTS_PATH}: {COEFFICIENTS_PATH.stat().st_size / 1e6:.2f} MB")


def _print_sizes(chest: Array, error: Array, deviation: Array) -> None:
    """Print the share of right sizes beside the mean confidence."""
    estimated = chest + error
    chance, size = DEFAULT_CHART.chance_within_one, DEFAULT_CHART.size
    off = np.array([abs(size(a) - size(b)) for a, b in zip(estimated, chest, strict=True)])
    said = np.array([chance(size(a), chest=(a, d)) for a, d in zip(estimated, deviation, strict=True)])
    exact, near = np.mean(off == 0), np.mean(off <= 1)
    click.echo(f"         size exact {exact:.2f}, within one {near:.3f}, said {said.mean():.3f}")
    for low, high in pairwise((0.0, 0.9, 0.95, 0.98, 1.01)):
        chosen = (said >= low) & (said < high)
        if chosen.any():
            held = np.mean(off[chosen] <= 1)
            click.echo(
                f"         said {low:.2f}..{high:.2f}: {chosen.sum():3} bodies, {said[chosen].mean():.3f} -> {held:.3f}"
            )


def _print_coverage(hidden: Array, covered: NDArray[np.bool_]) -> None:
    """Shares inside the 90 % interval, with the arms away from the torso and beside it."""
    for name, chosen in (("arms away", hidden <= 0.35), ("arms touch", hidden > 0.35)):
        shares = "  ".join(f"{share:.2f}" for share in covered[chosen].mean(axis=0))
        click.echo(f"         {name:10} {chosen.sum():3} bodies, inside the interval {shares}")


def _cached(folder: Path, cache: Path | None) -> list[list[dict[str, float]]]:
    if cache and cache.exists():
        stored: list[list[dict[str, float]]] = json.loads(cache.read_text())
        return stored
    rows = feature_rows(folder, views=VIEWS)
    if cache:
        cache.write_text(json.dumps(rows))
    return rows


def _extras(people: list[Body], heights: Array) -> Array:
    weights = np.array([body.number("weight_kg") for body in people])
    male = np.array([float(body.truth["sex"] == "M") for body in people])
    return np.stack([weights / (heights / 100) ** 2, male], axis=1)


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


def _strange(views: Array) -> float:
    """Mean distance to the nearest views of other bodies that one body in a hundred exceeds."""
    flat = views.reshape(-1, views.shape[-1])
    owner = np.repeat(np.arange(len(views)), views.shape[1])
    found = []
    for index, view in enumerate(views[:, 0]):
        distances = ((flat - view) ** 2).sum(axis=1)[owner != index]
        found.append(np.sqrt(np.sort(distances)[:NEIGHBOURS].mean()))
    return float(np.quantile(found, 0.99))


def _slope(hidden: Array, error: Array) -> float:
    """The growth of the errors with the part that arms hide: the most likely c in deviation ~ 1 + c x hidden."""

    def loss(slope: float) -> float:
        spread = 1 + slope * hidden
        return float(np.log(spread).mean() + np.log(np.sqrt(((error / spread) ** 2).mean())))

    return float(min(np.linspace(0, 5, 51), key=loss))


if __name__ == "__main__":
    fit()
