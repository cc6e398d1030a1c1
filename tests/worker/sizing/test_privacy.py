"""Nothing of a picture leaves the process, and nothing but the picture's own connection is attempted."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.worker.sizing.conftest import PICTURES

#: Loads the model, measures, closes; the audit hook sees every socket that Python opens, the guard sees native ones.
_PROGRAM = """
import sys
from pathlib import Path

def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("CONNECTION", event, arguments[-1], flush=True)
    if event == "open" and arguments[1] and any(flag in str(arguments[1]) for flag in "wax+"):
        print("WRITTEN", arguments[0], flush=True)

from worker.sizing.standard_charts import DEFAULT_CHART
from worker.sizing.estimator import estimate
from worker.sizing.measurements import Measurer
from worker.sizing.photo import read
from worker.sizing.population import Person
from worker.sizing.pose import Landmarker

sys.addaudithook(hook)
data = Path(sys.argv[1]).read_bytes()
with Landmarker() as landmarker:
    for _ in range(3):
        known = {"detector": landmarker, "measurer": Measurer()}
        found = estimate(read(data), Person(173.4), DEFAULT_CHART, "regular", **known)
print("MEASURED", found.size)
"""


def _run(*prefix: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", _PROGRAM, str(PICTURES / "images" / "b000.jpg")]
    # Compiled modules are no trace of a picture.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)


def test_measuring_connects_to_nothing_and_writes_nothing() -> None:
    lines = _run().stdout.splitlines()

    assert [line.split()[0] for line in lines] == ["MEASURED"]


def test_native_library_cannot_connect_because_it_imports_no_socket_function() -> None:
    spec = find_spec("mediapipe")
    assert spec
    assert spec.submodule_search_locations
    library = Path(spec.submodule_search_locations[0]) / "tasks" / "c" / "libmediapipe.so"
    names = set(
        re.findall(rb"\0(connect|getaddrinfo|gethostbyname|socket|sendto|curl_easy_perform)\0", library.read_bytes())
    )

    assert names == set()


def test_no_system_call_opens_a_connection(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        # Where it is missing the two tests above say the same, by other means.
        return
    trace = tmp_path / "trace"

    _run(strace, "-f", "-qq", "-e", "trace=socket,connect,sendto", "-o", str(trace))

    assert [line for line in trace.read_text().splitlines() if "AF_INET" in line or "connect(" in line] == []
