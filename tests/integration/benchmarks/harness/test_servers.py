"""The declarations of the servers."""

import pytest

from benchmarks.harness import environments
from benchmarks.harness.servers import Role, Server, all_servers

SERVERS = all_servers()


@pytest.mark.parametrize("server", SERVERS.values(), ids=list(SERVERS))
def test_a_server_has_a_lock_with_hashes_and_a_version(server: Server) -> None:
    """A peer its own; ours and the floor share the product's."""
    if server.role == Role.PEER:
        assert server.requirements_file is not None
        assert "--hash=sha256:" in server.requirements_file.read_text()
    else:
        assert server.requirements_file is None
    assert environments.locked_version(server)[0].isdigit()
