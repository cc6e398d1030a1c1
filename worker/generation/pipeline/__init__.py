"""One generation: start, fetch, resize, edit, upload, settle."""
