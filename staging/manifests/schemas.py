"""What published schemas and linters can say: Kubernetes, compose, YAML, Dockerfile."""

import functools
import json
import subprocess
from importlib import resources
from pathlib import Path

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import yamllint.linter
from yamllint.config import YamlLintConfig

# The oldest that is supported, and the newest whose schemas are there.
KUBERNETES = ("1.30", "1.37")

# Its files are read anew for each document otherwise.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)


def kubernetes(document):
    return _kubernetes(json.dumps(document, sort_keys=True))


@functools.cache
def _kubernetes(text):
    document = json.loads(text)
    name = f"{document.get('kind')}/{document.get('metadata', {}).get('name')}"
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(part) for part in error.path)
            return [f"{name}: not Kubernetes {version}: {place}: {error.message.splitlines()[0]}"]
        except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.VersionNotSupportedError) as error:
            return [f"{name}: {error.message}"]
        except KeyError as error:
            return [f"{name}: it has no {error}"]
    return []


@functools.cache
def _compose_validator():
    schema = json.loads((resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    return jsonschema.validators.validator_for(schema)(schema)


def compose(path, project):
    return [f"{path}: not a compose file: {problem}" for problem in _compose(json.dumps(project))]


@functools.cache
def _compose(text):
    errors = _compose_validator().iter_errors(json.loads(text))
    return [f"{'.'.join(map(str, e.absolute_path))}: {deepest(e)}" for e in errors]


def deepest(error):
    """The reason inside of an `anyOf`, which by itself only says that nothing fits."""
    best = jsonschema.exceptions.best_match([error])
    return best.message[:200]


@functools.cache
def _yaml_rules():
    return YamlLintConfig((Path(__file__).parent / "yamllint.yaml").read_text())


@functools.cache
def yaml(path, text):
    return [f"{path}:{p.line}: {p.desc} ({p.rule})" for p in yamllint.linter.run(text, _yaml_rules(), str(path))]


def dockerfile(path):
    done = subprocess.run(["hadolint", "--no-color", str(path)], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines() if done.returncode else []
