"""What decides. Pure and synchronous: a value and `now` come in, a new state and effects go out.

No I/O, no asyncio, no clock, no logging, no device library is imported below this package.
"""
