"""A run in the forms that other programs read, and as a page; each is read back and compared."""

from textwright.export.export import FORMATS, Exported, export_run
from textwright.export.html_file import HTMLFile, export_html

__all__ = ["FORMATS", "Exported", "HTMLFile", "export_html", "export_run"]
