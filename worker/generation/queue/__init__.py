"""Messages from the producer's list to the pipeline: lanes, claims, the consumer, and the dead letters."""
