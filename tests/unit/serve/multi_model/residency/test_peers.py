import asyncio
import socket
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


def test_unknown_worker_is_not_alive(tmp_path: Path) -> None:
    """Takes a worker that never existed for ended (C-090)."""
    assert not Peers(tmp_path).is_alive("1-none")


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
