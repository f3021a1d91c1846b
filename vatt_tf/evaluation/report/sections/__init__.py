"""Sections of report.html: each function makes one card, or nothing when its numbers are absent."""
