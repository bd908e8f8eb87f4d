"""What a process says of itself while it runs: lines of text or of JSON on standard error, without secrets."""

import json
import logging
import sys
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime

from dspex.execution.clients.address import credentials_of
from dspex.settings import Secret, Settings

SHOWN = ("execution_id", "program", "actor", "status", "duration_ms", "code", "job_id", "worker")
"""What a line tells beside its message, where the code that logs gives it (`extra=`)."""
_HANDLER = "dspex"
_REMEMBERED = 256


def set_up_logs(settings: Settings) -> None:
    """Let the loggers of dspex and of its server write as the settings say; calling it again replaces that."""
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(_HANDLER)
    lines = JSONLines() if settings.log_format == "json" else TextLines()
    handler.setFormatter(Secretless(lines, [secret.reveal() for secret in _secrets(settings)]))
    handler.addFilter(Unrepeated())
    root = logging.getLogger()
    root.handlers = [*(known for known in root.handlers if known.get_name() != _HANDLER), handler]
    logging.getLogger("dspex").setLevel(settings.log_level.upper())


def _secrets(settings: Settings) -> list[Secret]:
    found = [*settings.keys.values(), settings.secret_key, settings.database_url, settings.model_url]
    texts = () if settings.model_url is None else credentials_of(settings.model_url.reveal())
    return [*(secret for secret in found if secret is not None), *map(Secret, texts)]


class Unrepeated(logging.Filter):
    """Lets the same warning through once in ten seconds: what is tried again and again is not told each time."""

    def __init__(self, seconds: float = 10.0) -> None:
        """Begin with nothing said."""
        super().__init__()
        self._seconds = seconds
        self._said: OrderedDict[tuple[str, str], float] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is told."""
        if record.levelno != logging.WARNING:
            return True
        key = (record.name, record.getMessage())
        last = self._said.get(key)
        if last is not None and record.created - last < self._seconds:
            return False
        self._said[key] = record.created
        self._said.move_to_end(key)
        while len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        return True


class Secretless(logging.Formatter):
    """Replaces every secret of the settings in what another formatter makes, tracebacks included."""

    def __init__(self, lines: logging.Formatter, secrets: Iterable[str]) -> None:
        """Take the other formatter, and the texts that may not be shown."""
        super().__init__()
        self._lines = lines
        spelled = {spelling for secret in secrets if secret for spelling in (secret, json.dumps(secret)[1:-1])}
        self._secrets = sorted(spelled, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """Return the clean text."""
        text = self._lines.format(record)
        for secret in self._secrets:
            text = text.replace(secret, "(secret)")
        return text


class TextLines(logging.Formatter):
    """One line for people: time, level, logger, message and what belongs to it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback of an error below it."""
        told = " ".join(f"{name}={getattr(record, name)}" for name in SHOWN if getattr(record, name, None) is not None)
        line = f"{_time(record)} {record.levelname.lower()} {record.name}: {record.getMessage()}"
        return "\n".join(filter(None, [f"{line} {told}".rstrip(), self._traceback(record)]))

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class JSONLines(TextLines):
    """One JSON object a line, for programs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name in SHOWN if (value := getattr(record, name, None)) is not None},
        }
        if traceback := self._traceback(record):
            line["traceback"] = traceback
        return json.dumps(line, ensure_ascii=False, default=str)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
