import sys
from pathlib import Path

import pytest

from dspex.errors import DefinitionError
from dspex.execution.modules import CodeRoot, build


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> CodeRoot:
    """A code root beside another folder on the path."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "elsewhere"), *sys.path])
    monkeypatch.chdir(tmp_path)
    for file, text in {
        "elsewhere/meddling_with_others.py": "import sys; sys.was_meddled_with = True; thing = 1",
        "root/folder_without_init/inner.py": "thing = 2",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text)
    return CodeRoot(tmp_path / "root")


def test_what_lies_outside_is_refused_before_it_is_imported(root):
    with pytest.raises(DefinitionError, match="lies outside the code root"):
        root.load("meddling_with_others:thing")
    assert not hasattr(sys, "was_meddled_with")


@pytest.mark.parametrize(
    "target",
    ["sys:path", "itertools:count", "json.decoder:JSONDecoder", "folder_without_init:inner"],
)
def test_a_module_without_a_file_of_the_root_is_refused(root, target):
    with pytest.raises(DefinitionError, match="lies outside the code root"):
        root.load(target)


def test_a_folder_without_init_is_a_package(root):
    assert root.load("folder_without_init.inner:thing") == 2


def test_a_function_keeps_its_variables_when_a_program_of_it_is_built(root):
    (root.folder / "rated.py").write_text(
        "import dspex\n"
        "from dspex.variables import Float\n\n"
        "@dspex.program\n"
        "def rate(text: str) -> str:\n"
        "    return text\n\n"
        "rate = rate.with_variables(Float(0, 1, name='bar', default=0.5))\n"
    )
    rate = root.load("rated:rate")
    program = rate.assign({"bar": 0.25}).to_program()
    built = build(program, code=root)
    assert built.to_program().content_hash == program.content_hash
    assert built.assignment() == {"bar": 0.25}
    assert (list(rate.variables()), rate.assignment()) == (["bar"], {})
