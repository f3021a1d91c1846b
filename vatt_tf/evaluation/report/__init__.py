"""HTML report of a run: the page, its figures and its verdict."""

from vatt_tf import lazy

__getattr__ = lazy.names(__name__, write_report="page", write_comparison="page")
