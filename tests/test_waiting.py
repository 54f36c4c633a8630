"""The first of several things ends the waiting, and a signal ends the work."""

import asyncio
import os
import signal
import threading

import pytest

from tests.waiting import PATIENCE_SECONDS
from txwatch.waiting import in_daemon, run_until_signalled, wait_for_first


@pytest.mark.anyio
async def test_the_first_to_end_cancels_the_others_and_awaits_them() -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("slow")

    await wait_for_first(slow(), asyncio.sleep(0))
    assert ended == ["slow"]


@pytest.mark.anyio
async def test_what_ends_first_by_an_error_raises_it() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await wait_for_first(asyncio.Event().wait(), fail())


@pytest.mark.anyio
async def test_waiting_ends_after_its_time() -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await wait_for_first(asyncio.Event().wait(), at_most=0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_work_which_gives_its_result(number: int) -> None:
    async def work(stop: asyncio.Event) -> str:
        os.kill(os.getpid(), number)
        await stop.wait()
        return "stopped"

    assert run_until_signalled(work) == "stopped"


@pytest.mark.anyio
async def test_what_hangs_in_a_thread_holds_up_neither_the_loop_nor_others() -> None:
    hangs = threading.Event()
    try:
        for _ in range(50):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await in_daemon(lambda: hangs.wait(PATIENCE_SECONDS))
        assert await in_daemon(lambda: "done") == "done"
        assert await asyncio.to_thread(lambda: "done") == "done"
        with pytest.raises(ZeroDivisionError):
            await in_daemon(lambda: 1 / 0)
    finally:
        hangs.set()
