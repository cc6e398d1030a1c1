"""Pictures of high dynamic range (PQ and HLG of ITU-R BT.2100) brought to what sRGB can show."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import ImageFilter

from worker.photos import code_points, icc

Floats = npt.NDArray[np.float64]

#: cd/m2 of white paper, which becomes sRGB's white (Report ITU-R BT.2408), and of what pictures are mastered for.
WHITE, PEAK = 203.0, 1000.0
#: Points along each axis of the table: beyond 33 the result changes by less than a level.
_GRID = 33

_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
_HLG_A, _HLG_B, _HLG_C, _HLG_GAMMA = 0.17883277, 0.28466892, 0.55991073, 1.2


@lru_cache(maxsize=4)
def table(primaries: int, transfer: int) -> ImageFilter.Color3DLUT:
    """A filter from encoded values of the picture to sRGB."""
    axis = np.linspace(0, 1, _GRID)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    values = to_srgb(np.stack([red, green, blue], axis=-1).reshape(-1, 3), primaries, transfer)
    return ImageFilter.Color3DLUT(_GRID, values.astype(np.float32).ravel().tolist())


def to_srgb(encoded: Floats, primaries: int, transfer: int) -> Floats:
    """Rows of red, green and blue between 0 and 1."""
    to_xyz, srgb = (np.array(icc.to_xyz(corners)).T for corners in (code_points.corners(primaries), icc.SRGB_PRIMARIES))
    light = pq_to_light(encoded) if transfer == code_points.PQ else hlg_to_light(encoded, to_xyz[1])
    brightest = np.maximum(light.max(axis=1, keepdims=True), 1e-6)
    linear = light * (toned(brightest) / brightest) / WHITE @ (np.linalg.inv(srgb) @ to_xyz).T
    linear = np.clip(linear, 0, 1)
    return np.asarray(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


def pq_to_light(encoded: Floats) -> Floats:
    """cd/m2 (BT.2100, table 4: reference PQ EOTF)."""
    power = encoded ** (1 / _M2)
    return np.asarray(10_000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1))


def hlg_to_light(encoded: Floats, luminance: Floats) -> Floats:
    """cd/m2 on a display of PEAK (BT.2100, table 5: inverse OETF and reference OOTF)."""
    scene = np.where(encoded <= 0.5, encoded**2 / 3, (np.exp((encoded - _HLG_C) / _HLG_A) + _HLG_B) / 12)
    bright = np.maximum(scene @ luminance, 1e-9)[:, None]
    return np.asarray(PEAK * bright ** (_HLG_GAMMA - 1) * scene)


def toned(light: Floats) -> Floats:
    """cd/m2 up to PEAK rolled off to WHITE, shadows and skin untouched (Report ITU-R BT.2390, 5.4: EETF)."""
    share = np.minimum(_pq(light) / _pq(np.array(PEAK)), 1)
    limit = float(_pq(np.array(WHITE)) / _pq(np.array(PEAK)))
    knee = 1.5 * limit - 0.5
    t = (share - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * limit
    return pq_to_light(np.where(share < knee, share, spline) * _pq(np.array(PEAK)))


def _pq(light: Floats) -> Floats:
    power = (light / 10_000) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)
