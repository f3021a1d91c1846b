"""report.html: the page, its figures and its verdict."""
