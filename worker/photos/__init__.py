"""Both halves: the one way a picture gets in, from a URL to an upright sRGB image."""
