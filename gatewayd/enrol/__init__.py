"""`gatewayd tags add` and `tags remove`: the files that assign a tag to this gateway.

`arguments.py` has the options, `find.py` waits for the press of the tag that is meant, `key.py` asks for its
key, `files.py` judges and writes, `command.py` leads through it. A key is never printed, logged or an
argument.
"""
