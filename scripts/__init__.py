"""Programs that are run by hand or by make, beside the worker itself."""
