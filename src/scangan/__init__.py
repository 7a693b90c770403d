"""Scangan: would synthetic scans help my classifier?"""

__version__ = "0.1.0"
