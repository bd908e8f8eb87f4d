"""The child's side of a worker: frames and the runtime that serves them.

Standard library only, Python 3.10 and later, started by file path (`start.py`): the interpreter
need not have dspex. Nothing here imports the rest of dspex; the parent imports `frames` from here,
so that both sides use the same frames.
"""
