"""HTTP requests by route, measured by prometheus-fastapi-instrumentator; methods and routes are closed sets here."""

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_fastapi_instrumentator.metrics import Info

from worker.metrics import counter, histogram

#: A client may send any word as a method.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER_METHOD, _OTHER_HANDLER = "other", "none"
_UNCOUNTED = ["^/metrics$", "^/health$", "^/ready$"]
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 10)

_REQUESTS = counter(
    "http_requests_total",
    "HTTP requests.",
    ("method", "status", "handler"),
    (("POST", status, "/estimate-body") for status in ("2xx", "4xx", "5xx")),
)
_DURATION = histogram(
    "http_request_duration_seconds",
    "Until the answer to an HTTP request was sent.",
    _SECONDS,
    ("method", "handler"),
    [("POST", "/estimate-body")],
)


def instrument(app: FastAPI) -> None:
    """Count the requests of an application whose routes and other middleware are all there."""
    handlers = {route.path for route in iter_route_contexts(app.routes)}

    def count(info: Info) -> None:
        method = info.method if info.method in _METHODS else _OTHER_METHOD
        handler = info.modified_handler if info.modified_handler in handlers else _OTHER_HANDLER
        _REQUESTS.labels(method, info.modified_status, handler).inc()
        _DURATION.labels(method, handler).observe(info.modified_duration)

    Instrumentator(excluded_handlers=_UNCOUNTED).add(count).instrument(app)
