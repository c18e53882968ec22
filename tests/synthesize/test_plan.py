"""Plans as files: what a person or a spreadsheet may do to one, and what is told of mistakes."""

import time
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vesalius.errors import VesaliusError
from vesalius.synthesize import plan as module
from vesalius.synthesize.plan import PlanRow, plan_digest, read_plan, write_plan

ROWS = [
    PlanRow(
        row=3,
        prompt="retina, with a comma",
        label="dr",
        seed=9_999_999_999,
        negative='a "quote"',
        steps=20,
        guidance=7.5,
        sampler="unipc",
        width=64,
        height=32,
        model_hash="0123456789abcdef",
        attributes={"age": "60", "site": "Zürich"},
    ),
    PlanRow(row=1, prompt="retina", label="", seed=0, attributes={"age": "061"}),
]

TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), max_size=8)
PLANS = st.lists(
    st.builds(
        PlanRow,
        row=st.integers(0, 2**63 - 1),
        prompt=TEXT.map(lambda text: f"x{text}\ny"),
        label=TEXT,
        seed=st.integers(0, 2**63 - 1),
        negative=TEXT,
        steps=st.none() | st.integers(1, 1000),
        guidance=st.none() | st.floats(0, 100),
        sampler=st.sampled_from([None, "euler", "dpm++2m"]),
        model_hash=st.sampled_from(["", "00000000000000e1"]),
        attributes=st.dictionaries(st.sampled_from(["age", "µ"]), TEXT.filter(bool)),
    ),
    min_size=1,
    max_size=5,
    unique_by=(lambda row: row.row, lambda row: row.seed),
)


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "plan.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("name", ["plan.csv", "plan.parquet"])
def test_what_is_written_is_read_again(tmp_path, name):
    write_plan(ROWS, tmp_path / name)
    assert read_plan(tmp_path / name) == ROWS


@settings(max_examples=40, deadline=None)
@given(PLANS)
def test_any_plan_is_the_same_from_both_formats(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("plans")
    digests = set()
    for name in ("plan.csv", "plan.parquet"):
        write_plan(rows, folder / name)
        again = read_plan(folder / name)
        assert again == rows
        digests.add(plan_digest(again))
    assert digests == {plan_digest(rows)}


def test_the_digest_is_of_what_is_planned_and_not_of_its_order():
    assert plan_digest(ROWS) == plan_digest(ROWS[::-1])
    for change in ({"seed": 1}, {"label": "x"}, {"guidance": 0.0}, {"attributes": {"age": "6"}}):
        assert plan_digest([ROWS[0], replace(ROWS[1], **change)]) != plan_digest(ROWS)


def test_columns_that_no_row_needs_are_left_out_and_ascii_has_no_bom(tmp_path):
    write_plan([PlanRow(0, "retina", "dr", 5)], tmp_path / "plan.csv")
    assert (tmp_path / "plan.csv").read_bytes() == b"row,prompt,label,seed\n0,retina,dr,5\n"
    write_plan([PlanRow(0, "rétine", "dr", 5)], tmp_path / "plan.csv", overwrite=True)
    # without it a spreadsheet would show, and save, rÃ©tine
    assert (tmp_path / "plan.csv").read_bytes().startswith(b"\xef\xbb\xbfrow,")


def test_a_plan_that_a_spreadsheet_saved_is_the_same_plan(tmp_path):
    saved = (
        "\ufeffrow; prompt;label;seed;steps;guidance;;age\r\n"
        '0.0;"retina; left ";dr;12.0;20.0;7,5;;60\r\n'
        ";;;;;;;\r\n"
        "1;retina;dr;9999999999;;;;\r\n"
        ";;;;;;;\r\n"
    )
    assert read_plan(written(tmp_path, saved)) == [
        PlanRow(0, "retina; left", "dr", 12, steps=20, guidance=7.5, attributes={"age": "60"}),
        PlanRow(1, "retina", "dr", 9_999_999_999),
    ]


def test_numbers_that_pandas_made_floats_are_read(tmp_path):
    columns = {"row": [0, 1], "prompt": ["a", "b"], "seed": [1, 2]}
    columns |= {"steps": [20.0, float("nan")], "age": [60.0, None], "label": [None, "x"]}
    pq.write_table(pa.table(columns), tmp_path / "plan.parquet")
    first, second = read_plan(tmp_path / "plan.parquet")
    assert (first.steps, first.attributes, first.label) == (20, {"age": "60"}, "")
    assert (second.steps, second.attributes, second.label) == (None, {}, "x")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1,a,abc,,,", "line 4, seed: 'abc' is not a number"),
        ("1,a,,,,", "line 4, seed: is empty"),
        ("1,a,-4,,,", "line 4, seed: -4 is out of range"),
        ("1,a,1.5,,,", "line 4, seed: 1.5 is not a whole number"),
        ('1,a,"12,000",,,', "line 4, seed: 12,000 may be in thousands or not"),
        ("1,a,5,1.000,,", "line 4, steps: 1.000 may be in thousands or not"),
        ("1,a,1.23457E+18,,,", "line 4, seed: 1.23457E+18 is rounded, as spreadsheets do"),
        ("1,a,9223372036854775808,,,", "line 4, seed: 9223372036854775808 is out of range"),
        ("1,a,5,-3,,", "line 4, steps: -3 is out of range: it must be between 1 and 1,000"),
        ("1,a,5,,inf,", "line 4, guidance: 'inf' is not a number"),
        ("1,a,5,,101,", "line 4, guidance: guidance is 101.0"),
        ("1,a,5,,,dimm", "line 4, sampler: no sampler is called 'dimm'"),
        ("1, ,5,,,", "line 4, prompt: is empty"),
        ("1,a AND b:99,5,,,", "line 4, prompt: a weight of"),
        ("1," + "a" * 3000 + ",5,,,", "line 4, prompt: has 3,000 characters"),
        (",a,5,,,", "line 4, row: is empty"),
        ("0,a,5,,,", "line 4, row: is that of line 2"),
        ("1,first,7,,,", "line 4, seed: is that of line 2"),
        ("1,a,5,,", "line 4 has 5 columns, and its header 6"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_column(tmp_path, line, told):
    text = f"row,prompt,seed,steps,guidance,sampler\n0,first,7,20,,\n\n{line}\n"
    path = written(tmp_path, text)
    with pytest.raises(VesaliusError) as stopped:
        read_plan(path)
    assert str(stopped.value).startswith(f"{path}, {told}")


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    path = written(tmp_path, 'row,prompt,seed\n0,"two\nlines",1\n\n1,b,x\n')
    with pytest.raises(VesaliusError, match="line 5, seed"):
        read_plan(path)


@pytest.mark.parametrize(
    ("text", "encoding", "told"),
    [
        ("", "utf-8", "is empty"),
        ("row,prompt,seed\n", "utf-8", "has no rows"),
        ("row,prompt,seed,seed\n0,a,1,1\n", "utf-8", "two columns 'seed'"),
        ("prompt,label\na,b\n", "utf-8", "lacks row, seed; it has prompt, label"),
        ("row,prompt,seed\n0,rétine,1\n", "cp1252", "save it as CSV UTF-8"),
        ("row,prompt,seed\n0,a,1\n", "utf-16", "save it as CSV UTF-8"),
        ("row,prompt,seed,width\n0,a,1,64\n", "utf-8", "line 2, height: is empty: give both"),
    ],
)
def test_a_file_that_is_no_plan_is_told(tmp_path, text, encoding, told):
    with pytest.raises(VesaliusError, match=told):
        read_plan(written(tmp_path, text, encoding))


def test_a_place_that_holds_no_plan_is_told(tmp_path):
    (tmp_path / "plan.parquet").write_bytes(b"PAR1 and then nothing")
    for name, told in [
        ("plan.parquet", "not a Parquet file"),
        ("none.csv", "no plan at"),
        ("plan.xlsx", r"a \.csv or a \.parquet"),
    ]:
        with pytest.raises(VesaliusError, match=told):
            read_plan(tmp_path / name)


def test_nothing_is_written_that_could_not_be_read_nor_over_another_plan(tmp_path):
    path = tmp_path / "plan.csv"
    with pytest.raises(VesaliusError, match="the plan, row 1, steps"):
        write_plan([ROWS[0], replace(ROWS[1], steps=0)], path)
    with pytest.raises(VesaliusError, match="called 'seed'"):
        write_plan([replace(ROWS[0], attributes={"seed": "1"})], path)
    assert not list(tmp_path.iterdir())
    write_plan(ROWS, path)
    with pytest.raises(VesaliusError, match="exists already"):
        write_plan(ROWS[:1], path)
    assert read_plan(path) == ROWS


def test_a_plan_too_large_to_be_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 50)
    with pytest.raises(VesaliusError, match="several, each with another --seed"):
        write_plan(ROWS, tmp_path / "plan.parquet")
    assert not list(tmp_path.iterdir())


def test_a_large_plan_is_read_in_moments(tmp_path):
    rows = [PlanRow(k, f"finding {k % 99}", "x", k) for k in range(50_000)]
    write_plan(rows, tmp_path / "plan.csv")
    begun = time.process_time()
    assert len(read_plan(tmp_path / "plan.csv")) == 50_000
    assert time.process_time() - begun < 5  # a twentieth of a million: measured 0.3


def test_cells_that_are_lists_and_a_header_that_never_ends_are_one_line(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "plan.parquet"
    pq.write_table(pa.table({"row": [0], "prompt": ["a"], "seed": [[1]]}), path)
    with pytest.raises(VesaliusError, match="seed is list<"):
        read_plan(path)
    with pytest.raises(VesaliusError, match="not a CSV file"):
        read_plan(written(tmp_path, "row,prompt,seed," + "x" * 200_000 + "\n0,a,1,\n"))
