"""What no schema can say about compose files, the proxy's configuration, and the Dockerfile."""

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

# A reference without a value of its own behind it.
REFERENCE = re.compile(r"\$\{[A-Z_]+(?::-|:\?[^}]*)?\}|\$\$?[A-Z_]+")
# Between user and host of a URL.
PASSWORD = re.compile(r"://[^/@:\s]*:([^@\s]+)@")


def compose(path, project, code, is_development):
    problems = []

    def must(holds, problem):
        if not holds:
            problems.append(f"{path}: {problem}")

    gateways = {c.get("gateway") for n in (project.get("networks") or {}).values() for c in (n or {}).get("ipam", {}).get("config", [])}
    services, networks, volumes = (project.get(part) or {} for part in ("services", "networks", "volumes"))
    for name, service in services.items():
        is_rookery = service.get("image", "").partition(":")[0] == "rookery"
        one_service(lambda holds, problem, name=name: must(holds, f"{name}: {problem}"), name, service, services)
        for network in service.get("networks", []):
            must(network in networks, f"{name}: the network {network} is not there")
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            must(source.startswith("./") or source in volumes, f"{name}: the volume {source} is not there")
        if is_rookery:
            proxies = {networks_of(s).get(n, {}).get("ipv4_address") for s in services.values() if s.get("ports") for n in networks_of(s)}
            believed = service.get("environment", {}).get("TRUSTED_PROXIES")
            must(believed in proxies | gateways - {None}, f"{name}: TRUSTED_PROXIES is {believed}, which is no address of a proxy")
            rookery(lambda holds, problem, name=name: must(holds, f"{name}: {problem}"), service, services, code)
    databases = [s for s in services.values() if s.get("image", "").startswith("postgres:")]
    must(len(databases) == 1, "not one Postgres")
    if not is_development:
        must(any(s.get("command", ["serve"]) == ["serve"] and s["image"].startswith("rookery:") for s in services.values()), "no server")
        must(all(networks[n] and networks[n].get("internal") for s in databases for n in s.get("networks", []) if n in networks), "Postgres reaches the world")
    return problems


def one_service(must, name, service, services):
    tag = service.get("image", "").rpartition(":")[2]
    must(":" in service.get("image", "") and tag != "latest", f"the image {service.get('image')} has no version")
    must(re.fullmatch(r"[1-9]\d*:[1-9]\d*", service.get("user", "")), "runs as root")
    must(service.get("read_only") is True, "its root is not read-only")
    must(service.get("cap_drop") == ["ALL"], "keeps capabilities")
    must(service.get("security_opt") == ["no-new-privileges:true"], "may gain privileges")
    # Not of processors: a machine with fewer of them would refuse to start it.
    must(service.get("deploy", {}).get("resources", {}).get("limits", {}).keys() == {"memory", "pids"}, "without limits of memory and processes")
    must("healthcheck" in service or service["image"].startswith("rookery:"), "nobody asks how it is")
    for other in service.get("depends_on", {}):
        must(other in services, f"depends on {other}, which is not there")
    for port in service.get("ports", []):
        must(port.startswith("127.0.0.1:"), f"the port {port} is open to the world")
    for variable, value in service.get("environment", {}).items():
        for password in PASSWORD.findall(REFERENCE.sub("$", str(value))):
            must(password == "$", f"{variable} holds a password: give it by reference")
        if re.search("PASSWORD|SECRET|TOKEN", variable):
            must(REFERENCE.fullmatch(str(value)), f"{variable} is a secret: give it by reference")


def rookery(must, service, services, code):
    environment = service.get("environment", {})
    must(service["image"] == f"rookery:{code.version}", f"its image is {service['image']}, the version of Cargo.toml is {code.version}")
    must(service["user"] == "1000:1000", "does not run as the image's user")
    for variable, value in environment.items():
        must(variable in code.settings, f"{variable} is no row of src/config/settings.rs")
        if variable in code.secrets:
            must("${" in str(value), f"{variable} is a secret: give it by reference")
    must("DATABASE_URL" in environment, "without DATABASE_URL it would start a Postgres of its own")
    if service.get("command") == ["migrate"]:
        must(service.get("restart", "no") == "no", "a migration that ended is started again")
        return
    must(service.get("restart") == "unless-stopped", "nobody starts it again")
    port = environment.get("SERVER_PORT", code.settings["SERVER_PORT"])
    metrics = environment.get("METRICS_PORT", code.settings["METRICS_PORT"])
    for published in service.get("ports", []):
        must(published.rpartition(":")[2] in (port, metrics), f"nothing listens at the port of {published}")
        if published.rpartition(":")[2] == metrics:
            host = environment.get("METRICS_HOST", code.settings["METRICS_HOST"])
            must(host not in ("127.0.0.1", "::1"), "METRICS_HOST is loopback inside of the container: nobody reaches the published port")
    migrations = [n for n, s in services.items() if s.get("command") == ["migrate"]]
    after = service.get("depends_on", {})
    must(any(after.get(n, {}).get("condition") == "service_completed_successfully" for n in migrations), "does not wait for the migration")
    must("data:/data" in service.get("volumes", []), "its keys do not outlive it")
    drain_s = int(environment.get("DRAIN_MS", code.drain_ms)) / 1000
    needed = drain_s + int(environment.get("SHUTDOWN_GRACE_MS", code.settings["SHUTDOWN_GRACE_MS"])) / 1000 + code.workers_end_s
    grace = seconds(service.get("stop_grace_period", "10s"))
    must(grace > needed, f"stop_grace_period is {grace} s; stopping may take {needed:.0f}")


def seconds(text):
    found = re.fullmatch(r"(\d+)s", text)
    return int(found[1]) if found else 0


def proxy(path, project, code):
    """nginx.conf says what the compose file beside it says."""
    text, problems = path.read_text(), []

    def must(holds, problem):
        if not holds:
            problems.append(f"{path.name}: {problem}")

    servers = {n: s for n, s in project["services"].items() if s["image"].startswith("rookery:") and "command" not in s}
    must(len(servers) >= 2, "one server needs no proxy to choose")
    # By address: a name that does not resolve keeps the proxy from starting.
    named = dict(re.findall(r"^\s*server ([\d.]+):(\d+)", text, re.M))
    address = {n: networks_of(s).get("world", {}).get("ipv4_address") for n, s in servers.items()}
    must(named.keys() == set(address.values()), f"it sends to {', '.join(named)}, the servers are {address}")
    for name, server in servers.items():
        environment = server["environment"]
        must(named.get(address[name]) == environment.get("SERVER_PORT", code.settings["SERVER_PORT"]), f"{name} does not listen on {named.get(address[name])}")
        header_s = int(environment.get("HEADER_TIMEOUT_MS", code.settings["HEADER_TIMEOUT_MS"])) / 1000
        must(number(text, r"keepalive_timeout (\d+)s") < header_s, f"keeps idle connections to {name} for longer than HEADER_TIMEOUT_MS")
        body = int(environment.get("MAX_COMMIT_BYTES", code.settings["MAX_COMMIT_BYTES"])) * 4 / 3 / 1024 / 1024
        must(number(text, r"client_max_body_size (\d+)m") >= body, "client_max_body_size is below MAX_COMMIT_BYTES in base64")
    must("proxy_buffering off;" in text, "server-sent events would be held back")
    must("proxy_request_buffering off;" in text, "a slow client would look quick to the server")
    must("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;" in text, "nobody says who asked")
    for what in ("proxy_read_timeout", "proxy_send_timeout"):
        must(number(text, rf"{what} (\d+)s") > code.ping_every_s, f"{what} is not above the {code.ping_every_s} s between pings")
    return problems


def networks_of(service):
    networks = service.get("networks", {})
    return {n: o or {} for n, o in networks.items()} if isinstance(networks, dict) else {n: {} for n in networks}


def number(text, pattern):
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def dockerfile(path, code):
    text, problems = path.read_text(), []

    def must(holds, problem):
        if not holds:
            problems.append(f"Dockerfile: {problem}")

    bases = re.findall(r"^FROM (\S+)", text, re.M)
    must(bases and bases[0].startswith(f"rust:{code.rust}-"), f"it builds with {bases[0]}, Cargo.toml says {code.rust}")
    must(all(":" in base and not base.endswith(":latest") for base in bases), "a base has no version")
    final = text.rpartition("\nFROM ")[2]
    must(re.findall(r"^USER (.*)", final, re.M) == ["1000:1000"], "it does not end as the user 1000:1000, which runAsNonRoot can see")
    must(f"ARG VERSION={code.version}\n" in final, f"its VERSION is not {code.version}")
    ports = [code.settings["SERVER_PORT"], code.settings["METRICS_PORT"]]
    must(re.findall(r"^EXPOSE (.*)", final, re.M) == [" ".join(ports)], f"it does not expose {' and '.join(ports)}")
    health = re.search(r"^HEALTHCHECK(?:.*\\\n)*.*", final, re.M)
    must(health and "GET /health/ready" in health[0] and "/health/ready" in code.routes, "nobody asks whether it is ready")
    must("ENV DATA_DIR=/data" in final and " /data" in final, "DATA_DIR is not /data")
    return problems


def context(root):
    """Cargo finds every file that it must read in what .dockerignore lets through."""
    lines = [line.strip() for line in (root / ".dockerignore").read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines[:1] != ["*"] or not all(line.startswith("!") for line in lines[1:]):
        return [".dockerignore: not `*` and then what is let in: anything might get into the image's build"]
    with tempfile.TemporaryDirectory(prefix="rookery-context-") as folder:
        for line in lines[1:]:
            source, target = root / line[1:], f"{folder}/{line[1:]}"
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("target", "node_modules"))
            elif source.exists():
                shutil.copy(source, target)
        there, here = targets(root), targets(folder)
        if isinstance(here, str):
            return [f".dockerignore: cargo refuses what it lets through: {here}"]
        if lost := there - here:
            return [f".dockerignore: cargo does not find {', '.join(sorted(lost))}"]
        missing = list(included(folder))
    return [f".dockerignore: {path} is included by the code and not let in" for path in missing]


def targets(folder):
    """Every program, library, test and bench of the workspace: cargo builds none of them when it misses one."""
    command = ["cargo", "metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        return " ".join(done.stderr.split())[:300]
    return {f"{package['name']}:{target['name']}" for package in json.loads(done.stdout)["packages"] for target in package["targets"]}


def included(folder):
    """Files that the program takes in by `include_str!`, without those of tests."""
    for source in Path(folder).rglob("*.rs"):
        if {"tests", "benches"} & set(source.parts) or source.name == "tests.rs":
            continue
        for name in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()):
            if not (source.parent / name).exists():
                yield f"{name} of {source.relative_to(folder)}"
