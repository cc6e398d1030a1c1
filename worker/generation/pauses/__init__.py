"""The automatic pause of the intake, and the circuit breaker that asks for one."""
