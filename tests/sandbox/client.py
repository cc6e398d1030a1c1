"""The HTTP client of the tests, for servers on loopback."""

import httpx

#: One for all. `httpx.get` reads the machine's certificates for each request: 50 ms of processor time, with which tests
#: that ask every 30 ms kept a core from the worker that they waited for. No connection is kept: servers die and return.
HTTP = httpx.Client(verify=False, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
