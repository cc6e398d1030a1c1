"""Work that no worker does any more, found and ended."""
