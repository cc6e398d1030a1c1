"""Grafana's needs: memory, few programs of its own, and an nginx that lets a page load."""

import asyncio
import configparser
import re
from pathlib import Path

import yaml

from tests.programs import on_this_machine
from tests.roles.conftest import ROOT, Rendered
from tests.sandbox.processes import end, free_port, spawn, wait_until

#: How many files a page of Grafana asks for at once over HTTP/2.
PAGE = 100
NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    map $remote_addr $client {{ default $remote_addr; }}
    map $remote_addr $correlation_id {{ default x; }}
    limit_conn_zone $client zone=connections:1m; limit_conn connections 50; limit_conn_status 429; limit_req_status 429;
    include {folder}/upstream.conf;
    server {{ listen 127.0.0.1:{port}; include {locations}; location = /other {{ proxy_pass http://grafana; }} }}
}}
"""


def ini(rendered: Rendered) -> configparser.ConfigParser:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(rendered.folder / "grafana/staged/grafana.ini")
    return settings


def test_release_and_compression_leak_no_memory(rendered: Rendered) -> None:
    """13.2.0 keeps 2 MiB of each HEAD request that asks for gzip, without a login."""
    tag = yaml.safe_load((ROOT / "roles/grafana/defaults/main.yml").read_text())["grafana_tag"]
    assert tuple(map(int, re.findall(r"\d+", tag)[:3])) >= (13, 2, 1)
    assert ini(rendered)["server"]["enable_gzip"] == "false"


def test_only_data_sources_in_use_are_programs_of_their_own(rendered: Rendered) -> None:
    disabled = ini(rendered)["plugins"]["disable_plugins"].split(",")
    sources = yaml.safe_load((rendered.folder / "grafana/staged/provisioning/datasources/datasources.yml").read_text())
    assert not {source["type"] for source in sources["datasources"]} & set(disabled)
    assert {"elasticsearch", "tempo", "zipkin", "jaeger", "influxdb", "mysql", "cloudwatch"} <= set(disabled)
    assert ini(rendered)["plugins"]["preinstall_disabled"] == "true"


def test_page_opens_all_its_files_at_once(rendered: Rendered, tmp_path: Path) -> None:
    """The limit of connections for all other paths stays."""
    codes = asyncio.run(load(rendered, tmp_path, "/grafana/public/build/x.js"))
    assert codes == {"200": PAGE}
    assert asyncio.run(load(rendered, tmp_path, "/other")) == {"200": 50, "429": 50}


async def load(rendered: Rendered, folder: Path, path: str) -> dict[str, int]:
    """Count the answers to the requests of a page; Grafana answers once nginx has passed on or refused all of them."""
    release, held = asyncio.Event(), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(await reader.readuntil(b"\r\n\r\n"))
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def ask(port: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
        writer.close()
        return line.split()[1].decode()

    grafana = await asyncio.start_server(serve, "127.0.0.1", 0)
    port, upstream = free_port(), grafana.sockets[0].getsockname()[1]
    http = (rendered.folder / "nginx/staged/http.d/grafana.conf").read_text()
    (folder / "upstream.conf").write_text(re.sub(r"server \S+:3000", f"server 127.0.0.1:{upstream}", http))
    locations = rendered.folder / "nginx/staged/locations.d/grafana.conf"
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, locations=locations))
    nginx = spawn(
        [on_this_machine("nginx"), "-e", folder / "error.log", "-c", folder / "nginx.conf"], log=folder / "out.log"
    )
    try:
        await asyncio.to_thread(wait_until, (folder / "pid").exists, nginx, folder / "error.log")
        asked = [asyncio.create_task(ask(port)) for _ in range(PAGE)]
        while len(held) + sum(one.done() for one in asked) < PAGE:
            await asyncio.sleep(0.01)
        release.set()
        codes = await asyncio.gather(*asked)
    finally:
        end(nginx)
        grafana.close()
    return {code: codes.count(code) for code in sorted(set(codes))}
