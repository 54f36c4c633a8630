"""A step is tried again after an error, and not once its run was told to stop."""

import signal
from pathlib import Path

import dagster as dg
import pytest
from dagster._utils.interrupts import capture_interrupts

from blockchain_assets.definitions import build_defs
from blockchain_assets.retries import RETRIES, RetriesOfErrors
from tests.conftest import HISTORY_START
from txwatch.settings import Settings
from txwatch.store.history_start import HistoryStart


def steps_until(instance: dg.DagsterInstance, policy: dg.RetryPolicy, fails: list[object]) -> int:
    """How often a step with this policy begins that meets these one by one: a signal, or an error."""
    begun = 0

    @dg.op(retry_policy=policy)
    def step() -> None:
        nonlocal begun
        begun += 1
        if begun <= len(fails):
            failure = fails[begun - 1]
            if isinstance(failure, signal.Signals):
                signal.raise_signal(failure)
            else:
                raise OSError(failure)

    @dg.job(executor_def=dg.in_process_executor)
    def stopped() -> None:
        step()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with capture_interrupts():  # as the process of a run does
            stopped.execute_in_process(instance=instance, raise_on_error=False)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return begun


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_was_told_to_stop_does_not_begin_its_step_again(
    dagster_instance: dg.DagsterInstance, number: signal.Signals
) -> None:
    assert steps_until(dagster_instance, RetriesOfErrors(max_retries=3, delay=0.01), [number]) == 1
    run = dagster_instance.get_runs(limit=1)[0]
    assert run.status is dg.DagsterRunStatus.FAILURE, "so that Dagster starts it again elsewhere, or later"


def test_a_step_is_tried_again_after_errors_with_growing_pauses(dagster_instance: dg.DagsterInstance) -> None:
    assert steps_until(dagster_instance, RetriesOfErrors(max_retries=3, delay=0.01), ["away", "away"]) == 3
    assert [RETRIES.calculate_delay(attempt) for attempt in (1, 2, 3)] == [5, 15, 35]


def test_each_asset_that_is_tried_again_lets_a_stopped_run_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TXWATCH_HOME", str(tmp_path))
    graph = build_defs(Settings(), history=HistoryStart(HISTORY_START, HISTORY_START)).resolve_asset_graph()
    policies = {type(assets.op.retry_policy) for assets in graph.assets_defs if assets.is_executable}
    assert policies == {RetriesOfErrors, type(None)}
