"""The line of user code behind an exception, for children without dspex; see `dspex.error_text`."""

import os

_LIBRARY = os.path.dirname(os.__file__) + os.sep
_DSPEX = os.sep.join(os.path.abspath(__file__).split(os.sep)[:-4]) + os.sep


def place_of(error: "BaseException") -> str:
    """Return the deepest line of user code in a traceback, "app.py:12 in shout", or ""."""
    place, step = "", error.__traceback__
    while step is not None:
        code, names = step.tb_frame.f_code, step.tb_frame.f_globals
        if _is_users(code.co_filename):
            parts = code.co_filename.replace(os.sep, "/").split("/")
            depth = str(names.get("__name__", "")).count(".") + 1 + (parts[-1] == "__init__.py")
            name = getattr(code, "co_qualname", code.co_name)  # Python 3.10 has only the name
            place = f"{'/'.join(parts[-depth:])}:{step.tb_lineno} in {name}"
        step = step.tb_next
    return place


def _is_users(file: str) -> bool:
    is_installed = any(
        f"{os.sep}{folder}{os.sep}" in file for folder in ("site-packages", "dist-packages")
    )
    return not (is_installed or file.startswith(("<", _LIBRARY, _DSPEX)))
