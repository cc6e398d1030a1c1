"""Colours declared by the numbers of ITU-T H.273 (PNG's cICP, nclx of AVIF and HEIC) instead of a profile."""

from worker.photos import icc
from worker.photos.icc import Corners, Curve

PQ, HLG = 16, 18

_D65 = (0.3127, 0.3290)
#: H.273, table 2.
_PRIMARIES: dict[int, Corners] = {
    1: icc.SRGB_PRIMARIES,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}


def _srgb(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _bt709(value: float) -> float:
    return value / 4.5 if value < 0.08124 else ((value + 0.0993) / 1.0993) ** (1 / 0.45)


def _smpte240(value: float) -> float:
    return value / 4.0 if value < 0.0913 else ((value + 0.1115) / 1.1115) ** (1 / 0.45)


_GAMMA_22, _GAMMA_28, _LINEAR = icc.power(2.2), icc.power(2.8), icc.power(1.0)
#: H.273, table 3; how much light a value stands for, the inverse of what cameras do.
_CURVES: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), _bt709),
    **{4: _GAMMA_22, 5: _GAMMA_28, 7: _smpte240, 8: _LINEAR, 13: _srgb},
}
_BT709 = 1


def known(primaries: int, transfer: int) -> bool:
    """Return True if both numbers are known here, and say more than "unspecified"."""
    return primaries in _PRIMARIES and (transfer in _CURVES or is_hdr(transfer))


def is_hdr(transfer: int) -> bool:
    return transfer in (PQ, HLG)


def corners(primaries: int) -> Corners:
    return _PRIMARIES.get(primaries, icc.SRGB_PRIMARIES)


def profile(primaries: int, transfer: int) -> bytes:
    """An ICC profile for colours of standard range; empty when they are sRGB's, or unspecified.

    BT.709 with its own primaries is what video encoders write on sRGB pictures, and browsers show it as sRGB.
    """
    curve = _CURVES.get(transfer, _srgb)
    if corners(primaries) == icc.SRGB_PRIMARIES and (curve is _srgb or transfer == _BT709):
        return b""
    return icc.profile(corners(primaries), curve) or b""
