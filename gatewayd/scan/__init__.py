"""`gatewayd tags scan`: what is on the air, decoded, the newest press first, for enrolling tags.

`heard.py` keeps what was heard and decides what is worth telling, `show.py` puts it into words, tables and
JSON, `run.py` listens. The first is pure, and so are the words of the second.
"""

from gatewayd.scan.run import scan

__all__ = ["scan"]
