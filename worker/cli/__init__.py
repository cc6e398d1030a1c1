"""The `wearon-worker` command: `main` finds the commands, and each is a file of its own."""
