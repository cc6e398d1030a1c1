"""Write every dashboard into a folder; `make dashboards` names the folder of roles/grafana."""

import sys
from pathlib import Path

from scripts.dashboards import api, business, deploys, host, logs, worker
from scripts.dashboards.panels import to_json

BOARDS = [business.BOARD, worker.BOARD, api.BOARD, host.BOARD, logs.BOARD, deploys.BOARD]


def main(folder: Path) -> None:
    """One file each, named by the uid's last word."""
    folder.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (folder / f"{board.uid.removeprefix('wearon-')}.json").write_text(to_json(board))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
