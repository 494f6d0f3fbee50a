import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from serve.multi_model.residency.peers import Peers
from tests.waiting import PATIENCE_SECONDS

LISTENER = """
import asyncio, os, sys, time
import uvloop  # as workers do
from pathlib import Path
from serve.multi_model.residency.peers import Peers

async def forget(name, generation):
    await asyncio.sleep(60)

async def work():
    peers = Peers(Path(sys.argv[1]))
    async with await peers.listen(forget):
        forks = "forks" in sys.argv
        if not forks or os.fork() == 0:
            print(peers.own_name, os.getpid(), flush=True)
        if forks:
            time.sleep(60)
        await asyncio.sleep(60)

uvloop.run(work())
"""


def test_nobody_waits_for_the_dead(tmp_path: Path) -> None:
    """Does not wait for a worker that has ended, before or meanwhile (C-085)."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    name, _ = process.stdout.readline().split()
    teller = Peers(tmp_path)
    assert teller.is_alive(name)

    async def kill_while_it_is_asked() -> bool:
        telling = asyncio.to_thread(
            lambda: teller.forget_in_all("m", 1, timeout_seconds=PATIENCE_SECONDS)
        )
        task = asyncio.create_task(telling)
        await asyncio.sleep(0.2)
        assert not task.done()
        process.kill()
        return await task

    started = time.monotonic()
    assert asyncio.run(kill_while_it_is_asked())
    process.communicate()
    assert not teller.is_alive(name)
    assert teller.forget_in_all("m", 1, timeout_seconds=PATIENCE_SECONDS)
    assert time.monotonic() - started < PATIENCE_SECONDS / 2
    assert list(tmp_path.glob("*.worker")) == []


def test_process_that_the_dead_one_has_forked_does_not_pass_for_it(tmp_path: Path) -> None:
    """A process forked by a model's code does not count as worker (C-085, C-090)."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTENER, tmp_path, "forks"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name, child = process.stdout.readline().split()
        teller = Peers(tmp_path)
        assert teller.is_alive(name)
        process.kill()
        process.wait()
        try:
            started = time.monotonic()
            assert not teller.is_alive(name)
            assert teller.forget_in_all("m", 1, timeout_seconds=PATIENCE_SECONDS)
            assert time.monotonic() - started < PATIENCE_SECONDS / 2
        finally:
            os.kill(int(child), signal.SIGKILL)
