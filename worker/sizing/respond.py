"""An estimate as the response body of the size API."""

from worker.sizing.answers import EstimateResponse, GirthsCm, SizeRange
from worker.sizing.estimator import Estimate
from worker.sizing.population import GIRTHS


def respond(found: Estimate, request_id: str) -> EstimateResponse:
    """The response body, with numbers as exact as they are known."""
    girths = {name: getattr(found.measurements, name) for name in GIRTHS}
    return EstimateResponse(
        recommended_size=found.size,
        measurements=GirthsCm(**{f"{name}_cm": round(girth.value, 1) for name, girth in girths.items()}),
        confidence=round(found.confidence, 3),
        body_type=found.body_type,
        size_range=SizeRange(lower=found.lower, upper=found.upper),
        uncertainty_cm=GirthsCm(**{f"{name}_cm": round(girth.uncertainty, 1) for name, girth in girths.items()}),
        size_probabilities={size: round(chance, 3) for size, chance in found.probabilities.items()},
        verdicts=found.verdicts,
        recommendation=found.recommendation,
        basis=found.measurements.basis,
        warnings=found.warnings,
        hint=found.hint,
        request_id=request_id,
    )
