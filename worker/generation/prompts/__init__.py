"""The experiment with prompt versions while it runs: choice, results, pauses. Decision: 0029-prompt-versions.md."""
