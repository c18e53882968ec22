"""`vesalius evaluate`: what a user gets, and one clear line for what can go wrong."""

import json
from pathlib import Path

import pytest

from vesalius.commands.named_sets import named_sets
from vesalius.errors import VesaliusError

QUICK = ("--only", "fidelity", "--replicates", 20, "--extractors", "inception", "--device", "cpu")
pytestmark = pytest.mark.usefixtures("pooled_inception")


@pytest.fixture(scope="session")
def made(tiny_flow, tmp_path_factory):
    """A set as `vesalius generate` makes it, of captions that the real images have."""
    from vesalius.sample.folder import generate_to_folder
    from vesalius.sample.settings import GenerateSettings

    folder = tmp_path_factory.mktemp("sets") / "made"
    prompts = ["chest x-ray, nodule", "chest x-ray, effusion"]
    settings = GenerateSettings(model=str(tiny_flow), n=6, steps=2, device="cpu")
    generate_to_folder(prompts, folder, settings)
    return folder


def test_a_report_and_what_it_says_in_short(run_cli, tiny_pairs, made, tmp_path):
    out = tmp_path / "out"
    code, told, err = run_cli(
        "evaluate", "--real", tiny_pairs, "--synthetic", made, "--out", out, *QUICK
    )
    assert code == 0
    assert told.splitlines()[-1] == f"wrote {out / 'report.html'}"
    assert any(line.startswith(("good: ", "bad: ")) for line in told.splitlines())
    document = json.loads((out / "metrics.json").read_text())
    assert document["command"].startswith("vesalius evaluate --real")
    assert set(document["sets"]) == {"made"}
    # 12 synthetic images beside 8 held-out ones of four classes: it is said aloud
    assert document["unfair"]
    assert "warning: unfair, made:" in err


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("CSV/prompt_INFO.csv", ("img_savename", "prompt")),
        (
            "synthetic_images/generations_with_metadata.csv",
            ("synthetic_filename", "annotated_prompt"),
        ),
    ],
)
def test_what_chexgenbench_generates_is_read_as_it_lies_there(
    run_cli, tiny_pairs, made, tmp_path, table, columns
):
    assets = tmp_path / "assets"
    (assets / "synthetic_images").mkdir(parents=True)
    (assets / "CSV").mkdir()
    lines = [f"{','.join(columns)},labels_dict"]
    images = [path for path in sorted(made.rglob("*.png")) if path.stem != "contact-sheet"]
    for k, image in enumerate(images):
        (assets / "synthetic_images" / f"SyntheticImg_{k}.png").write_bytes(image.read_bytes())
        found = {"Effusion": k % 2, "No Finding": 1 - k % 2}
        lines.append(f'SyntheticImg_{k}.png,view {k},"{found}"')
    (assets / table).write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    code, _, err = run_cli(
        "evaluate", "--real", tiny_pairs, "--synthetic", f"sana={assets}", "--out", out, *QUICK,
        "--chexgenbench",
    )  # fmt: skip
    assert code == 0, err
    assert (out / "chexgenbench.csv").read_text().count("\nsana,") > 0
    (sana,) = json.loads((out / "metrics.json").read_text())["sets"].values()
    fid = [row for row in sana["figures"] if (row["metric"], row["of"]) == ("fid", "all")]
    assert [row["n"] for row in fid] == [len(images)] * len(fid) and fid


def test_strict_fails_where_the_comparison_is_unfair(run_cli, tiny_pairs, made, tmp_path):
    out = tmp_path / "out"
    call = ("evaluate", "--real", tiny_pairs, "--synthetic", made, "--out", out, *QUICK)
    code, _, err = run_cli(*call, "--strict")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: the comparison is unfair")
    assert (out / "report.html").is_file()  # which says why


def test_the_model_itself_is_asked_for_members_and_cost(
    run_cli, tiny_pairs, tiny_flow, made, tmp_path
):
    out = tmp_path / "out"
    options = ("--only", "membership,cost", "--extractors", "inception", "--device", "cpu")
    code, _, err = run_cli(
        "evaluate", "--real", tiny_pairs, "--synthetic", made, "--model", tiny_flow, "--out", out,
        *options,
    )  # fmt: skip
    assert code == 0, err
    model = json.loads((out / "metrics.json").read_text())["model"]
    values = {figure["metric"]: figure["value"] for figure in model["figures"]}
    assert 0 <= values["auroc"] <= 1
    assert values["seconds_per_image"] > 0
    assert "joules_per_image" in values


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--adapter", "a.safetensors"), "--adapter needs the model"),
        (("--only", "beauty"), "no part is called 'beauty'"),
        (("--synthetic", "nowhere"), "nowhere"),
        (("--real", "nowhere.parquet"), "nowhere.parquet"),
        (("--trained-on", "nowhere.json"), "nowhere.json"),
        (("--model", "nothing"), "unknown model"),
        (("--clip", "no/such"), "no/such"),
    ],
)
def test_bad_input_is_one_line(run_cli, tiny_pairs, made, tmp_path, options, told):
    out = tmp_path / "out"
    call = {"--real": tiny_pairs, "--synthetic": made, "--out": out, options[0]: options[1]}
    flat = [part for item in call.items() for part in item]
    code, _, err = run_cli("evaluate", *flat, *(["--device", "cpu"]))
    assert code == 2
    assert told in err.splitlines()[-1]
    assert not (out / "report.html").exists()


def test_sets_are_named_or_have_the_name_of_their_folder(tmp_path):
    assert named_sets(["a=/x/b", "/x/c.parquet"]) == {
        "a": Path("/x/b"),
        "c": Path("/x/c.parquet"),
    }
    (tmp_path / "k=3").mkdir()
    assert list(named_sets([str(tmp_path / "k=3")])) == ["k=3"]
    with pytest.raises(VesaliusError, match="two synthetic sets"):
        named_sets(["/x/a", "/y/a"])
    with pytest.raises(VesaliusError, match="neither"):
        named_sets(["a="])


def test_a_renamed_option_says_its_name(run_cli):
    inputs = ("--real", "r", "--synthetic", "s", "--out", "o")
    code, _, err = run_cli("utility", *inputs, "--seen", "run")
    assert (code, err.count("\n")) == (2, 1)
    assert "--seen: it is called --trained-on" in err
