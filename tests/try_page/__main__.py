"""`python -m tests.try_page`: serve the page on 127.0.0.1 until Ctrl-C."""

import argparse

import uvicorn

from tests.try_page.server import app


def main() -> None:
    """Print the address and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.try_page", description=__doc__)
    parser.add_argument("--port", type=int, default=8095)
    port = parser.parse_args().port
    print(f"http://127.0.0.1:{port}/try", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
