"""A page to try the size estimates with; a tool of the demo and the tests, no part of the worker."""
