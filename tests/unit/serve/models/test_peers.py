import asyncio
import subprocess
import sys
import time
from pathlib import Path

from serve.models.peers import Peers


def test_all_do_as_they_are_told_before_the_teller_goes_on(tmp_path: Path) -> None:
    """C-085: each has forgotten the model by then, the teller too."""
    heard: list[tuple[str, str, int]] = []

    async def work() -> bool:
        workers = [Peers(tmp_path) for _ in range(3)]
        servers = []
        for worker in workers:

            async def forget(name: str, generation: int, own: str = worker.own_name) -> None:
                await asyncio.sleep(0.02)
                heard.append((own, name, generation))

            servers.append(await worker.listen(forget))
        done = await asyncio.to_thread(lambda: workers[0].tell_all('a/"b\n', 7, timeout_seconds=5))
        for server in servers:
            server.close()
        return done

    assert asyncio.run(work())
    assert len({own for own, _, _ in heard}) == 3
    assert {(name, generation) for _, name, generation in heard} == {('a/"b\n', 7)}


def test_slow_one_is_waited_for_until_the_time_is_up(tmp_path: Path) -> None:
    """C-085: the teller knows that not all have done it."""

    async def work() -> bool:
        worker = Peers(tmp_path)

        async def forget(name: str, generation: int) -> None:
            await asyncio.sleep(30)

        async with await worker.listen(forget):
            return await asyncio.to_thread(lambda: worker.tell_all("m", 1, timeout_seconds=0.1))

    assert not asyncio.run(work())


LISTENER = """
import asyncio, sys
from pathlib import Path
from serve.models.peers import Peers

async def forget(name, generation):
    await asyncio.sleep(60)

async def work():
    peers = Peers(Path(sys.argv[1]))
    async with await peers.listen(forget):
        print(peers.own_name, flush=True)
        await asyncio.sleep(60)

asyncio.run(work())
"""


def test_nobody_waits_for_the_dead(tmp_path: Path) -> None:
    """C-085: neither for one that died before, nor for one that dies while it is asked."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    teller = Peers(tmp_path)
    assert teller.is_alive(name)

    async def kill_while_it_is_asked() -> bool:
        telling = asyncio.to_thread(lambda: teller.tell_all("m", 1, timeout_seconds=20))
        task = asyncio.create_task(telling)
        await asyncio.sleep(0.2)
        assert not task.done()
        process.kill()
        return await task

    started = time.monotonic()
    assert asyncio.run(kill_while_it_is_asked())
    process.communicate()
    assert not teller.is_alive(name)
    assert teller.tell_all("m", 1, timeout_seconds=20)
    assert time.monotonic() - started < 10
    assert list(tmp_path.glob("*.worker")) == []


def test_unknown_worker_is_not_alive(tmp_path: Path) -> None:
    """C-090: there never was one of that name."""
    assert not Peers(tmp_path).is_alive("1-none")
