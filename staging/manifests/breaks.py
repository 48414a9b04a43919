"""Breaks that must be noticed: each puts one wrong thing into a copy of the tree and names the complaint that must follow.

Invariant: every manifest, compose file and configuration has a break of its own; a file without one is itself a problem.
"""

import re
import shutil
import tempfile
from pathlib import Path

import check
import overlay

BASE, PRODUCTION, STAGING = "k8s/base", "k8s/overlays/production", "k8s/overlays/staging"
DEPLOYMENT, MIGRATION, SERVICE = f"{BASE}/deployment.yaml", f"{BASE}/migration.yaml", f"{BASE}/service.yaml"
COMPOSE, DEV, TWO = "docker-compose.yml", "docker-compose.dev.yml", "staging/docker-compose.staging.yml"
NGINX = "staging/nginx.conf"

# (file, what stands there, what is put in its place, a pattern of the complaint)
BREAKS = [
    # A field that is not of its kind, or of another type: one for each file at least.
    (DEPLOYMENT, "revisionHistoryLimit: 5", "revisionHistoryLimit: five", "not Kubernetes"),
    (DEPLOYMENT, "minReadySeconds: 10", "minReadySecond: 10", "not Kubernetes"),
    (DEPLOYMENT, "readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true", "not Kubernetes"),
    (MIGRATION, "backoffLimit: 3", "backOffLimit: 3", "not Kubernetes"),
    (SERVICE, "targetPort: http", "targetPorts: http", "not Kubernetes"),
    (f"{BASE}/service-account.yaml", "automountServiceAccountToken: false", 'automountServiceAccountToken: "no"', "not Kubernetes"),
    (f"{BASE}/network-policy.yaml", "protocol: UDP", "protocoll: UDP", "not Kubernetes"),
    (f"{BASE}/disruption-budget.yaml", "maxUnavailable: 1", "maxUnavailable: true", "not Kubernetes"),
    (f"{BASE}/kustomization.yaml", "resources:", "resource:", "does not know"),
    (f"{BASE}/kustomization.yaml", "disruption-budget.yaml", "budget.yaml", "does not exist"),
    (f"{BASE}/settings.env", "LOG_FORMAT=json", "LOG_FORMAT json", "not NAME=value"),
    (f"{PRODUCTION}/namespace.yaml", "kind: Namespace", "kind: NameSpace", "not Kubernetes"),
    (f"{STAGING}/namespace.yaml", "metadata:", "meta:", "has no apiVersion, kind or name"),
    (f"{PRODUCTION}/ingress.yaml", "pathType: Prefix", "pathtype: Prefix", "not Kubernetes"),
    (f"{STAGING}/ingress.yaml", "ingressClassName: nginx", "ingressClass: nginx", "not Kubernetes"),
    (f"{PRODUCTION}/kustomization.yaml", "count: 3", "count: three", "not Kubernetes"),
    (f"{STAGING}/kustomization.yaml", "newTag:", "tag:", "does not know"),
    (f"{PRODUCTION}/kustomization.yaml", "behavior: merge", "behavior: create", "behavior"),
    (COMPOSE, "stop_grace_period: 45s", "stop_grace: 45s", "not a compose file"),
    (COMPOSE, "read_only: true", "read_only: [always]", "not a compose file"),
    (DEV, "tmpfs:", "tempfs:", "not a compose file"),
    (TWO, "restart: unless-stopped", "restarts: unless-stopped", "not a compose file"),
    (TWO, "condition: service_healthy", "condition: healthy", "not a compose file"),
    (DEPLOYMENT, "  name: rookery\n", "  name: rookery\n  name: rookery\n", "key-duplicates"),
    # Settings and secrets.
    (f"{PRODUCTION}/settings.env", "DATABASE_POOL=16", "DATABASE_POOLS=16", "DATABASE_POOLS is no row"),
    (f"{STAGING}/settings.env", "ACCOUNTS=allowlist", "REDIS_URL=redis://redis", "REDIS_URL is a secret"),
    (f"{BASE}/settings.env", "ROOKERY_ENV=production", "ROOKERY_ENV=development", "not production"),
    (f"{PRODUCTION}/settings.env", "PUBLIC_URL=https://chat.", "PUBLIC_URL=https://talk.", "SERVICE_DID is not"),
    (DEPLOYMENT, "name: LOG_HASH_KEY", "name: LOG_HASHKEY", "LOG_HASHKEY is no row"),
    (DEPLOYMENT, "                  key: LOG_HASH_KEY", "                  key: DATABASE_URL", "not given by a reference"),
    (MIGRATION, "valueFrom:\n                secretKeyRef:\n                  name: rookery-env\n                  key: DATABASE_URL", "value: postgres://a:b@c/d", "not given by a reference"),
    (MIGRATION, "name: DATABASE_URL", "name: DATABASE_POOL", "a Postgres of its own"),
    (f"{BASE}/service-account.yaml", "apiVersion: v1", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: rookery-env\n  labels:\n    app.kubernetes.io/name: rookery\ndata:\n  A: Yg==\n---\napiVersion: v1", "secrets are not for git"),
    ("docs/OPERATIONS.md", "--from-file=LOG_HASH_KEY=log-hash-key", "", "creates no Secret rookery-env with LOG_HASH_KEY"),
    (COMPOSE, "postgres://rookery:${POSTGRES_PASSWORD:?set it to a secret of letters and digits}@", "postgres://rookery:hunter2@", "holds a password"),
    (COMPOSE, "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?set it to a secret of letters and digits}", "POSTGRES_PASSWORD: hunter2", "is a secret"),
    (COMPOSE, "LOG_HASH_KEY: ${LOG_HASH_KEY:-}", "LOG_HASH_KEY: hunter2hunter2hunter2", "is a secret"),
    (COMPOSE, "SHUTDOWN_GRACE_MS:", "SHUTDOWN_GRACE:", "SHUTDOWN_GRACE is no row"),
    (TWO, "redis://:${REDIS_PASSWORD:?set it to a secret of letters and digits}@", "redis://:hunter2@", "holds a password|is a secret"),
    (DEV, "POSTGRES_HOST_AUTH_METHOD: trust", "POSTGRES_PASSWORD: rookery", "is a secret"),
    # The code and the manifests say one thing.
    ("src/server/health.rs", '"/health/live"', '"/health/alive"', "has no /health/live"),
    (DEPLOYMENT, "path: /health/ready", "path: /healthz", "readinessProbe asks"),
    (DEPLOYMENT, "path: /health/live\n              port: http\n            periodSeconds: 10", "path: /health/ready\n              port: http\n            periodSeconds: 10", "livenessProbe asks"),
    (f"{BASE}/settings.env", "SERVER_PORT=3000", "SERVER_PORT=3001", "port http is 3000"),
    (DEPLOYMENT, "containerPort: 9090", "containerPort: 9091", "port metrics is 9091"),
    (f"{BASE}/settings.env", "SHUTDOWN_GRACE_MS=20000", "SHUTDOWN_GRACE_MS=60000", "terminationGracePeriodSeconds is 45"),
    ("src/server/mod.rs", "WORKERS_END: Duration = Duration::from_secs(5)", "WORKERS_END: Duration = Duration::from_secs(50)", "terminationGracePeriodSeconds|stop_grace"),
    (COMPOSE, 'SHUTDOWN_GRACE_MS: "20000"', 'SHUTDOWN_GRACE_MS: "60000"', "stop_grace_period is 45"),
    (f"{BASE}/settings.env", "DRAIN_MS=5000", "DRAIN_MS=0", "no DRAIN_MS"),
    (f"{BASE}/settings.env", "DRAIN_MS=5000", "DRAIN_MS=30000", "terminationGracePeriodSeconds is 45"),
    (f"{BASE}/settings.env", "METRICS_HOST=::", "METRICS_HOST=127.0.0.1", "nobody can scrape"),
    (COMPOSE, 'METRICS_HOST: "::"', 'METRICS_HOST: "127.0.0.1"', "nobody reaches the published port"),
    (f"{BASE}/settings.env", "KEYS_DIR=/etc/rookery/keys", "KEYS_DIR=/keys", "not in KEYS_DIR"),
    (f"{PRODUCTION}/kustomization.yaml", "newTag: 0.1.0", "newTag: latest", "no version"),
    (f"{STAGING}/kustomization.yaml", "newTag: 0.1.0", "newTag: 0.0.9", "not the version of Cargo.toml"),
    (f"{PRODUCTION}/ingress.yaml", "client-max-body-size: 12m", "client-max-body-size: 8m", "below MAX_COMMIT_BYTES"),
    (f"{PRODUCTION}/ingress.yaml", "proxy-read-timeout: 120s", "proxy-read-timeout: 20s", "between pings"),
    (f"{PRODUCTION}/ingress.yaml", 'proxy-buffering: "False"', 'proxy-buffering: "True"', "held back"),
    (f"{STAGING}/ingress.yaml", "- host: chat.staging.example.com", "- host: chat.example.com", "not that of PUBLIC_URL"),
    (NGINX, "server 172.30.255.12:3000", "server 172.30.255.13:3000", "it sends to"),
    (NGINX, "keepalive_timeout 20s", "keepalive_timeout 75s", "HEADER_TIMEOUT_MS"),
    (NGINX, "client_max_body_size 12m", "client_max_body_size 1m", "below MAX_COMMIT_BYTES"),
    (NGINX, "proxy_buffering off", "proxy_buffering on", "held back"),
    (NGINX, "proxy_request_buffering off", "proxy_request_buffering on", "look quick"),
    (NGINX, "X-Forwarded-For $proxy_add_x_forwarded_for", "X-Forwarded-Host $host", "who asked"),
    (f"{PRODUCTION}/settings.env", "TRUSTED_PROXIES=10.244.7.0/24", "", "one budget"),
    (f"{STAGING}/settings.env", "TRUSTED_PROXIES=10.244.7.0/24", "TRUSTED_PROXIES=10.0.0.0/8", "more than the pods"),
    (COMPOSE, "TRUSTED_PROXIES: 172.30.254.1", "TRUSTED_PROXIES: 10.0.0.1", "no address of a proxy"),
    (TWO, "TRUSTED_PROXIES: 172.30.255.10", "TRUSTED_PROXIES: 172.30.255.20", "no address of a proxy"),
    # Parts that belong together.
    (SERVICE, "app.kubernetes.io/component: server\n  ports:\n    - name: http", "app.kubernetes.io/component: api\n  ports:\n    - name: http", "does not match the pods"),
    (SERVICE, "targetPort: metrics", "targetPort: prometheus", "no port prometheus"),
    (f"{BASE}/disruption-budget.yaml", "matchLabels:\n      app.kubernetes.io/name: rookery", "matchLabels:\n      app.kubernetes.io/name: rook", "PodDisruptionBudget: its selector"),
    (f"{BASE}/network-policy.yaml", "port: metrics", "port: prometheus", "no port prometheus"),
    (f"{BASE}/network-policy.yaml", "port: http\n    - from:\n        - namespaceSelector:\n            matchLabels:\n              kubernetes.io/metadata.name: monitoring\n      ports:", "port: http\n    - ports:", "anybody may read the metrics"),
    (f"{BASE}/network-policy.yaml", "  ingress:\n    - from:\n        - namespaceSelector:\n            matchLabels:\n              kubernetes.io/metadata.name: nginx-ingress\n      ports:", "  ingress:\n    - ports:", "any pod may connect"),
    (f"{PRODUCTION}/ingress.yaml", "                name: rookery\n                port:\n                  name: http", "                name: rookery-metrics\n                port:\n                  name: metrics", "has no port"),
    (f"{BASE}/kustomization.yaml", "name: rookery-settings", "name: rookery-config", "behavior|is not there"),
    (DEPLOYMENT, "serviceAccountName: rookery", "serviceAccountName: default", "ServiceAccount default is not there"),
    (f"{PRODUCTION}/kustomization.yaml", "count: 3", "count: 1", "one replica"),
    (DEPLOYMENT, "maxUnavailable: 0", "maxUnavailable: 1", "maxUnavailable is not 0"),
    (TWO, "  migrate:\n    <<", "  migration:\n    <<", "depends on migrate"),
    (COMPOSE, "postgres:/var/lib/postgresql/data", "database:/var/lib/postgresql/data", "volume database is not there"),
    # What a pod or a container may.
    (DEPLOYMENT, "enableServiceLinks: false", "enableServiceLinks: true", "service links"),
    (MIGRATION, "enableServiceLinks: false", "enableServiceLinks: true", "service links"),
    (DEPLOYMENT, "automountServiceAccountToken: false", "automountServiceAccountToken: true", "account's token"),
    (DEPLOYMENT, "runAsUser: 1000", "runAsUser: 0", "does not run as"),
    (MIGRATION, "type: RuntimeDefault", "type: Unconfined", "no seccomp"),
    (DEPLOYMENT, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "not read-only"),
    (DEPLOYMENT, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "gain privileges"),
    (MIGRATION, "- ALL", "- NET_RAW", "keeps capabilities"),
    (DEPLOYMENT, "defaultMode: 0440", "defaultMode: 0444", "mode 0444"),
    (DEPLOYMENT, "fsGroup: 1000", "fsGroup: 2000", "without the fsGroup"),
    (COMPOSE, '"127.0.0.1:3000:3000"', '"3000:3000"', "open to the world"),
    (COMPOSE, 'user: "1000:1000"', 'user: "0:0"', "runs as root"),
    (TWO, "read_only: true", "read_only: false", "not read-only"),
    (TWO, "cap_drop: [ALL]", "cap_drop: [NET_RAW]", "keeps capabilities"),
    (TWO, "internal: true", "internal: false", "reaches the world"),
    (DEV, "redis:7-bookworm", "redis:latest", "no version"),
    (DEV, "memory: 1G", "cpus: 4", "without limits"),
    # The image.
    ("Dockerfile", "USER 1000:1000", "USER rookery", "does not end as"),
    ("Dockerfile", "rust:1.95-bookworm", "rust:1.70-bookworm", "it builds with"),
    ("Dockerfile", "FROM debian:bookworm-slim", "FROM debian", "no version"),
    ("Dockerfile", "GET /health/ready", "GET /", "whether it is ready"),
    ("Dockerfile", "EXPOSE 3000 9090", "EXPOSE 8080", "does not expose"),
    ("Dockerfile", "ARG VERSION=0.1.0", "ARG VERSION=0.0.1", "its VERSION"),
    # Should the code take another form, the checks must not pass for want of it.
    ("src/config/settings.rs", '    row("SERVER_PORT", Is("3000")', '    port("SERVER_PORT", Is("3000")', "its rows, as they are read"),
]

# Those that only the whole check, with its programs, can notice.
ONCE = [
    ("Dockerfile", "apt-get install -y --no-install-recommends", "apt-get install", "DL3014|DL3015"),
    ("Dockerfile", "ENTRYPOINT", "ENTRIPOINT", "unexpected|ENTRIPOINT"),
    (".dockerignore", "!benches", "", "cargo"),
    (".dockerignore", "!lexicons", "", "cargo"),
    (".dockerignore", "*\n", "target\n", "anything might get in"),
]

COPIED = ["k8s", "staging", "Dockerfile", ".dockerignore", "README.md", "docs/OPERATIONS.md", "Cargo.toml", "src/config/settings.rs",
          "src/server/health.rs", "src/server/mod.rs", "src/config/http.rs"]  # fmt: skip


def unnoticed(root):
    """The breaks that pass."""
    with tempfile.TemporaryDirectory(prefix="rookery-manifests-") as folder:
        copy = Path(folder)
        for name in COPIED + [path.name for path in root.glob("docker-compose*.yml")]:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            if (root / name).is_dir():
                shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("node_modules", "target"))
            else:
                shutil.copy(root / name, copy / name)
        problems = [f"the copy is not whole: {problem}" for problem in check.problems(copy)]
        problems += [p for one in BREAKS for p in try_one(copy, one, check.problems)]
    problems += [p for one in ONCE for p in try_one(root, one, check.only_once, beside=True)]
    return problems + without_a_break(root), f"{len(BREAKS) + len(ONCE)} breaks"


def try_one(root, one, checked, beside=False):
    name, before, after, complaint = one
    if beside:
        with tempfile.TemporaryDirectory(prefix="rookery-manifests-") as folder:
            # Links to everything, but for the file that is broken.
            for path in root.iterdir():
                (Path(folder) / path.name).symlink_to(path)
            (Path(folder) / name).unlink()
            shutil.copy(root / name, Path(folder) / name)
            return try_one(Path(folder), one, checked)
    path = root / name
    text = path.read_text()
    if before not in text:
        return [f"{name}: nothing to break: `{before}` does not stand there"]
    path.write_text(text.replace(before, after, 1))
    try:
        found = checked(root)
    except (overlay.Unrenderable, ValueError) as error:
        found = [str(error)]
    finally:
        path.write_text(text)
    if any(re.search(complaint, problem) for problem in found):
        return []
    return [f"{name}: `{after}` instead of `{before}` is not noticed; what is said: {found or 'nothing'}"]


def without_a_break(root):
    broken = {name for name, *_ in BREAKS + ONCE}
    files = [path for path in (root / "k8s").rglob("*") if path.is_file()]
    files += [*check.compose_files(root), root / NGINX, root / "Dockerfile", root / ".dockerignore"]
    return [f"staging/manifests/breaks.py breaks nothing in {path.relative_to(root)}" for path in files if str(path.relative_to(root)) not in broken]
