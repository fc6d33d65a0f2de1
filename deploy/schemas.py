"""Writes JSON schemas that stand alone, one a kind, for kubeconform: those of Kubernetes that the package kubernetes-validate
ships, and those of the custom resources whose definitions are named.

    schemas.py FOLDER KUBERNETES-VERSION DEFINITION.yaml...
"""

import json
import pathlib
import sys

import kubernetes_validate
import yaml

folder, version, definitions = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
folder.mkdir(parents=True, exist_ok=True)


def local(node):
    """References into the one file of definitions become references into the schema itself."""
    if isinstance(node, dict):
        return {k: "#/$defs/" + v.rsplit("/", 1)[1] if k == "$ref" and isinstance(v, str) else local(v) for k, v in node.items()}
    return [local(v) for v in node] if isinstance(node, list) else node


def strict(node):
    """Where a definition lists its keys, there are no others: the API server would drop them without a word."""
    if isinstance(node, dict):
        node = {k: strict(v) for k, v in node.items()}
        if isinstance(node.get("properties"), dict) and node.get("type") == "object" and not node.get("x-kubernetes-preserve-unknown-fields"):
            node.setdefault("additionalProperties", False)
        return node
    return [strict(v) for v in node] if isinstance(node, list) else node


shipped = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{version}-local-strict"
shared = local(json.loads((shipped / "_definitions.json").read_text())["$defs"])
for name in [
    "configmap-v1", "service-v1", "serviceaccount-v1", "deployment-apps-v1", "poddisruptionbudget-policy-v1",
    "networkpolicy-networking-v1", "horizontalpodautoscaler-autoscaling-v2",
]:  # fmt: skip
    schema = {**local(json.loads((shipped / f"{name}.json").read_text())), "$defs": shared}
    (folder / f"{name}.json").write_text(json.dumps(schema))

for path in definitions:
    spec = yaml.safe_load(pathlib.Path(path).read_text())["spec"]
    for v in spec["versions"]:
        schema = strict(v["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}
        name = f"{spec['names']['singular']}-{spec['group'].split('.')[0]}-{v['name']}"
        (folder / f"{name}.json").write_text(json.dumps(schema))
