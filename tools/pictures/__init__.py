"""The pictures of the README and of the site: ``python -m tools.pictures``."""
