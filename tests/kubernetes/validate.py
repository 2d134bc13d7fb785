"""Checks manifests as strictly as an API server with `fieldValidation: Strict` does.

    validate.py VERSION… < manifests.yaml

Kinds of Kubernetes itself by kubernetes-validate, for each version; the kinds of KEDA and of the
Prometheus operator by their published schemas in schemas/. A kind that neither knows is a fault.
Prints every fault it finds and ends with 1; else prints how many documents there were.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

SCHEMAS = pathlib.Path(__file__).parent / "schemas"


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
    """Faults of a document of Kubernetes itself; the first only."""
    try:
        used = kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as fault:
        yield f"{'.'.join(map(str, fault.path))}: {fault.message}"
    except kubernetes_validate.SchemaNotFoundError:
        yield f"{document['apiVersion']} has no such kind"
    else:
        # An older schema is taken without a word where the version has none.
        if used != version:
            yield f"no schemas of {version}, only of {used}"


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
    documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
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
