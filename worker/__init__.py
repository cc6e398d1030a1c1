"""WearOn virtual try-on worker: turns queued messages into stored pictures and photos into clothing sizes."""

__version__ = "0.1.0"
