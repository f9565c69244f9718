"""The engine's version, as it is written into what is kept."""

VERSION = "0.1.0"
