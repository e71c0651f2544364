"""The report of a run as one HTML page that opens from disk: no network, no fonts, no scripts from elsewhere.

page(read(folder), recipe)                  # the text: a pure function
write_page(folder, Path("report.html"))     # to a file
"""

from metanas.ui.page.whole import page
from metanas.ui.page.writing import write_page

__all__ = ["page", "write_page"]
