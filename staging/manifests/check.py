"""Everything that is checked, in one list of problems. Invariant: what is in the tree is checked; a new overlay, compose
file or YAML file needs no line here."""

import cluster
import code
import machine
import overlay
import schemas
import yaml

BUILT = {"target", ".git", "data", "node_modules", ".venv", "dist"}


def yaml_files(root):
    found = (path for pattern in ("*.yaml", "*.yml") for path in root.rglob(pattern))
    return sorted(p for p in found if not BUILT & set(p.relative_to(root).parts) and "lock" not in p.name)


def compose_files(root):
    return sorted([*root.glob("docker-compose*.yml"), *root.glob("staging/docker-compose*.yml")])


def overlays(root):
    return sorted(path.parent for path in root.glob("k8s/overlays/*/kustomization.yaml"))


def problems(root, kustomize=None):
    facts = code.read(root)
    found = [p for path in yaml_files(root) for p in schemas.yaml(path.relative_to(root), path.read_text())]
    for folder in overlays(root):
        found += one_overlay(root, folder, facts, kustomize)
    projects = {}
    for path in compose_files(root):
        name = path.relative_to(root)
        try:
            (projects[path.name],) = overlay.documents(path)
        except (overlay.Unrenderable, ValueError) as error:
            found.append(str(error))
            continue
        wrong = schemas.compose(name, projects[path.name])
        found += wrong or machine.compose(name, projects[path.name], facts, ".dev." in path.name)
    if not found:
        found += machine.proxy(root / "staging/nginx.conf", projects["docker-compose.staging.yml"], facts)
    return found + machine.dockerfile(root / "Dockerfile", facts)


def one_overlay(root, folder, facts, kustomize):
    name = folder.name
    try:
        documents = overlay.render(folder)
        if kustomize and not overlay.same(documents, overlay.render_by(kustomize, folder)):
            return [f"{name}: staging/manifests/overlay.py does not render what {' '.join(kustomize)} renders"]
    except overlay.Unrenderable as error:
        return [f"{name}: {error}"]
    wrong = [f"{name}: {problem}" for document in documents for problem in schemas.kubernetes(document)]
    # What has not the shape of its kind is not looked into.
    return wrong or cluster.judge(name, documents, facts, (root / "docs/OPERATIONS.md").read_text())


def only_once(root):
    """What takes a program each, and need not be asked about every break."""
    return schemas.dockerfile(root / "Dockerfile") + machine.context(root)
