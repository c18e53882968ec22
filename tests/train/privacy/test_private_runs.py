"""Private trainings from a recipe to an adapter with its card: what they leave, and what they do not."""

import json
import os
import shutil
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from private_gradients import ByImage, TooLittleNoise, WithoutNoise
from safetensors.torch import load_file
from tests.small import in_two_processes

from vesalius.config import DpAggregateRecipe, DpLoraRecipe, DpTextualInversionRecipe, load_recipe
from vesalius.core.privacy_card import read_card
from vesalius.errors import VesaliusError
from vesalius.models.trained_on import training_digest
from vesalius.pairs.table import read_pairs
from vesalius.train.privacy.accountant import Mechanism
from vesalius.train.run import estimate, train_recipe
from vesalius.train.session import Session

pytest.importorskip("dp_accounting")

PLAN = {
    "lr": 0.02,
    "schedule": "constant",
    "precision": "float32",
    "validate_images": 40,
    "validation_size": 4,
    "checkpoint_images": 20,
}
PRIVACY = {
    "epsilon": 8,
    "clip_norm": 0.01,
    "patients_per_step": 5,
    "steps": 12,
    "images_per_patient": 2,
    "noise_draws": 2,
}
KINDS = {
    "dp-lora": DpLoraRecipe,
    "dp-textual-inversion": DpTextualInversionRecipe,
    "dp-aggregate": DpAggregateRecipe,
}
FILES = {
    "dp-lora": "pytorch_lora_weights.safetensors",
    "dp-textual-inversion": "learned_embeds.safetensors",
    "dp-aggregate": "learned_embeds.safetensors",
}


def recipe(method, model, privacy=None, plan=None, **fields):
    privacy, plan = PRIVACY | (privacy or {}), PLAN | (plan or {})
    if method == "dp-aggregate":
        privacy = {
            k: v for k, v in privacy.items() if k in ("epsilon", "delta", "runs", "canaries")
        }
        plan = {"seen_images": 8, "batch": 4} | plan
    if method == "dp-lora":
        fields.setdefault("lora", {"rank": 2})
    values = {"method": method, "name": "test", "model": str(model), "size": 32, **fields}
    return KINDS[method].model_validate({**values, "privacy": privacy, "optimisation": plan})


def patients(pairs):
    table = read_pairs(pairs)
    groups = table.column("group")
    return len({groups[row] for row in table.rows("train")})


SLOW = [pytest.mark.slow, pytest.mark.ci]


@pytest.fixture(
    scope="module",
    params=["dp-lora", *(pytest.param(name, marks=SLOW) for name in [*KINDS][1:])],
)
def run(request, tiny_sd, tiny_pairs, tmp_path_factory):
    """A method and the folder of its run, which is one of two that were declared."""
    out = tmp_path_factory.mktemp("private") / "run"
    train_recipe(recipe(request.param, tiny_sd, {"runs": 2}), tiny_pairs, out)
    return request.param, out


def test_what_a_private_training_leaves(run, tiny_pairs):
    method, out = run
    # no list of members, no log of losses; what is about patients lies in one closed folder
    assert {p.name for p in out.iterdir()} == {"adapter", "private", "recipe.yaml"}
    assert stat.S_IMODE((out / "private").stat().st_mode) == 0o700
    assert {p.name for p in (out / "adapter").iterdir()} == {
        FILES[method], "adapter.json", "privacy.json", "privacy.md",
    }  # fmt: skip
    given = b"".join(path.read_bytes() for path in (out / "adapter").iterdir())
    table = read_pairs(tiny_pairs)
    named = {v for name in ("sha1", "group", "caption") for v in table.column(name)}
    assert [name for name in named if name.encode() in given] == []
    secret = json.loads(next(out.glob("private/checkpoints/*/state.json")).read_text())
    secret = secret["state"]["kept"]["secret"]
    assert len(secret) == 64
    assert secret.encode() not in given
    assert secret not in (out / "recipe.yaml").read_text()
    assert training_digest(out / "adapter") is None
    for log in out.glob("private/log.jsonl"):
        events = [json.loads(line) for line in log.read_text().splitlines()]
        assert all("loss" not in event for event in events)  # that of members


def test_the_card_says_what_was_done(run, tiny_pairs):
    method, folder = run[0], run[1] / "adapter"
    card, count = read_card(folder), patients(tiny_pairs)
    assert card is not None
    assert (card.patients, card.delta, card.runs) == (count, pytest.approx(1 / (10 * count)), 2)
    assert 7.8 < card.epsilon <= 8
    steps = 1 if method == "dp-aggregate" else 12
    rate = 1 if method == "dp-aggregate" else 5 / count
    assert (card.rate, card.steps) == (pytest.approx(rate), steps)
    counted = Mechanism(card.sigma, card.rate, steps * 2)
    assert card.epsilon_pld == pytest.approx(counted.epsilon(card.delta))
    assert card.epsilon_rdp == pytest.approx(counted.epsilon(card.delta, "rdp"))
    assert card.accountant.startswith("dp-accounting 0.")
    text = (folder / "privacy.md").read_text()
    for said in ("for each patient", "zero_out", "sigma", "not covered", "validation", "random"):
        assert said in text
    assert json.loads((folder / "adapter.json").read_text())["privacy"] == card.claim


@pytest.mark.slow
@pytest.mark.ci
def test_no_noise_is_said_to_be_no_guarantee(tiny_sd, tiny_pairs, tmp_path):
    wanted = recipe("dp-lora", tiny_sd, {"epsilon": float("inf"), "steps": 3})
    assert wanted.privacy.epsilon is None
    folder = train_recipe(wanted, tiny_pairs, tmp_path / "run").folder
    card = read_card(folder)
    assert (card.epsilon, card.sigma) == (None, 0)
    assert "no privacy guarantee" in card.claim
    assert "may contain its patients" in (folder / "privacy.md").read_text()


@pytest.mark.slow
@pytest.mark.ci
def test_private_weights_move_and_learn(tiny_sd, tiny_pairs, tmp_path):
    # without noise it is an ordinary training, whatever the scale of the clipped gradients
    quiet = {"epsilon": None, "clip_norm": 1e-3, "steps": 25, "patients_per_step": 6}
    wanted = recipe("dp-lora", tiny_sd, quiet, lora={"rank": 4, "targets": "all"})
    train_recipe(wanted, tiny_pairs, tmp_path / "run")
    events = [
        json.loads(line) for line in (tmp_path / "run/private/log.jsonl").read_text().splitlines()
    ]
    losses = [event["validation"]["loss"] for event in events if "validation" in event]
    assert losses[-1] < 0.97 * losses[0]


AUDITED = {
    "epsilon": 1, "delta": 1e-5, "canaries": 500, "steps": 5, "images_per_patient": 8,
    "noise_draws": 1,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("method", KINDS)
def test_an_honest_training_with_canaries_keeps_its_claim(method, tiny_sd, tiny_pairs, tmp_path):
    said = []
    wanted, out = recipe(method, tiny_sd, AUDITED), tmp_path / "run"
    folder = train_recipe(wanted, tiny_pairs, out, session=Session(on_message=said.append)).folder
    audit = read_card(folder).audit
    assert audit.lower_bound < 1
    assert (audit.canaries, audit.confidence) == (500, 0.95)
    assert 0.9 < audit.claim <= 1
    assert 4 < audit.ceiling < 5
    assert "by 500 canaries, of a claim of" in (folder / "privacy.md").read_text()
    assert sum("audit of this training" in line for line in said) == 1
    # coins and scores stay at home, and so does the parameter that is no part of the model
    assert {p.name for p in folder.iterdir()} == {
        FILES[method], "adapter.json", "privacy.json", "privacy.md",
    }  # fmt: skip
    assert not any("canaries" in name for name in load_file(folder / FILES[method]))
    state = json.loads(sorted(out.glob("private/checkpoints/*/state.json"))[-1].read_text())
    assert len(state["state"]["kept"]["canaries"]["inside"]) == 500
    # without a claim there is a bound all the same
    loud = recipe(method, tiny_sd, AUDITED | {"epsilon": None, "steps": 2})
    shown = read_card(train_recipe(loud, tiny_pairs, tmp_path / "loud").folder).audit
    assert shown.claim is None
    assert shown.lower_bound > 1


@pytest.mark.slow
@pytest.mark.ci
def test_a_whole_training_of_two_processes_audits_itself(tiny_sd, tiny_pairs, tmp_path):
    command = ["-m", "vesalius", "train", "dp-lora", "--pairs", str(tiny_pairs)]
    command += ["--model", str(tiny_sd), "--device", "cpu", "size=32", "lora.rank=2"]
    plan = {k: v for k, v in PLAN.items() if k != "schedule"} | {"ema_half_life_images": 0}
    command += [f"optimisation.{name}={value}" for name, value in plan.items()]
    settings = AUDITED | {"patients_per_step": 5}
    command += [f"privacy.{name}={value}" for name, value in settings.items()]
    shown = {}
    for epsilon in (1, ".inf"):  # the last word on epsilon is the one that counts
        out = tmp_path / f"run{epsilon}"
        done = in_two_processes(*command, f"privacy.epsilon={epsilon}", "--out", out, timeout=600)
        assert done.returncode == 0, done.stderr
        assert (done.stdout + done.stderr).count("audit of this training") == 1
        shown[epsilon] = read_card(out / "adapter").audit
        assert shown[epsilon].canaries == 500
    assert shown[1].lower_bound < 1 < shown[".inf"].lower_bound


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("fault", [WithoutNoise, ByImage, TooLittleNoise])
def test_a_training_that_breaks_its_claim_writes_no_adapter(
    fault, tiny_sd, tiny_pairs, tmp_path, monkeypatch
):
    monkeypatch.setattr("vesalius.train.privacy.fine_tuning.PrivateGradient", fault)
    with pytest.raises(VesaliusError, match="refutes the guarantee: epsilon is at least"):
        train_recipe(recipe("dp-lora", tiny_sd, AUDITED), tiny_pairs, tmp_path / "run")
    assert not (tmp_path / "run/adapter").exists()


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("method", [*KINDS, "canaries"])
def test_a_run_gone_on_with_equals_a_straight_one_to_the_bit(
    method, tiny_sd, tiny_pairs, tmp_path, monkeypatch
):
    # the same secret for both, which no two runs share otherwise
    secrets = iter([b"1" * 32, b"1" * 32, b"2" * 32])
    coins = iter([b"\x5a" * 5, b"\x5a" * 5, b"\xff" * 5])
    of_length = {32: secrets, 5: coins}
    monkeypatch.setattr(os, "urandom", lambda count, real=os.urandom: next(of_length[count]) if count in of_length else real(count))  # fmt: skip
    many = {"canaries": 40} if method == "canaries" else {}
    method = "dp-lora" if many else method
    wanted = recipe(method, tiny_sd, many)
    straight = train_recipe(wanted, tiny_pairs, tmp_path / "straight").folder
    stopped_at = stop_after(3, method, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_recipe(wanted, tiny_pairs, tmp_path / "stopped")
    stopped_at.undo()
    resumed = train_recipe(
        wanted, tiny_pairs, tmp_path / "stopped", session=Session(resume=True)
    ).folder
    ours, theirs = (load_file(folder / FILES[method]) for folder in (resumed, straight))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    cards = [(folder / "privacy.json").read_text() for folder in (resumed, straight)]
    assert cards[0] == cards[1]


def stop_after(times, method, monkeypatch):
    """Interrupt a training after so many checkpoints."""
    from vesalius.train import loop
    from vesalius.train.methods import dp_aggregate

    module = dp_aggregate if method == "dp-aggregate" else loop
    patch, saved, real = pytest.MonkeyPatch(), [], module.save_checkpoint
    least = 1 if method == "dp-aggregate" else times

    def save(*arguments):
        if len(saved) == least:
            raise KeyboardInterrupt
        saved.append(real(*arguments))

    patch.setattr(module, "save_checkpoint", save)
    return patch


@pytest.mark.slow
@pytest.mark.ci
def test_going_on_with_another_epsilon_or_other_patients_is_refused(
    tiny_sd, tiny_pairs, tiny_sets, tmp_path
):
    short = {"steps": 2}
    train_recipe(recipe("dp-lora", tiny_sd, short), tiny_pairs, tmp_path / "run")
    for changed in ({"epsilon": 3, "steps": 2}, {"steps": 24}):
        with pytest.raises(VesaliusError, match="was made with privacy"):
            train_recipe(
                recipe("dp-lora", tiny_sd, changed), tiny_pairs, tmp_path / "run",
                session=Session(resume=True),
            )  # fmt: skip
    from vesalius.pairs.build import PairsSettings, build_pairs

    settings = PairsSettings(captions=str(tiny_sets / "dictionary.yaml"), split="val=0.4")
    build_pairs([str(tiny_sets)], tmp_path / "others.parquet", settings, samples=0)
    with pytest.raises(VesaliusError, match=r"was made with (rows|training rows)"):
        train_recipe(
            recipe("dp-lora", tiny_sd, short), tmp_path / "others.parquet", tmp_path / "run",
            session=Session(resume=True),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"plan": {"balance": "label"}}, "same chance"),
        ({"plan": {"temperature": 0.5}}, "same chance"),
        ({"plan": {"optimiser": "muon"}}, "adamw"),
        ({"plan": {"loggers": ["wandb"]}}, "losses on patients"),
        ({"prior": {"pairs": "other.parquet"}}, "prior weighs"),
        ({"per": "label"}, "several labels"),
        ({"plan": {"seen_images": 100}}, "leave it out"),
    ],
)
def test_what_does_not_go_with_a_guarantee_is_refused_by_the_recipe(fields, told, tiny_sd):
    with pytest.raises(ValueError, match=told):
        recipe("dp-lora", tiny_sd, **fields)


def test_what_does_not_go_with_this_table_is_refused(tiny_sd, tiny_pairs, tmp_path):
    for changed, told in (
        ({"patients_per_step": 500}, "more than the"),
        ({"delta": 0.5}, "not below one over"),
    ):
        with pytest.raises(VesaliusError, match=told):
            train_recipe(recipe("dp-lora", tiny_sd, changed), tiny_pairs, tmp_path / "run")
    table = pq.read_table(tiny_pairs)
    alone = [
        f"{s}/{h}"
        for s, h in zip(table["source"].to_pylist(), table["sha1"].to_pylist(), strict=True)
    ]
    place = table.column_names.index("group")
    table = table.set_column(place, table.field(place), pa.array(alone, table.field(place).type))
    pq.write_table(table, tmp_path / "nobody.parquet")
    for ask in (train_recipe, estimate):
        with pytest.raises(VesaliusError, match="name no patient"):
            ask(recipe("dp-lora", tiny_sd), tmp_path / "nobody.parquet", *(
                [tmp_path / "run"] if ask is train_recipe else []
            ))  # fmt: skip


def test_the_dry_run_says_what_epsilon_costs(tiny_sd, tiny_pairs):
    told = estimate(recipe("dp-lora", tiny_sd), tiny_pairs).text(Path("out"))
    assert "noise over signal" in told
    assert "this recipe" in told
    assert "dp-aggregate" in told  # so few patients
    assert "canaries" not in told
    seen = repr(estimate(recipe("dp-lora", tiny_sd, {"canaries": 40, "delta": 1e-5}), tiny_pairs))
    assert "audit by 40 canaries: it can show an epsilon of 2.1 at most; more of them" in seen
    loud = estimate(recipe("dp-lora", tiny_sd, {"epsilon": 0.05}), tiny_pairs)
    assert "warning: the noise is" in repr(loud)
    assert "warning: the noise is" not in told
    table = [line.split() for line in told.splitlines() if line.startswith("   ")]
    sigmas = [float(line[1]) for line in table[1:]]
    assert sigmas == sorted(sigmas, reverse=True)
    calm = repr(estimate(recipe("dp-aggregate", tiny_sd), tiny_pairs))
    assert "warning: the noise" not in calm
    assert f"for each of {patients(tiny_pairs)} patients" in calm
    assert "no noise is added" in repr(
        estimate(recipe("dp-lora", tiny_sd, {"epsilon": None}), tiny_pairs)
    )


@pytest.mark.parametrize("name", KINDS)
def test_the_bundled_recipes(name):
    loaded = load_recipe(name, ["privacy.epsilon=3"])
    assert loaded.privacy.epsilon == 3
    assert load_recipe(name, ["privacy.epsilon=.inf"]).privacy.epsilon is None
    with pytest.raises(VesaliusError, match="same chance"):
        load_recipe(name, ["optimisation.balance=label"])


@pytest.mark.slow
@pytest.mark.ci
def test_patients_whom_the_base_knows_already_are_on_the_card(tiny_sd, tiny_pairs, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_sd, base)
    table = read_pairs(tiny_pairs)
    row = table.rows("train")[0]
    seen = [{"sha1": "0", "group": table.column("group")[row], "source": "lungs"}]
    (base / "training_rows.json").write_text(json.dumps(seen))
    wanted, said = recipe("dp-lora", base, {"steps": 1}), []
    assert "1 of these patients" in repr(estimate(wanted, tiny_pairs))
    session = Session(on_warning=said.append)
    folder = train_recipe(wanted, tiny_pairs, tmp_path / "run", session=session).folder
    assert sum("1 of these patients" in line for line in said) == 1
    assert any("1 of these patients" in line for line in read_card(folder).not_covered)
