"""Commands in processes of this machine."""

import pytest

from pyro_vae import __version__
from pyro_vae.errors import RunError
from pyro_vae.run.workers import Local


def test_a_command_says_its_status_its_output_and_its_errors(tmp_path):
    workers, log = Local(2), tmp_path / "log"
    assert workers.share(5) == 2
    assert workers.share(1) == 1
    status, output = workers.run(["--version"], log)
    assert (status, output.split()[-1]) == (0, __version__)
    assert workers.run(["no-such-command"], log) == (2, "")
    assert "No such command 'no-such-command'" in log.read_text()
    workers.stop()
    with pytest.raises(RunError, match="interrupted"):
        workers.run(["--version"], log)
