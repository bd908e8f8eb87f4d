"""Logging to standard error, as text or JSON lines, without secrets."""

import json
import logging
import sys
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime

from dspex.execution.clients.address import credentials_of
from dspex.settings import Secret, Settings

FIELDS = ("execution_id", "program", "actor", "status", "duration_ms", "code", "job_id", "worker")
"""Fields of a line beside its message, from `extra=`."""
_HANDLER = "dspex"
_MAX_MESSAGES = 256


def set_up_logs(settings: Settings) -> None:
    """Configure the loggers of dspex and its server from the settings.

    A second call replaces the first.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(_HANDLER)
    lines = JSONFormatter() if settings.log_format == "json" else TextFormatter()
    handler.setFormatter(
        RedactingFormatter(lines, [secret.reveal() for secret in _secrets(settings)])
    )
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers = [*(other for other in root.handlers if other.get_name() != _HANDLER), handler]
    logging.getLogger("dspex").setLevel(settings.log_level.upper())


def _secrets(settings: Settings) -> list[Secret]:
    urls = [secret for secret in (settings.model_url, settings.embedder_url) if secret is not None]
    secrets = [
        *settings.keys.values(),
        settings.secret_key,
        settings.database_url,
        settings.redis_url,
        *urls,
    ]
    texts = [text for url in urls for text in credentials_of(url.reveal())]
    return [*(secret for secret in secrets if secret is not None), *map(Secret, texts)]


class RepeatFilter(logging.Filter):
    """Passes the same warning at most once in ten seconds, so that retries do not fill the log."""

    def __init__(self, seconds: float = 10.0) -> None:
        """Start without messages."""
        super().__init__()
        self._seconds = seconds
        self._times: OrderedDict[tuple[str, str], float] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record."""
        if record.levelno != logging.WARNING:
            return True
        key = (record.name, record.getMessage())
        last = self._times.get(key)
        if last is not None and record.created - last < self._seconds:
            return False
        self._times[key] = record.created
        self._times.move_to_end(key)
        while len(self._times) > _MAX_MESSAGES:
            self._times.popitem(last=False)
        return True


class RedactingFormatter(logging.Formatter):
    """Replaces every secret of the settings in the output of another formatter.

    Tracebacks are included.
    """

    def __init__(self, lines: logging.Formatter, secrets: Iterable[str]) -> None:
        """Take the other formatter, and the texts to hide."""
        super().__init__()
        self._lines = lines
        spellings = {
            spelling
            for secret in secrets
            if secret
            for spelling in (secret, json.dumps(secret)[1:-1])
        }
        self._secrets = sorted(spellings, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without secrets."""
        text = self._lines.format(record)
        for secret in self._secrets:
            text = text.replace(secret, "(secret)")
        return text


class TextFormatter(logging.Formatter):
    """One line for people: time, level, logger, message and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by the traceback of an error."""
        details = " ".join(
            f"{name}={getattr(record, name)}"
            for name in FIELDS
            if getattr(record, name, None) is not None
        )
        line = f"{_time(record)} {record.levelname.lower()} {record.name}: {record.getMessage()}"
        return "\n".join(filter(None, [f"{line} {details}".rstrip(), self._traceback(record)]))

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class JSONFormatter(TextFormatter):
    """One JSON object per line, for programs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{
                name: value for name in FIELDS if (value := getattr(record, name, None)) is not None
            },
        }
        if traceback := self._traceback(record):
            line["traceback"] = traceback
        return json.dumps(line, ensure_ascii=False, default=str)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
