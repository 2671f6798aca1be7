"""Tables: written and read back to the last digit, or refused."""

import pandas as pd
import pytest

from pyro_vae.errors import InputError
from pyro_vae.run.tables import read_table, write_table

COLUMNS = {"name": str, "count": int, "value": float}


def test_a_table_is_read_as_it_was_written(tmp_path):
    table = pd.DataFrame([("a", 3, 0.1 + 0.2), ("", 10**15, -543.4224922241211)], columns=list(COLUMNS))
    path = write_table(table, tmp_path / "table.csv")
    assert path.read_bytes().splitlines()[1] == b"a,3,0.30000000000000004"
    read = read_table(path, COLUMNS)
    assert read.values.tolist() == table.values.tolist()
    assert read["count"].dtype == int


def test_without_a_file_there_are_no_rows(tmp_path):
    table = read_table(tmp_path / "none.csv", COLUMNS)
    assert (list(table), len(table), table["value"].dtype) == (list(COLUMNS), 0, float)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "nonsense\n",
        "name,count,value\na,1\n",
        "name,count,value\na,1,2,3\n",
        "name,count,value\na,1,two\n",
        b"\xff",
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"table.csv is damaged: \S.*$"):
        read_table(path, COLUMNS)
