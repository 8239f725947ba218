"""The peers' settings: the committed files of `peers/`, with what a run alone knows filled in, and the commands that use them."""

import getpass
import os

from . import processes, programs

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = os.path.join(HERE, "peers")
# Words of the peers' settings, as far as a scenario says nothing else.
_SETTINGS = {
    "RESPONSES": "# proxy_responses unset: a session stays",
    "BUFFER": "16k",
    "BUFSIZE": "16384",
    "BODY_BUFFERS": "16 64k",
    "BUSY_BUFFERS": "256k",
    "WATERMARK": "1048576",
}


def command(proxy, host, origin):
    """What starts a peer on its targets."""
    if proxy.kind == "nginx":
        path = _fill_in(proxy, host, origin)
        return [proxy.binary, "-e", os.path.join(host.run_directory, "nginx.log"), "-p", host.run_directory, "-c", path]
    if proxy.kind == "envoy":
        path = _fill_in(proxy, host, origin)
        return [proxy.binary, "-c", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]
    return [proxy.binary, "-db", "-f", _fill_in(proxy, host, origin)]


def template_of(proxy):
    """The committed file that a proxy is started with, `None` where flags say everything."""
    kind, protocol = proxy.kind, proxy.scenario.protocol
    if kind == "ringway-all":
        return "ringway-all.toml"
    if kind == "ringway" and proxy.scenario.defers:
        return "ringway-deferred.toml"
    if kind == "ringway" and proxy.backends:
        return "ringway-failures.toml"
    if kind not in ("nginx", "envoy") and not kind.startswith("haproxy"):
        return None
    if kind == "nginx":
        return "nginx-failures.conf" if proxy.backends else "nginx.conf" if protocol == "http" else "nginx-stream.conf"
    if kind == "envoy":
        return "envoy.yaml" if protocol == "http" else "envoy-tcp.yaml"
    return "haproxy-failures.cfg" if proxy.backends else "haproxy.cfg" if protocol == "http" else "haproxy-tcp.cfg"


def listen_lines(proxy):
    if proxy.kind == "nginx":
        options = "udp reuseport" if proxy.scenario.protocol == "udp" else "reuseport backlog=4096"
        options += " deferred" if proxy.scenario.defers else ""
        return "\n".join(f"        listen {a}:{p} {options};" for a, p in proxy.targets)
    if proxy.kind == "envoy":
        first, *others = [f"{{ socket_address: {{ address: {a}, port_value: {p} }} }}" for a, p in proxy.targets]
        more = ", ".join(f"{{ address: {other} }}" for other in others)
        return f"    address: {first}\n    additional_addresses: [{more}]"
    defer = " defer-accept" if proxy.scenario.defers else ""
    return "\n".join(f"    bind {a}:{p} backlog 4096{defer}" for a, p in proxy.targets)


def server_lines(proxy):
    """The backends that stand behind it in place of the origin."""
    if proxy.kind == "nginx":
        return "\n".join(f"        server {address} max_fails=3 fail_timeout=1s;" for address in proxy.backends)
    return "\n".join(f"    server backend{index} {address}" for index, address in enumerate(proxy.backends))


def origin_lines(proxy, host, origin):
    """HAProxy's servers: the origin, or all of its addresses."""
    addresses = host.backends if proxy.kind == "haproxy-many" else [origin]
    return "\n".join(
        f"    server origin{index} {address} pool-max-conn -1 pool-purge-delay 60s" for index, address in enumerate(addresses)
    )


def _fill_in(proxy, host, origin):
    # `splice-auto` waits for the signs of a steady stream, which 1 MiB on request gives it only now and then.
    splice = {"haproxy-splice": "option splice-response", "haproxy-auto": "option splice-auto"}.get(proxy.kind, "# no splice")
    words = {"LISTEN": listen_lines(proxy), "ORIGIN": origin, "RUN": host.run_directory, "SPLICE": splice}
    words |= dict(zip(("ORIGIN_ADDRESS", "ORIGIN_PORT"), origin.rsplit(":", 1)))
    words["THREADS"] = "2" if proxy.kind == "haproxy-two" else "1"
    words["ORIGINS"] = origin_lines(proxy, host, origin)
    words["PIPESIZE"] = "# tune.pipesize unset" if proxy.kind == "haproxy-auto" else "tune.pipesize 262144"
    words |= {"USER": getpass.getuser(), "SERVERS": server_lines(proxy) if proxy.backends else ""}
    template = template_of(proxy)
    if template == "nginx-stream.conf":
        words["MODULE"] = programs.stream_module(proxy.binary)
    settings = {**_SETTINGS, **proxy.scenario.settings}
    if proxy.kind == "haproxy-auto":
        settings["BUFSIZE"] = _SETTINGS["BUFSIZE"]
    return write(proxy, host, template, {**words, **settings})


def write(proxy, host, template, words):
    """Puts the words between at signs into a template; returns the path of what came of it."""
    text = processes.read(os.path.join(PEERS, template))
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    path = os.path.join(host.run_directory, f"{proxy.name}-{template}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path
