"""What a server counts only grows."""

from dspex.surfaces.api.gateway.metrics import Gauge, ServerMetrics


def test_a_counter_of_prometheus_never_falls():
    metrics = ServerMetrics()
    metrics.count_execution(
        "default", "completed", {"input_tokens": 5, "output_tokens": 2}, cost_usd=1.0
    )
    before = metrics.text({})
    for bad in (-1, -(10**21), float("nan"), float("inf")):
        metrics.count_execution(
            "default", "completed", {"input_tokens": bad, "output_tokens": bad}, cost_usd=bad
        )
    after = metrics.text({})
    for name in ("dspex_tokens_total", "dspex_cost_usd_total"):
        lines = [
            [line for line in text.splitlines() if line.startswith(name)]
            for text in (before, after)
        ]
        assert lines[0] == lines[1]


def test_each_figure_says_what_it_counts():
    names = ("dspex_executions", "dspex_stored_executions", "dspex_stored_bytes")
    text = ServerMetrics().text({name: [Gauge({"workspace": "default"}, 1)] for name in names})
    assert "# HELP dspex_executions Rows by their status." in text
    assert "# HELP dspex_stored_executions Executions that a workspace has stored." in text
    assert "# HELP dspex_stored_bytes Bytes that the executions of a workspace take." in text
