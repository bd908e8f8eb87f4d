"""The tokenizer of FTS5."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Sequence


def tokenizer(language: str) -> str:
    """Return the tokenizer of FTS5 for a language."""
    stem = "porter " if language == "en" else ""
    return f"{stem}unicode61 remove_diacritics 2"


class Tokenizer:
    """Divides texts into terms as FTS5 does; threads may share it."""

    def __init__(self, language: str) -> None:
        """Take the language, of which some have stems."""
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.executescript(
            "CREATE VIRTUAL TABLE t "
            f"USING fts5(text, content='', tokenize='{tokenizer(language)}');"
            "CREATE VIRTUAL TABLE terms USING fts5vocab('t', 'instance');"
        )

    def terms(self, words: Sequence[str]) -> Counter[str]:
        """Return the terms of some words, and how many words have each."""
        with self._lock:
            self._connection.execute("INSERT INTO t (rowid, text) VALUES (1, ?)", [" ".join(words)])
            rows = self._connection.execute("SELECT term FROM terms").fetchall()
            self._connection.execute("INSERT INTO t (t) VALUES ('delete-all')")
        return Counter(row[0] for row in rows)
