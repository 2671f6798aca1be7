"""A cell's names and commands."""

from pyro_vae.paper.cells import Cell


def test_a_run_folder_is_named_by_what_it_holds():
    cell = Cell("mnist", 3, "mcem", 1, ("--hidden", "100"), train_size=1000)
    assert cell.name(0.1) == "mnist1000-3-mcem-0.1-1"
    assert " ".join(cell.command(0.1)) == (
        "--data mnist --latent 3 --inference mcem --train-size 1000 --hidden 100 --step-size 0.1 --seed 1"
    )


def test_a_users_algorithm_makes_a_safe_name_and_another_version_another_one(algorithm, tmp_path):
    cells = [Cell("digits", 2, f"{algorithm}{name}", 0) for name in (":Ascent", ":Slower", "")]
    names = [cell.name(0.02) for cell in cells]
    assert len(set(names)) == 3
    for name in names:
        assert name.startswith("digits-2-my_algorithm.")
        assert (tmp_path / name).parent == tmp_path  # one name, not a path
        assert not {*" :/\\"} & {*name}
    assert f"{algorithm}:Ascent" in cells[0].command(0.02)
    algorithm.write_text(algorithm.read_text() + "# changed\n")
    assert cells[0].name(0.02) == names[0]  # of a grid that is under way
    assert Cell("digits", 2, f"{algorithm}:Ascent", 0).name(0.02) != names[0]
