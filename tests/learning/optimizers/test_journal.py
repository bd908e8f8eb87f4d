import sys
from contextlib import asynccontextmanager

import pytest

from dspex.errors import ConflictError, StorageError
from dspex.learning.optimizers import JsonlJournal
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.sync import run
from dspex.testing.journals import JournalContract, as_context
from tests.support.waiting import Child


class TestMemoryJournal(JournalContract):
    @pytest.fixture(autouse=True)
    def _begin(self):
        self.journal = MemoryJournal()

    def open_journal(self):
        return as_context(self.journal)


@pytest.mark.parametrize("is_synced", [False, True])
class TestJsonlJournal(JournalContract):
    @pytest.fixture(autouse=True)
    def _begin(self, tmp_path, is_synced):
        self.path, self.is_synced = tmp_path / "folder" / "journal.jsonl", is_synced

    @asynccontextmanager
    async def open_journal(self):
        with JsonlJournal(self.path, is_synced=self.is_synced) as journal:
            yield journal


def test_a_line_without_an_end_is_cut_off(tmp_path):
    file = tmp_path / "j.jsonl"
    file.write_bytes(b'{"number":0}\n{"numb')
    with JsonlJournal(file) as journal:
        assert run(journal.entries()) == [{"number": 0}]
        run(journal.append({"number": 1}))
    assert file.read_bytes() == b'{"number":0}\n{"number":1}\n'


def test_a_file_that_is_no_journal_is_refused_with_its_line(tmp_path):
    (tmp_path / "notes.txt").write_text("{}\nhello\n")
    with pytest.raises(ConflictError, match=r"line 2: this is not a journal entry"):
        run(JsonlJournal(tmp_path / "notes.txt").entries())
    (tmp_path / "notes.txt").write_text("3\n")
    with pytest.raises(ConflictError, match=r"line 1: this is not a journal entry"):
        run(JsonlJournal(tmp_path / "notes.txt").entries())
    with pytest.raises(StorageError, match="cannot be written"):
        run(JsonlJournal(tmp_path).append({}))


@pytest.mark.bridge
def test_two_processes_do_not_write_to_one_file(tmp_path):
    file = tmp_path / "j.jsonl"
    script = (
        "import signal, sys; from dspex.optimizers import JsonlJournal; from dspex.sync import "
        "run\n"
        "journal = JsonlJournal(sys.argv[1]); run(journal.append({'of': 'other'}))\n"
        "print('ready', flush=True); signal.pause()"
    )
    with Child([sys.executable, "-c", script, str(file)], cwd=tmp_path) as child:
        child.wait_for_line("ready")
        with JsonlJournal(file) as journal:
            for work in (journal.entries, lambda: journal.append({})):
                with pytest.raises(
                    ConflictError, match="another process searches with the journal"
                ):
                    run(work())
            child.process.kill()
            child.process.wait()
            assert run(journal.entries()) == [{"of": "other"}]
