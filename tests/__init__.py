"""The tests of the worker, the roles and the hosts. A package, because a library brings another one of this name."""
