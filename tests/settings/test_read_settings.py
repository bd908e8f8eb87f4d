"""Settings from flags, environment and file at once."""

import re
from pathlib import Path

import pytest

from dspex.bootstrap import checked_settings
from dspex.errors import ConfigurationError
from dspex.execution.modules import CodeRoot
from dspex.settings import OTHER_VARIABLES, Settings, read_settings
from dspex.surfaces.cli import main

ROOT = Path(__file__).parents[2]


def test_all_problems_are_told_at_once_by_the_name_of_their_origin(tmp_path: Path) -> None:
    (tmp_path / "dspex.toml").write_text('threads = "many"\nmodle = "x"\n')
    with pytest.raises(ConfigurationError) as caught:
        read_settings(
            {"DSPEX_KEEP_DAYS": "-1"}, folder=tmp_path, flags={"port": 70_000, "log_level": "loud"}
        )
    text = "\n".join(caught.value.context["problems"])
    for name in ("threads in", "Did you mean 'model'", "DSPEX_KEEP_DAYS", "--port", "--log-level"):
        assert name in text


@pytest.mark.parametrize(
    "line",
    [
        "port = inf",
        "port = true",
        "workers = 1.7",
        "keep_days = nan",
        'state_dir = "~nobody-of-this-name/x"',
    ],
)
def test_a_value_of_the_file_that_is_none_is_told_and_never_rounded(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "dspex.toml").write_text(line)
    with pytest.raises(ConfigurationError) as caught:
        read_settings({}, folder=tmp_path)
    [problem] = caught.value.context["problems"]
    assert problem.startswith(f"{line.partition(' ')[0]} in {tmp_path / 'dspex.toml'}: expected a")


def test_what_cannot_be_used_is_told_with_what_has_the_wrong_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (
        *(
            'redact = "nomodule:clean"',
            'domain = "nomod:X"',
            'adapter = "yaml"',
            'threads = "many"',
            "modle = 1",
        ),
        'metrics = { tone = "nojudge:tone" }',
    )
    (tmp_path / "dspex.toml").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSPEX_MODEL", "openai")
    monkeypatch.setenv("DSPEX_DATABSE_URL", "x")
    with pytest.raises(ConfigurationError) as caught:
        checked_settings({"port": 70_000}, code=CodeRoot(tmp_path))
    problems = caught.value.context["problems"]
    expected = (
        "DSPEX_DATABSE_URL",
        "threads",
        "modle",
        "--port",
        "DSPEX_MODEL",
        "adapter",
        "domain",
        "redact",
        "metrics.tone",
    )
    assert [problem.split(":")[0].split(" in ")[0] for problem in problems] == list(expected)
    assert "Did you mean 'DSPEX_DATABASE_URL'?" in problems[0]
    assert "Write openai/NAME" in problems[4]


def test_no_variable_that_the_repository_reads_is_taken_for_a_mistake() -> None:
    texts = (
        path.read_text()
        for root in ("src", "tests", "benchmarks")
        for path in (ROOT / root).rglob("*.py")
    )
    quoted = {
        name
        for text in texts
        for name in re.findall(r'(?:environ|getenv|ENVIRONMENT).{0,6}"(DSPEX_[A-Z_]+)"', text)
    }
    assert {"DSPEX_SHARED", "DSPEX_BENCH_LOG"} <= quoted
    environment = {
        name: "x"
        for name in quoted | OTHER_VARIABLES
        if name.removeprefix("DSPEX_").lower() not in vars(Settings)
    }
    read_settings(environment, folder=Path("/nowhere"), warn=None)


def test_an_unknown_variable_is_a_warning_but_for_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSPEX_PYTHON", "3.12")
    with pytest.warns(UserWarning, match=r"DSPEX_PYTHON is ignored: there is no such setting\."):
        read_settings()
    with pytest.warns(UserWarning, match="DSPEX_MODLE is ignored: .* Did you mean 'DSPEX_MODEL'"):
        read_settings({"DSPEX_MODLE": "x"})
    for command, code in (("program list", 0), ("serve", 1), ("worker start", 1)):
        with pytest.raises(SystemExit) as stopped:
            main(command.split())
        assert int(stopped.value.code or 0) == code
        stderr = capsys.readouterr().err
        assert ("warning: DSPEX_PYTHON is ignored: there is no such setting" in stderr) == (
            code == 0
        )
        assert "DSPEX_PYTHON" in stderr


def test_a_flag_decides_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "dspex.toml").write_text('host = "a"\nport = 1\nmodel = "m"\n')
    result = read_settings(
        {"DSPEX_PORT": "2", "DSPEX_HOST": "b"}, folder=tmp_path, flags={"host": "c", "model": None}
    )
    assert (result.host, result.port, result.model) == ("c", 2, "m")


def test_metrics_are_a_table_of_functions_in_the_file_and_pairs_in_the_environment(
    tmp_path: Path,
) -> None:
    (tmp_path / "dspex.toml").write_text('[metrics]\ntone = "judging:tone"\n')
    assert read_settings({}, folder=tmp_path).metrics == {"tone": "judging:tone"}
    environment = {"DSPEX_METRICS": "tone=other:tone, brief=judging:is_brief"}
    assert read_settings(environment, folder=tmp_path).metrics == {
        "tone": "other:tone",
        "brief": "judging:is_brief",
    }
    for wrong in ("tone", "tone=nonsense", "a b=judging:tone", "=judging:tone"):
        with pytest.raises(ConfigurationError, match="DSPEX_METRICS"):
            read_settings({"DSPEX_METRICS": wrong}, folder=tmp_path)
