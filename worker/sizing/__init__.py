"""HTTP side: one photo and a height become measurements and a clothing size."""
