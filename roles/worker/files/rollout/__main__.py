"""One step of a rollout: `python3 <this folder> <step>` reads a job, prints an answer, or ends with one sentence."""

import json
import sys
from typing import Any

import colour
import drain
import gate
import host
import lock
import plan
import releases
import route
import status

STEPS: tuple[Any, ...] = (
    *(lock.ticket, lock.ended, lock.take, lock.release),
    *(plan.plan, releases.fetch, releases.record),
    *(colour.write_secrets, colour.start, colour.abandon),
    *(gate.gate, gate.watch, gate.settle, gate.check),
    status.status,
    *(route.serving, route.route, route.leave, drain.drain, drain.end),
)

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    try:
        step = {one.__name__: one for one in STEPS}[name]
        print(json.dumps(step(*(arguments or [json.load(sys.stdin)]))))
    except OSError as error:
        host.refuse(f"{error.filename or name}: {error.strerror or error}")
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        host.refuse(f"{name} cannot read its input: {error!r}")
