"""The life of people's data: pictures, their addresses and kept messages go after DATA_LIFE_HOURS, or on request."""
