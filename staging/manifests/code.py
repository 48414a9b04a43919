"""What the server's own code says, read from it, so that manifests cannot go on saying what the code no longer does."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Code:
    settings: dict  # name -> default or None
    secrets: frozenset
    routes: frozenset  # of health
    workers_end_s: int
    drain_ms: int  # in production
    ping_every_s: int
    version: str
    rust: str


def read(root):
    text = (root / "src/config/settings.rs").read_text()
    rows = re.findall(r'^\s+(row|secret)\("([A-Z_]+)", (?:Is\("([^"]*)"\)|(?:From|Unset)\()', text, re.M)
    manifest = (root / "Cargo.toml").read_text()
    settings = {name: default for _, name, default in rows}
    code = Code(
        settings=settings,
        secrets=frozenset(name for kind, name, _ in rows if kind == "secret"),
        routes=frozenset(re.findall(r'"(/[^"]*)", get\(', (root / "src/server/health.rs").read_text())),
        workers_end_s=int(found(root / "src/server/mod.rs", r"WORKERS_END: Duration = Duration::from_secs\((\d+)\)")),
        drain_ms=int(found(root / "src/config/http.rs", r'PRODUCTION_DRAIN_MS: &str = "(\d+)"')),
        ping_every_s=int(settings.get("SOCKET_PING_MS") or 0) // 1000,
        version=re.search(r'^version = "([^"]+)"', manifest, re.M)[1],
        rust=re.search(r'^rust-version = "([^"]+)"', manifest, re.M)[1],
    )
    # Should the rows take another form, nothing must pass for want of rows: README's table is printed from them.
    table = re.findall(r"^\| `([A-Z_]+)` \|.*?( Secret\.)? \|$", (root / "README.md").read_text(), re.M)
    here = {(name, name in code.secrets) for name in code.settings}
    if differing := here ^ {(name, bool(secret)) for name, secret in table}:
        names = ", ".join(sorted({name for name, _ in differing}))
        raise ValueError(f"src/config/settings.rs: its rows, as they are read here, are not those of README's table: {names}")
    return code


def found(path: Path, pattern):
    match = re.search(pattern, path.read_text())
    if not match:
        raise ValueError(f"{path}: no {pattern}")
    return match[1]
