"""A run in the forms that other programs read; each is loaded back and compared."""

from textwright.export.export import FORMATS, Exported, export_run

__all__ = ["FORMATS", "Exported", "export_run"]
