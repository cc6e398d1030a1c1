"""Response bodies of the size API."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class GirthsCm(BaseModel):
    """Girths in cm, along a tape; the shoulder is the straight breadth between the shoulder points."""

    chest_cm: float
    waist_cm: float
    hip_cm: float
    shoulder_cm: float


class SizeRange(BaseModel):
    """The recommended size and, unless its probability is 0.9 or more, the likelier of its neighbours."""

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
                    "confidence": 0.674,
                    "body_type": "average",
                    "size_range": {"lower": "M", "upper": "L"},
                    "uncertainty_cm": {"chest_cm": 5.9, "waist_cm": 5.7, "hip_cm": 4.6, "shoulder_cm": 1.8},
                    "size_probabilities": {"XS": 0.0, "S": 0.105, "M": 0.674, "L": 0.22, "XL": 0.001, "XXL": 0.0},
                    "verdicts": {
                        "XS": {"chest": "12 cm too tight"},
                        "S": {"chest": "4 cm too tight"},
                        "M": {"chest": "fits"},
                        "L": {"chest": "4 cm too loose"},
                        "XL": {"chest": "12 cm too loose"},
                        "XXL": {"chest": "20 cm too loose"},
                    },
                    "recommendation": "sure",
                    "basis": "front",
                    "warnings": [],
                    "hint": "",
                    "request_id": "req_5f0c8a52-6f3c-4a43-a4f7-9a0c8b6a1d34",
                }
            ]
        }
    )

    recommended_size: str
    measurements: GirthsCm
    confidence: Annotated[
        float, Field(ge=0, le=1, description="Probability that the recommended size itself fits by the chart.")
    ]
    body_type: BodyType
    size_range: SizeRange
    uncertainty_cm: Annotated[
        GirthsCm, Field(description="Half-widths of 90 % intervals: nine times in ten the truth is within them.")
    ]
    size_probabilities: Annotated[
        dict[str, float],
        Field(description="Probability of each size, small to large. The largest one stands for larger people, too."),
    ]
    verdicts: Annotated[
        dict[str, dict[str, str]],
        Field(description="By size and place that the chart limits: `fits`, `3 cm too tight` or `3 cm too loose`."),
    ]
    recommendation: Annotated[
        Literal["sure", "unsure"],
        Field(
            description="`unsure`: a confidence below 0.6, an interval above ±12 cm, a body beyond the chart or an "
            "unlikely weight: ask."
        ),
    ]
    basis: Annotated[
        Literal["prior", "front", "front+side"],
        Field(description="`prior`: no photo, people of that height and weight alone."),
    ]
    warnings: Annotated[list[str], Field(description="What makes this estimate less certain, a code each.")]
    hint: Annotated[
        str, Field(description="For the customer: explains `weight_unlikely` and `side_photo_unusable`; else empty.")
    ]
    request_id: str


class Problem(BaseModel):
    """The reason why there is no answer, in one sentence."""

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
