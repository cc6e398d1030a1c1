"""The container's HTTP server: POST /estimate-body, GET /health, /ready and /metrics."""
