"""What is freed is kept for the next step."""

import subprocess
import sys

import pytest

REPEATED = """
import resource
from vesalius.core.memory import keep_freed_memory
if {wanted}: assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2): bytearray(2**26)
before = faults()
for _ in range(10): bytearray(2**26)
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_large_blocks_are_not_fetched_from_the_kernel_again():
    found = {}
    for wanted in (False, True):
        command = [sys.executable, "-c", REPEATED.format(wanted=wanted)]
        told = subprocess.run(command, check=True, capture_output=True, text=True)
        found[wanted] = int(told.stdout)
    assert found[True] < found[False] / 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_limits_that_the_user_has_set_stay(monkeypatch: pytest.MonkeyPatch):
    from vesalius.core.memory import keep_freed_memory

    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not keep_freed_memory()
