"""A user's files run when named or trusted, and no others."""

import py_compile
from importlib.util import cache_from_source, module_from_spec, spec_from_file_location
from pathlib import Path

TINY = ("--samples", "2000", "--hidden", "20", "--no-figures")

OWN_MODEL = """
import pyro.distributions as dist
from pyro_vae.models.bernoulli import BernoulliModel

class SharpModel(BernoulliModel):
    def __init__(self, features, latent, hidden=500, prior=None, width=1.0):
        super().__init__(features, latent, hidden, prior)
        self.width = width

    def prior(self):
        return dist.Laplace(self.decoder[0][0].weight.new_zeros(2), self.width).to_event(1)
"""


def test_a_users_file_is_copied_and_trusted_only_when_told(cli):
    Path("own.py").write_text(OWN_MODEL)
    assert cli("train", *TINY, "--model", "own.py:SharpModel", "--set", "model.width=0.5", "--out", "run").status == 0
    assert Path("run/parts/model.py").read_text() == OWN_MODEL
    resume = ("train", "--resume", "--out", "run", "--samples", "3000")
    for command in (("evaluate", "run"), ("sample", "run"), ("manifold", "run"), resume):
        result = cli(*command)
        assert result.status == 2
        assert "run holds a user's Python code" in result.err
        assert "--trust" in result.err
    assert cli("evaluate", "run", "--trust", "--limit", "5", "--json").status == 0
    # Whoever names files that equal the copies has read them.
    assert cli(*resume, "--model", "own.py:SharpModel").status == 0
    Path("own.py").unlink()
    assert cli("train", "--resume", "--out", "run", "--samples", "4000", "--trust").status == 0


def test_a_changed_copy_is_not_trusted(cli):
    Path("own.py").write_text(OWN_MODEL)
    cli("train", *TINY, "--model", "own.py", "--out", "run")
    with Path("run/parts/model.py").open("a") as file:
        file.write("\nraise SystemExit('this ran')\n")
    assert cli("train", "--resume", "--out", "run", "--model", "own.py").status == 2


def test_a_compiled_file_beside_a_copy_does_not_run(cli):
    """Python's own import would take it for the copy, which is what the user has read."""
    Path("own.py").write_text(OWN_MODEL)
    Path("evil.py").write_text("from pathlib import Path\nPath('executed').touch()\n" + OWN_MODEL)
    assert cli("train", *TINY, "--model", "own.py", "--out", "run").status == 0
    compiled = cache_from_source("run/parts/model.py")
    py_compile.compile("evil.py", compiled, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    for command in (("train", "--resume", "--out", "run", "--model", "own.py"), ("evaluate", "run", "--trust")):
        assert cli(*command).status == 0
    assert not Path("executed").exists()
    spec = spec_from_file_location("model", "run/parts/model.py")
    spec.loader.exec_module(module_from_spec(spec))
    assert Path("executed").exists()


def test_a_run_folder_cannot_name_code_that_it_does_not_hold(cli, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('this ran')")
    for kind in ("model", "prior", "guide", "inference"):
        cli("train", *TINY, "--out", kind)
        record = Path(kind, "run.toml")
        lines = record.read_text().splitlines()
        changed = [f'{kind} = "{tmp_path}/evil.py"' if line.startswith(f"{kind} =") else line for line in lines]
        record.write_text("\n".join(changed))
        for trust in ((), ("--trust",)):  # with it, there is no copy to be run
            for command in (("evaluate", kind), ("train", "--resume", "--out", kind)):
                result = cli(*command, *trust)
                assert result.status == 2
                assert "this ran" not in result.err


def test_a_configuration_names_no_code_that_the_user_has_not_named(cli):
    """A record from elsewhere may name any file that lies where the command is started."""
    Path("own.py").write_text("from pathlib import Path\nPath('executed').touch()\n" + OWN_MODEL)
    for kind in ("model", "prior", "guide", "inference", "elbo"):
        for spec in ("own.py", "own.py:SharpModel", "./own.py"):
            Path("run.toml").write_text(f'[settings]\n{kind} = "{spec}"\n')
            result = cli("train", *TINY, "--config", "run.toml", "--out", "run")
            assert result.status == 2
            assert result.err == (
                f"pyro-vae: --config run.toml names a user's Python code, {spec}: read it, then give --trust, or name "
                f"it by --{kind}\n"
            )
    assert not Path("executed").exists()
    Path("run.toml").write_text('[settings]\nmodel = "own.py"\n')
    other = cli("train", *TINY, "--config", "run.toml", "--model", "bernoulli", "--out", "other")
    assert other.status == 0  # what the user names goes before
    assert not Path("executed").exists()
    assert cli("train", *TINY, "--config", "run.toml", "--model", "own.py", "--out", "named").status == 0
    assert cli("train", *TINY, "--config", "run.toml", "--trust", "--out", "trusted").status == 0
