"""Renders a kustomization.

Invariant: what is checked is what kustomize renders. Where `kustomize` or a `kubectl` that brings version 5 is installed,
it renders, and its documents must be those of `render`; where there is none (no registry that this repository uses has
it), `render` stands in. It knows the few fields that k8s/ uses and refuses every other.
"""

import copy
import functools
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import yaml

FIELDS = {"apiVersion", "kind", "namespace", "resources", "images", "replicas", "configMapGenerator"}
CLUSTER_WIDE = {"Namespace"}
# The one in C is ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unrenderable(Exception):
    pass


def documents(path):
    try:
        # Whoever asks may change what it gets; to copy is quicker than to parse again.
        return copy.deepcopy(_parsed(path.read_text()))
    except FileNotFoundError as error:
        raise Unrenderable(f"{path}: it does not exist") from error
    except yaml.YAMLError as error:
        raise Unrenderable(f"{path}: not YAML: {error}") from error


@functools.cache
def _parsed(text):
    return [document for document in yaml.load_all(text, Loader=LOADER) if document is not None]


def env_file(path):
    """`NAME=value` lines, as kustomize reads them."""
    pairs = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if not equals:
                raise Unrenderable(f"{path}: `{line}` is not NAME=value")
            pairs[name] = value
    return pairs


def known(path, what, given, fields):
    if unknown := set(given) - fields:
        raise Unrenderable(f"{path}: {what} has {', '.join(sorted(unknown))}, which staging/manifests/overlay.py does not know")


def render(folder):
    """The documents of one folder with a kustomization.yaml."""
    resources, maps = accumulate(Path(folder))
    for name, (pairs, labels) in maps.items():
        suffixed = f"{name}-{content_hash(pairs)}"
        metadata = {"name": suffixed} | ({"labels": labels} if labels else {})
        if namespaces := {d["metadata"].get("namespace") for d in resources} - {None}:
            metadata["namespace"] = namespaces.pop()
        for document in resources:
            rename(document, name, suffixed)
        resources.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": pairs})
    return resources


def accumulate(folder):
    path = folder / "kustomization.yaml"
    (kustomization,) = documents(path)
    known(path, "it", kustomization, FIELDS)
    resources, maps = [], {}
    for entry in kustomization.get("resources", []):
        if (folder / entry).is_dir():
            below, generated = accumulate(folder / entry)
            resources += below
            maps |= generated
        else:
            found = documents(folder / entry)
            for document in found:
                if not isinstance(document, dict) or not {"apiVersion", "kind"} <= document.keys() or "name" not in document.get("metadata", {}):
                    raise Unrenderable(f"{folder / entry}: a document has no apiVersion, kind or name")
            resources += found
    for generator in kustomization.get("configMapGenerator", []):
        known(path, "configMapGenerator", generator, {"name", "behavior", "envs", "options"})
        known(path, "its options", generator.get("options", {}), {"labels"})
        pairs = {k: v for env in generator.get("envs", []) for k, v in env_file(folder / env).items()}
        before, labels = maps.get(generator["name"], ({}, {}))
        merges = generator.get("behavior", "create") == "merge"
        if merges != (generator["name"] in maps):
            raise Unrenderable(f"{path}: {generator['name']}: behavior `merge` is for a map that is there already")
        maps[generator["name"]] = (before | pairs, labels | generator.get("options", {}).get("labels", {}))
    for document in resources:
        if (namespace := kustomization.get("namespace")) and document["kind"] not in CLUSTER_WIDE:
            document["metadata"]["namespace"] = namespace
        for image in kustomization.get("images", []):
            known(path, "images", image, {"name", "newName", "newTag"})
            for container in containers(document):
                if container.get("image", "").split(":")[0] == image["name"]:
                    container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
        for count in kustomization.get("replicas", []):
            known(path, "replicas", count, {"name", "count"})
            if document["kind"] == "Deployment" and document["metadata"]["name"] == count["name"]:
                document["spec"]["replicas"] = count["count"]
    return resources, maps


def containers(document):
    pod = document.get("spec", {}).get("template", {}).get("spec", {})
    return pod.get("initContainers", []) + pod.get("containers", [])


def rename(document, name, suffixed):
    for container in containers(document):
        for source in container.get("envFrom", []):
            if source.get("configMapRef", {}).get("name") == name:
                source["configMapRef"]["name"] = suffixed


def content_hash(pairs):
    """kustomize's suffix: ten digits of SHA-256 of the map as JSON (without its name), in an alphabet that spells no words."""
    text = json.dumps({"data": pairs, "kind": "ConfigMap", "name": ""}, sort_keys=True, separators=(",", ":"))
    for plain, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(plain, escaped)
    digits = hashlib.sha256(text.encode()).hexdigest()[:10]
    return digits.translate(str.maketrans("013ae", "ghkmt"))


def kustomize():
    """The command of a kustomize 5 or newer on this machine, or None."""
    for command, version in ((["kustomize", "build"], ["kustomize", "version"]), (["kubectl", "kustomize"], ["kubectl", "version", "--client"])):
        if shutil.which(command[0]):
            said = subprocess.run(version, capture_output=True, text=True, check=False).stdout
            if (found := re.search(r"v(\d+)\.\d+\.\d+\s*$", said)) and int(found[1]) >= 5:
                return command
    return None


def render_by(command, folder):
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unrenderable(f"{folder}: {' '.join(command)}: {done.stderr.strip()}")
    return [document for document in yaml.load_all(done.stdout, Loader=LOADER) if document is not None]


def same(one, other):
    def key(document):
        return document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"]

    return sorted(one, key=key) == sorted(other, key=key)
