import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve.multi_model.residency.peers import Peers
from tests.waiting import PATIENCE_SECONDS


def test_all_do_as_they_are_told_before_the_teller_goes_on(tmp_path: Path) -> None:
    """Returns when each worker, the caller too, has dropped the model (C-085)."""
    heard: list[tuple[str, str, int]] = []

    async def work() -> bool:
        workers = [Peers(tmp_path) for _ in range(3)]
        servers = []
        for worker in workers:

            async def forget(name: str, generation: int, own: str = worker.own_name) -> None:
                await asyncio.sleep(0.02)
                heard.append((own, name, generation))

            servers.append(await worker.listen(forget))
        done = await asyncio.to_thread(
            lambda: workers[0].forget_in_all('a/"b\n', 7, timeout_seconds=PATIENCE_SECONDS)
        )
        for server in servers:
            server.close()
        return done

    assert asyncio.run(work())
    assert len({own for own, _, _ in heard}) == 3
    assert {(name, generation) for _, name, generation in heard} == {('a/"b\n', 7)}


def test_slow_one_is_waited_for_until_the_time_is_up(tmp_path: Path) -> None:
    """Returns False where a worker has not answered in time (C-085)."""

    async def work() -> bool:
        worker = Peers(tmp_path)

        async def forget(name: str, generation: int) -> None:
            await asyncio.sleep(30)

        async with await worker.listen(forget):
            return await asyncio.to_thread(
                lambda: worker.forget_in_all("m", 1, timeout_seconds=0.1)
            )

    assert not asyncio.run(work())


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


def test_unknown_worker_is_not_alive(tmp_path: Path) -> None:
    """Takes a worker that never existed for ended (C-090)."""
    assert not Peers(tmp_path).is_alive("1-none")


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


def test_worker_is_found_only_when_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows the socket to other workers only once it listens (C-085)."""
    found: list[list[Path]] = []
    listen = socket.socket.listen

    def look_and_listen(listener: socket.socket, *backlog: int) -> None:
        found.append(list(tmp_path.glob("*.worker")))
        listen(listener, *backlog)

    async def forget(name: str, generation: int) -> None:
        """Do nothing."""

    async def work() -> None:
        async with await Peers(tmp_path).listen(forget):
            pass

    monkeypatch.setattr(socket.socket, "listen", look_and_listen)
    asyncio.run(work())

    assert found[0] == []
    assert len(list(tmp_path.glob("*.worker"))) == 1
