"""Checks manifests as strictly as an API server with `fieldValidation: Strict` does.

    validate.py VERSION… < manifests.yaml

Kinds of Kubernetes itself by the schemas that kubernetes-validate brings, for each version; the
kinds of KEDA, cert-manager and the Prometheus operator by their published schemas in schemas/. A
kind that neither knows is a fault. Prints every fault and ends with 1; else prints how many
documents there were.
"""

import functools
import importlib.util
import json
import pathlib
import re
import sys

# Formats are not checked, and to make ready for this one takes jsonschema two seconds.
sys.modules["rfc3987_syntax"] = None

import jsonschema
import referencing
import yaml

SCHEMAS = pathlib.Path(__file__).parent / "schemas"
# For its schemas only: its `validate` reads megabytes again for each document.
PACKAGE = pathlib.Path(importlib.util.find_spec("kubernetes_validate").submodule_search_locations[0])


@functools.cache
def definitions(version):
    """What the schemas of a version refer to."""
    folder = PACKAGE / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    resource = referencing.Resource.from_contents(json.loads((folder / "_definitions.json").read_text()))
    return folder, resource @ referencing.Registry()


@functools.cache
def validator(api_version, kind, version):
    """For one kind of Kubernetes itself; None where the version does not have it."""
    folder, registry = definitions(version)
    # `rbac.authorization.k8s.io/v1` lies in `…-rbac-v1.json`.
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    file = folder / f"{kind.lower()}-{group}.json"
    if not file.exists():
        return None
    return jsonschema.Draft202012Validator(json.loads(file.read_text()), registry=registry)


def closed(schema):
    """The schema with unknown fields refused wherever fields are named."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {
        key: {name: closed(part) for name, part in value.items()} if key == "properties" else closed(value)
        for key, value in schema.items()
    }
    is_open = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if isinstance(schema.get("properties"), dict) and not is_open:
        schema.setdefault("additionalProperties", False)
    return schema


def own_faults(document, version):
    schema = validator(document["apiVersion"], document["kind"], version)
    if not schema:
        yield f"{document['apiVersion']} has no such kind"
        return
    for fault in schema.iter_errors(document):
        yield f"{fault.json_path}: {fault.message}"


def custom_faults(document, version):
    published = json.loads((SCHEMAS / f"{document['kind']}.json").read_text())
    if document["apiVersion"] != published["apiVersion"]:
        yield f"apiVersion: {published['apiVersion']} is what the schema is of"
    body = {key: value for key, value in document.items() if key not in ("apiVersion", "kind", "metadata")}
    for fault in jsonschema.Draft202012Validator(closed(published["schema"])).iter_errors(body):
        yield f"{fault.json_path}: {fault.message}"
    # The metadata of any kind.
    yield from own_faults({"apiVersion": "v1", "kind": "ConfigMap", "metadata": document["metadata"]}, version)
    spec = document["spec"]
    if "jobTargetRef" in spec:
        yield from own_faults({"apiVersion": "batch/v1", "kind": "Job", "spec": spec["jobTargetRef"]}, version)
    known = json.loads((SCHEMAS / "triggers.json").read_text())
    for trigger in spec.get("triggers", []):
        for key in trigger["metadata"].keys() - set(known[trigger["type"]]):
            yield f"triggers: {trigger['type']} has no {key}"


def main(versions):
    documents = [document for document in yaml.load_all(sys.stdin, yaml.CSafeLoader) if document]
    faults = []
    for document in documents:
        is_custom = (SCHEMAS / f"{document['kind']}.json").exists()
        for version in versions:
            found = (custom_faults if is_custom else own_faults)(document, version)
            name = f"{document['kind']}/{document['metadata'].get('name')}"
            faults.extend(f"{version} {name}: {fault}" for fault in found)
    print("\n".join(faults) if faults else f"{len(documents)} documents")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
