"""What no schema can say about a rendered overlay."""

import ipaddress
import re
from urllib.parse import urlsplit

# With the time-out of /health/ready, which asks the database: src/storage waits 5 seconds for a connection.
READY_TIMEOUT_S = 6
USER = 1000
# Addresses of one network of pods.
WIDEST_PROXIES = 65536


class Overlay:
    def __init__(self, name, documents, code):
        self.name, self.documents, self.code = name, documents, code
        self.problems = []
        maps = self.of("ConfigMap")
        self.settings = maps[0]["data"] if maps else {}

    def of(self, kind):
        return [document for document in self.documents if document["kind"] == kind]

    def the(self, kind, name):
        return next((d for d in self.of(kind) if d["metadata"]["name"] == name), None)

    def must(self, holds, problem):
        if not holds:
            self.problems.append(f"{self.name}: {problem}")

    def setting(self, name):
        return self.settings.get(name) or self.code.settings[name]


def judge(name, documents, code, operations):
    overlay = Overlay(name, documents, code)
    one_namespace(overlay)
    settings(overlay)
    for kind in ("Deployment", "Job"):
        for workload in overlay.of(kind):
            pod(overlay, f"{kind}/{workload['metadata']['name']}", workload["spec"]["template"])
    deployments = overlay.of("Deployment")
    overlay.must(len(deployments) == 1, f"{len(deployments)} Deployments instead of one")
    if deployments:
        deployment(overlay, deployments[0])
        services(overlay, deployments[0])
    secrets_are_documented(overlay, operations)
    return overlay.problems


def one_namespace(overlay):
    first = overlay.documents[0]
    overlay.must(first["kind"] == "Namespace", "the first document is not the Namespace, in which all others are")
    for document in overlay.documents:
        kind, metadata = document["kind"], document["metadata"]
        overlay.must(kind != "Secret", f"Secret/{metadata['name']}: secrets are not for git")
        if kind != "Namespace":
            overlay.must(metadata.get("namespace") == first["metadata"]["name"], f"{kind}/{metadata['name']}: not in the namespace")
        overlay.must("app.kubernetes.io/name" in metadata.get("labels", {}), f"{kind}/{metadata['name']}: without app.kubernetes.io/name")


def settings(overlay):
    for name in overlay.settings:
        overlay.must(name in overlay.code.settings, f"ConfigMap: {name} is no row of src/config/settings.rs")
        overlay.must(name not in overlay.code.secrets, f"ConfigMap: {name} is a secret: give it by reference")
    overlay.must(overlay.setting("ROOKERY_ENV") == "production", "ROOKERY_ENV is not production")
    host = urlsplit(overlay.settings.get("PUBLIC_URL", "")).hostname
    overlay.must(overlay.settings.get("SERVICE_DID") == f"did:web:{host}", "SERVICE_DID is not did:web of the host of PUBLIC_URL")


def pod(overlay, name, template):
    spec, must = template["spec"], overlay.must
    security = spec.get("securityContext", {})
    must(security.get("runAsNonRoot") is True and security.get("runAsUser") == USER, f"{name}: does not run as {USER}")
    must(security.get("seccompProfile", {}).get("type") == "RuntimeDefault", f"{name}: no seccomp profile")
    must(spec.get("automountServiceAccountToken") is False, f"{name}: has a service account's token")
    must(spec.get("enableServiceLinks") is False, f"{name}: service links put ROOKERY_… variables in, which the server refuses")
    account = overlay.the("ServiceAccount", spec.get("serviceAccountName"))
    must(account, f"{name}: the ServiceAccount {spec.get('serviceAccountName')} is not there")
    for container in spec["containers"]:
        inside(overlay, f"{name}.{container['name']}", container, spec)


def inside(overlay, name, container, spec):
    must, code = overlay.must, overlay.code
    security = container.get("securityContext", {})
    must(security.get("readOnlyRootFilesystem") is True, f"{name}: its root is not read-only")
    must(security.get("allowPrivilegeEscalation") is False, f"{name}: may gain privileges")
    must(security.get("capabilities", {}).get("drop") == ["ALL"], f"{name}: keeps capabilities")
    must("memory" in container.get("resources", {}).get("limits", {}), f"{name}: without a limit of memory")
    must("cpu" in container.get("resources", {}).get("requests", {}), f"{name}: requests no CPU")
    _, _, tag = container["image"].rpartition("/")[2].partition(":")
    must(tag not in ("", "latest"), f"{name}: the image {container['image']} has no version")
    must(tag == code.version, f"{name}: the image's tag {tag} is not the version of Cargo.toml, {code.version}")
    for source in container.get("envFrom", []):
        reference = source.get("configMapRef", {}).get("name")
        must(overlay.the("ConfigMap", reference), f"{name}: the ConfigMap {reference} is not there")
    given = container.get("env", [])
    for variable in given:
        must(variable["name"] in code.settings, f"{name}: {variable['name']} is no row of src/config/settings.rs")
        if variable["name"] in code.secrets:
            reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
            must(reference.get("key") == variable["name"], f"{name}: the secret {variable['name']} is not given by a reference to its key")
    must("DATABASE_URL" in {variable["name"] for variable in given}, f"{name}: without DATABASE_URL it would start a Postgres of its own")
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        secret = volumes.get(mount["name"], {}).get("secret")
        must(mount["name"] in volumes, f"{name}: the volume {mount['name']} is not there")
        if secret:
            # The server uses no key that others may read, and reads those of root through its group.
            must(secret.get("defaultMode") == 0o440, f"{name}: the keys have the mode {secret.get('defaultMode', 0o644):04o}, not 0440")
            must(spec["securityContext"].get("fsGroup") == USER, f"{name}: nobody but root can read the keys without the fsGroup {USER}")
            must(mount["mountPath"] == overlay.setting("KEYS_DIR"), f"{name}: the keys are at {mount['mountPath']}, not in KEYS_DIR")
            must({i["path"] for i in secret.get("items", [])} == {"peer.key", "checkpoint.key"}, f"{name}: the keys have other names than the server reads")


def deployment(overlay, found):
    must, spec = overlay.must, found["spec"]
    labels = spec["template"]["metadata"]["labels"]
    must(within(spec["selector"]["matchLabels"], labels), "Deployment: its selector does not match its pods")
    rolling = spec.get("strategy", {}).get("rollingUpdate", {})
    must(rolling.get("maxUnavailable") == 0, "Deployment: maxUnavailable is not 0")
    must(spec["replicas"] >= 2, "Deployment: one replica cannot be drained without an outage")
    pod_spec = spec["template"]["spec"]
    for spread in pod_spec.get("topologySpreadConstraints", []):
        must(within(spread["labelSelector"]["matchLabels"], labels), f"Deployment: spread by {spread['topologyKey']} does not match its pods")
    (container,) = pod_spec["containers"]
    must(container["args"] == ["serve"], f"Deployment: it runs {container['args']}")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for name, setting in (("http", "SERVER_PORT"), ("metrics", "METRICS_PORT")):
        must(str(ports.get(name)) == overlay.setting(setting), f"Deployment: port {name} is {ports.get(name)}, {setting} is {overlay.setting(setting)}")
    for probe, path in (("startupProbe", "/health/live"), ("livenessProbe", "/health/live"), ("readinessProbe", "/health/ready")):
        asked = container.get(probe, {}).get("httpGet", {})
        must(path in overlay.code.routes, f"src/server/health.rs has no {path}")
        must((asked.get("path"), asked.get("port")) == (path, "http"), f"Deployment: {probe} asks {asked.get('port')} {asked.get('path')}, not http {path}")
    must(container.get("readinessProbe", {}).get("timeoutSeconds", 1) >= READY_TIMEOUT_S, "Deployment: readinessProbe gives up before the server knows")
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    drain = int(overlay.settings.get("DRAIN_MS", overlay.code.drain_ms)) / 1000
    must(drain >= 3, "Deployment: no DRAIN_MS in which nobody sends new requests any more")
    needed = pause + drain + int(overlay.setting("SHUTDOWN_GRACE_MS")) / 1000 + overlay.code.workers_end_s
    grace = pod_spec.get("terminationGracePeriodSeconds", 30)
    must(grace > needed, f"Deployment: terminationGracePeriodSeconds is {grace}; stopping may take {needed:.0f}")


def services(overlay, found):
    must, labels = overlay.must, found["spec"]["template"]["metadata"]["labels"]
    (container,) = found["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    jobs = [job["spec"]["template"]["metadata"]["labels"] for job in overlay.of("Job")]
    must(jobs, "no Job that migrates")
    for service in overlay.of("Service"):
        name, selector = service["metadata"]["name"], service["spec"]["selector"]
        must(within(selector, labels), f"Service/{name}: its selector does not match the pods")
        must(not any(within(selector, job) for job in jobs), f"Service/{name}: its selector matches the migration, too")
        targets = {port["targetPort"] for port in service["spec"]["ports"]}
        must(targets <= ports, f"Service/{name}: the pods have no port {', '.join(map(str, targets - ports))}")
        must(len(targets) == 1, f"Service/{name}: the API and the metrics have a Service each")
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        must(overlay.of(kind), f"no {kind}")
    for budget in overlay.of("PodDisruptionBudget"):
        must(within(budget["spec"]["selector"]["matchLabels"], labels), "PodDisruptionBudget: its selector does not match the pods")
        must(budget["spec"].get("maxUnavailable", 0) == 1, "PodDisruptionBudget: not one at a time")
    for policy in overlay.of("NetworkPolicy"):
        chosen = policy["spec"]["podSelector"].get("matchLabels", {})
        must(all(within(chosen, pod) for pod in [labels, *jobs]), "NetworkPolicy: its selector does not match the pods")
        for rule in policy["spec"].get("ingress", []):
            named = {port["port"] for port in rule["ports"]}
            must(named <= ports, f"NetworkPolicy: the pods have no port {', '.join(map(str, named - ports))}")
            must("metrics" not in named or "from" in rule, "NetworkPolicy: anybody may read the metrics")
            must("http" not in named or "from" in rule, "NetworkPolicy: any pod may connect, and say whose address it likes")
    ingresses(overlay)


def ingresses(overlay):
    must = overlay.must
    must(overlay.of("Ingress"), "no Ingress")
    must(overlay.setting("TRUSTED_PROXIES"), "without TRUSTED_PROXIES all clients of the Ingress are one address, with one budget")
    for network in filter(None, (overlay.setting("TRUSTED_PROXIES") or "").split(",")):
        wide = ipaddress.ip_network(network.strip()).num_addresses > WIDEST_PROXIES
        must(not wide, f"TRUSTED_PROXIES: {network} is more than the pods of an ingress controller")
    must(overlay.setting("METRICS_HOST") not in ("127.0.0.1", "::1"), "METRICS_HOST is loopback: nobody can scrape the pods")
    host = urlsplit(overlay.settings.get("PUBLIC_URL", "")).hostname
    for ingress in overlay.of("Ingress"):
        spec, notes = ingress["spec"], ingress["metadata"].get("annotations", {})
        must([rule["host"] for rule in spec["rules"]] == [host], f"Ingress: its host is not that of PUBLIC_URL, {host}")
        must([h for tls in spec.get("tls", []) for h in tls["hosts"]] == [host], f"Ingress: no TLS for {host}")
        for path in (path for rule in spec["rules"] for path in rule["http"]["paths"]):
            backend = path["backend"]["service"]
            service = overlay.the("Service", backend["name"])
            named = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]} if service else {}
            must(named.get(backend["port"].get("name")) == "http", f"Ingress: {backend['name']} has no port {backend['port']} of the API")
            must(path["path"] == "/" and path["pathType"] == "Prefix", "Ingress: /.well-known/did.json and /xrpc are both below /")
        must(notes.get("nginx.org/proxy-buffering") == "False", "Ingress: server-sent events would be held back")
        for what in ("proxy-read-timeout", "proxy-send-timeout"):
            idle = re.fullmatch(r"(\d+)s", notes.get(f"nginx.org/{what}", ""))
            must(idle and int(idle[1]) > overlay.code.ping_every_s, f"Ingress: {what} is not above the {overlay.code.ping_every_s} s between pings")
        must(megabytes(notes.get("nginx.org/client-max-body-size", "")) >= largest_body(overlay), "Ingress: client-max-body-size is below MAX_COMMIT_BYTES in base64")


def largest_body(overlay):
    return int(overlay.setting("MAX_COMMIT_BYTES")) * 4 / 3 / 1024 / 1024


def megabytes(text):
    found = re.fullmatch(r"(\d+)m", text)
    return int(found[1]) if found else 0


def secrets_are_documented(overlay, operations):
    """Whoever follows docs/OPERATIONS.md has every Secret that the manifests refer to, with its keys."""
    for workload in overlay.of("Deployment") + overlay.of("Job"):
        spec = workload["spec"]["template"]["spec"]
        for container in spec["containers"]:
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    documented(overlay, operations, reference["name"], reference["key"])
        for volume in spec.get("volumes", []):
            for item in volume.get("secret", {}).get("items", []):
                documented(overlay, operations, volume["secret"]["secretName"], item["key"])
    for ingress in overlay.of("Ingress"):
        for tls in ingress["spec"].get("tls", []):
            documented(overlay, operations, tls["secretName"], tls["secretName"])


def documented(overlay, operations, secret, key):
    commands = re.findall(rf"kubectl[^\n]*create secret [^\n]*\b{re.escape(secret)}\b(?:[^\n]*\\\n)*[^\n]*", operations)
    overlay.must(any(key in command for command in commands), f"docs/OPERATIONS.md creates no Secret {secret} with {key}")


def within(selector, labels):
    return bool(selector) and selector.items() <= labels.items()
