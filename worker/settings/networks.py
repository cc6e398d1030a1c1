"""Networks in which a connection may do without TLS, because no stranger listens there."""

from ipaddress import IPv6Address, ip_address, ip_network

#: This machine, private and link-local networks, and 100.64.0.0/10, which overlays like Tailscale use.
_OWN = [
    ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
]


def is_public(host: str) -> bool:
    """Tell whether the host is an address, not a name, and outside of these networks."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return not any(address in network for network in _OWN)
