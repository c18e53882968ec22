import sys
from types import SimpleNamespace

import pytest
import torch
from line_method import Line, events, plan

from vesalius.errors import VesaliusError
from vesalius.train.log import Clock, Log, flat, open_log, utilisation
from vesalius.train.loop import train


def test_means_are_over_the_steps_since_the_last_time(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    log.pending += [{"loss": torch.tensor(1.0)}, {"loss": torch.tensor(3.0)}]
    assert log.means() == {"loss": 2.0}
    log.pending.append({"loss": torch.tensor(5.0)})
    assert log.means() == {"loss": 5.0}


def test_a_resumed_log_has_no_step_twice(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    for seen in (8, 16, 24):
        log.write(seen, loss=1.0)
    with log.path.open("a") as lines:
        lines.write('{"seen_images": 3')  # a kill in the middle of a line
    with log.path.open("ab") as lines:
        lines.write(b"\n\xff\xfe\n" + b"[" * 50_000)  # or a disk that lost a block
    log.rewind(16)
    assert [event["seen_images"] for event in events(tmp_path)] == [8, 16]


def test_the_first_step_is_told_apart_from_the_rate(tmp_path):
    train(Line(), plan(), tmp_path)
    first, second = events(tmp_path)[:2]
    assert first["first_step_seconds"] > 0
    assert second["img_per_sec"] > 0


def test_pauses_are_in_no_rate(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("vesalius.train.log.time.monotonic", lambda: now[0])
    clock = Clock(0, before=50.0, began=100.0, since=100.0)
    now[0] += 60  # a slow first step
    clock.after_first_step(8)
    now[0] += 2
    assert clock.rate(24) == 8
    now[0] += 30  # validation
    clock.go_on(24)
    now[0] += 1
    assert clock.rate(32) == 8
    assert clock.first_step_seconds == 60
    assert clock.seconds() == 50 + 93


def test_a_logger_that_is_not_installed_is_named_with_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(VesaliusError, match="pip install wandb"):
        train(Line(), plan(loggers=["wandb"]), tmp_path)


def test_every_logger_gets_the_numbers_of_the_log(tmp_path, monkeypatch):
    told = {"tensorboard": [], "wandb": [], "mlflow": []}
    closed = []

    class SummaryWriter:
        def __init__(self, folder):
            assert folder == str(tmp_path / "tensorboard")

        def add_text(self, *_):
            pass

        def add_scalar(self, name, value, step):
            told["tensorboard"].append((step, name, value))

        def close(self):
            closed.append("tensorboard")

    def note(name):
        return lambda values, step: told[name].extend((step, k, v) for k, v in values.items())

    run = SimpleNamespace(log=note("wandb"), finish=lambda: closed.append("wandb"))
    fakes = {
        "tensorboard": SimpleNamespace(),
        "torch.utils.tensorboard": SimpleNamespace(SummaryWriter=SummaryWriter),
        "wandb": SimpleNamespace(init=lambda **_: run),
        "mlflow": SimpleNamespace(
            set_experiment=lambda name: None,
            start_run=lambda run_name: None,
            log_params=lambda values: None,
            log_metrics=note("mlflow"),
            end_run=lambda: closed.append("mlflow"),
        ),
    }
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    train(Line(), plan(loggers=list(told)), tmp_path)
    expected = [
        (event["seen_images"], name, value)
        for event in events(tmp_path)
        for name, value in flat({k: v for k, v in event.items() if k != "seen_images"})
    ]
    assert "validation/loss" in {name for _, name, _ in expected}
    assert all(given == expected for given in told.values())
    assert closed == ["tensorboard", "wandb", "mlflow"]


def test_utilisation_is_told_only_where_it_is_known(monkeypatch):
    device = torch.device("cuda:0")
    names = iter(["NVIDIA H100 PCIe", "NVIDIA H200 MIG 1g.18gb", "Quadro P400"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: next(names))
    assert utilisation(2e12, 100, device, "bfloat16") == pytest.approx(200 / 756)
    assert utilisation(None, 100, device, "bfloat16") is None
    assert utilisation(2e12, 100, device, "float32") is None
    assert utilisation(2e12, 100, torch.device("cpu"), "bfloat16") is None
    for _ in range(2):  # a part of a card, and one that is not in the table
        assert utilisation(2e12, 100, device, "bfloat16") is None


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A40", 150),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA L40", None),
        ("NVIDIA L4", 121),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
    ],
)
def test_a_card_is_not_taken_for_one_whose_name_its_own_contains(name, tera, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    share = utilisation(2e12, 100, torch.device("cuda:0"), "bfloat16")
    assert share == (tera and pytest.approx(200 / tera))


def test_no_logger_is_opened_unasked(tmp_path):
    assert open_log(tmp_path, [], {}).sinks == []
