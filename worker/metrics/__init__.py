"""Prometheus metrics of the container, on its internal GET /metrics. docs/metrics.md is the contract.

`generations`, `image_api`, `size_api` and `http` are counted where things happen, `container` and `shared` looked up at
the scrape. Both processes have a registry in their memory: the Celery process tells its values over the link to the
supervisor when somebody asks, and `page` adds them up. So there are no files, and nothing outlives a process.
"""
