"""What an image costs: seconds are those of the runs alone, joules are told or said to be missing."""

import sys
import time
from contextlib import contextmanager

import pytest
import torch

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics import cost
from vesalius.evaluate.metrics.cost import NO_READING, Power, cost_report, time_images
from vesalius.models.generator import load_generator


def test_the_median_run_counts_and_the_first_does_not():
    pauses = iter([0.2, 0.02, 0.02, 0.2])  # warm, then three runs

    def make(images: int) -> None:
        time.sleep(next(pauses))

    found = time_images(make, 2)
    assert 0.01 <= found.seconds_per_image < 0.05
    assert len(found.runs) == 3
    assert found.runs[2] > 0.09


def test_without_a_power_reading_there_are_no_joules_but_a_reason():
    found = time_images(lambda images: None, 1)
    assert (found.joules_per_image, found.watts, found.note) == (None, None, NO_READING)


def test_joules_are_mean_power_times_the_time():
    power = Power([0.0, 1.0, 2.0, 3.0, 9.0], [50.0, 100.0, 200.0, 300.0, 900.0])
    assert power.joules(0.5, 4.5) == pytest.approx(200 * 4)
    assert power.joules(0.5, 2.5) is None  # two readings say little


def test_readings_of_a_program_become_joules_an_image(monkeypatch):
    """What nvidia-smi prints, its blanks included, printed by another program."""
    lines = "import time\nwhile True: print('[N/A]'); print(120.5, flush=True); time.sleep(0.02)"

    @contextmanager
    def power_of(device):
        power = Power()
        with cost._reading([sys.executable, "-c", lines], power):
            while not power.watts:  # until the program has begun
                time.sleep(0.01)
            yield power

    monkeypatch.setattr(cost, "power_of", power_of)
    found = time_images(lambda images: time.sleep(0.5), 5, runs=1, warm=0)
    assert found.watts == pytest.approx(120.5)
    assert found.joules_per_image == pytest.approx(120.5 * found.seconds_per_image)
    assert found.note == ""


def test_a_missing_program_is_no_error():
    power = Power()
    with cost._reading(["no-such-program-here"], power):
        pass
    assert power.watts == []


def test_nothing_to_measure():
    with pytest.raises(VesaliusError, match="0 images"):
        time_images(lambda images: None, 0)


def test_the_report_has_both_countings_and_what_was_measured(tiny_sd):
    generator = load_generator(tiny_sd, "cpu", "float32")
    report = cost_report(generator, time_images(lambda images: None, 1))
    step = report["macs"]["denoiser_step"]
    assert 0 < step["by_layers"] != step["products"] > 0
    weights = sum(weight.numel() for weight in generator.unet.parameters())
    assert report["parameters"]["unet"] == weights
    assert report["measured"]["device"].startswith("cpu")
    assert cost_report(generator)["measured"] is None


@pytest.mark.gpu
def test_a_gpu_tells_its_power():
    big = torch.randn(4096, 4096, device="cuda")

    def make(images: int) -> None:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            (big @ big).sum().item()

    found = time_images(make, 1, device="cuda", runs=1)
    assert found.joules_per_image is not None, found.note
    assert found.joules_per_image > 0
