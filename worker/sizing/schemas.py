"""Request and response bodies of the size API; strict, so that a wrong type is told and never guessed at."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from worker.sizing.charts import DEFAULT_CHART, Chart, Fit, Limits
from worker.sizing.measurements import Sex

MAX_URL_LENGTH = 8192
MAX_SIZES = 30

_Centimetres = Annotated[float, Field(gt=0, le=300, strict=True, allow_inf_nan=False)]
_SizeName = Annotated[
    str, StringConstraints(min_length=1, max_length=20, pattern=r"^[!-~]([ -~]*[!-~])?$", strict=True)
]

Reason = Literal[
    "no_person",
    "several_people",
    "not_full_body",
    "side_view",
    "seated_or_bent",
    "arms_cover_torso",
    "too_small",
    "too_dark_or_blurred",
]
BodyType = Literal["athletic", "slim", "average", "broad"]

EXAMPLE: dict[str, Any] = {"image_url": "https://example.com/photos/front.jpg", "height_cm": 178}
EXAMPLE_FULL: dict[str, Any] = {
    **EXAMPLE,
    "weight_kg": 74.5,
    "sex": "M",
    "fit": "regular",
    "size_chart": {
        "S": {"chest_cm": 94, "waist_cm": 82},
        "M": {"chest_cm": 102, "waist_cm": 90},
        "L": {"chest_cm": 110, "waist_cm": 98},
    },
}


class SizeLimits(BaseModel):
    """The largest girths that one size fits."""

    model_config = ConfigDict(extra="forbid", title="SizeLimits")

    chest_cm: _Centimetres
    waist_cm: _Centimetres | None = None
    hip_cm: _Centimetres | None = None


class EstimateRequest(BaseModel):
    """One photo and what is known of the person in it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE, EXAMPLE_FULL]})

    image_url: Annotated[
        str,
        Field(
            description="JPEG, PNG, WebP, AVIF or HEIC of one whole person: frontal, standing, in tight clothing.",
            strict=True,
            max_length=MAX_URL_LENGTH,
            pattern=r"^[hH][tT][tT][pP][sS]?://[^\s/]\S*$",
        ),
    ]
    height_cm: Annotated[float, Field(description="Stature without shoes.", ge=100, le=250, strict=True)]
    weight_kg: Annotated[
        float | None, Field(description="Narrows the girths by about a quarter.", ge=25, le=350, strict=True)
    ] = None
    sex: Annotated[Sex | None, Field(description="F or M.")] = None
    fit: Annotated[
        Fit, Field(description="Takes 3 cm off the girths (tight) or adds them (loose) before the chart is read.")
    ] = "regular"
    size_chart: Annotated[
        dict[_SizeName, SizeLimits] | None,
        Field(
            description="Upper limits per size, in any order; the largest size also takes larger people.",
            min_length=1,
            max_length=MAX_SIZES,
        ),
    ] = None

    @model_validator(mode="after")
    def _rising_limits(self) -> Self:
        self.chart()
        return self

    def chart(self) -> Chart:
        """The shop's own chart, or today's default."""
        if self.size_chart is None:
            return DEFAULT_CHART
        sizes = []
        for name, given in self.size_chart.items():
            limits = {"chest": given.chest_cm, "waist": given.waist_cm, "hip": given.hip_cm}
            sizes.append((name, Limits(**{girth: limit for girth, limit in limits.items() if limit is not None})))
        # JSON objects have no order; many clients sort their keys.
        return Chart(tuple(sorted(sizes, key=lambda size: (size[1].chest, size[1].waist, size[1].hip))))


class GirthsCm(BaseModel):
    """In cm, along a tape; the shoulder is the straight breadth between the shoulder points."""

    chest_cm: float
    waist_cm: float
    hip_cm: float
    shoulder_cm: float


class SizeRange(BaseModel):
    """The sizes at both ends of the chest's 90 % interval."""

    lower: str
    upper: str


class EstimateResponse(BaseModel):
    """The size, the girths it follows from, and how sure both are."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "recommended_size": "M",
                    "measurements": {"chest_cm": 96.5, "waist_cm": 82.3, "hip_cm": 98.1, "shoulder_cm": 38.2},
                    "confidence": 0.947,
                    "body_type": "average",
                    "size_range": {"lower": "S", "upper": "L"},
                    "uncertainty_cm": {"chest_cm": 8.9, "waist_cm": 7.7, "hip_cm": 5.6, "shoulder_cm": 1.5},
                    "warnings": [],
                    "request_id": "req_5f0c8a52-6f3c-4a43-a4f7-9a0c8b6a1d34",
                }
            ]
        }
    )

    recommended_size: str
    measurements: GirthsCm
    confidence: Annotated[
        float,
        Field(ge=0, le=1, description="Probability that the recommended size is right within one size."),
    ]
    body_type: BodyType
    size_range: SizeRange
    uncertainty_cm: Annotated[
        GirthsCm, Field(description="Half-widths of 90 % intervals: nine times in ten the truth is within them.")
    ]
    warnings: Annotated[list[str], Field(description="What makes this estimate less certain, a code each.")]
    request_id: str


class Problem(BaseModel):
    """Why there is no answer, in one sentence."""

    detail: str


class Refusal(Problem):
    """The photo was fetched but cannot be measured."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "detail": "The photo does not show the whole body.",
                    "reason": "not_full_body",
                    "hint": "Step back until head and feet are in the picture with some space around them.",
                }
            ]
        }
    )

    reason: Reason
    hint: str


class InvalidField(BaseModel):
    """One thing that is wrong with the request."""

    loc: list[str | int]
    msg: str
    type: str


class InvalidRequest(BaseModel):
    """FastAPI's form of a validation error, without echoing the input."""

    detail: list[InvalidField]
