"""`vesalius pairs` as it is typed: what it prints, what it writes, how it fails."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vesalius.pairs.table import read_pairs


def test_the_table_its_datasheet_and_the_second_run(run_cli, tiny_sets, tmp_path):
    command = ["pairs", tiny_sets, "--captions", tiny_sets / "dictionary.yaml"]
    command += ["--out", tmp_path / "pairs.parquet"]
    code, out, _ = run_cli(*command)
    assert code == 0
    assert "lungs" in out and "retinas" in out and str(tmp_path / "pairs.datasheet.html") in out
    assert len(read_pairs(tmp_path / "pairs.parquet")) == 50
    code, out, _ = run_cli(*command)
    assert (code, "up to date" in out) == (0, True)
    code, _, err = run_cli(*command, "--seed", "1")
    assert (code, "exists already" in err) == (2, True)
    assert run_cli(*command, "--seed", "1", "--overwrite")[0] == 0
    names = ["pairs.datasheet.html", "pairs.datasheet.json", "pairs.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_rows_that_are_named_lie_in_test_with_their_groups(run_cli, tiny_pairs, tmp_path):
    before = read_pairs(tiny_pairs)
    first = before.column("sha1")[0]
    group = before.column("group")[0]
    (tmp_path / "rows.txt").write_text(f"# of an older benchmark\n\n{first}\nno-such-row\n")
    command = ["pairs", tiny_pairs, "--test-rows", tmp_path / "rows.txt"]
    out = tmp_path / "new.parquet"
    code, told, _ = run_cli(*command, "--split", "val=0.2", "--out", out)
    assert (code, "1 of the 2 rows that --test-rows names are missing" in told) == (0, True)
    after = read_pairs(out)
    rows = zip(after.column("group"), after.column("split"), strict=True)
    assert [each for each, split in rows if split == "test"] == [group] * before.column(
        "group"
    ).count(group)
    code, _, err = run_cli("pairs", tiny_pairs, "--test-rows", tmp_path, "--out", out)
    assert (code, "cannot be read" in err, err.count("\n")) == (2, True, 1)


def test_check_says_whether_a_table_is_fit(run_cli, tiny_pairs, tmp_path):
    code, out, _ = run_cli("pairs", "--check", tiny_pairs)
    assert (code, "lungs" in out) == (0, True)
    table = pq.read_table(tiny_pairs)
    split = pa.array(["train", "test"] * 25)
    torn = table.set_column(table.column_names.index("split"), "split", split)
    pq.write_table(torn, tmp_path / "torn.parquet")
    code, _, err = run_cli("pairs", "--check", tmp_path / "torn.parquet")
    assert code == 2
    assert "not fit for use" in err and "group" in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["torn.parquet"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere", "--out", "x.parquet"], "no source at nowhere"),
        ([".", "--out", "x.parquet"], "empty"),
        ([".", "--captions", "nothing", "--out", "x.parquet"], "no prompt dictionary"),
        (["sets", "--out", "/dev/null/x.parquet"], "cannot write"),
        (["sets"], "give --out"),
        (["sets/a.parquet", "--out", "x.parquet"], "not a Parquet file"),
        (["sets/b.parquet", "--out", "x.parquet"], "no images"),
        (["--check", "sets/a.parquet"], "not a Parquet file"),
        (["--check", "sets/b.parquet"], "lacks image, caption"),
        (["sets", "--split", "val=5", "--out", "x.parquet"], "split"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    run_cli, tmp_path, monkeypatch, arguments, told
):
    if arguments[0] != ".":
        (tmp_path / "sets").mkdir()
        (tmp_path / "sets" / "a.parquet").write_bytes(b"PAR1 and then nothing")
        pq.write_table(pa.table({"report": ["no finding"]}), tmp_path / "sets" / "b.parquet")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    code, _, err = run_cli("pairs", *arguments)
    assert code == 2
    assert told in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
