"""A MutatingAdmissionPolicy carried out as an API server does, with Google's own CEL.

Reads the policy and pods from the JSON file $CASES, prints the pods after it. What Kubernetes adds
to CEL is declared here: the type JSONPatch, lists' indexOf, quantities (as numbers, with compareTo),
and variables with the types that their expressions have.
"""

import json
import os
from fractions import Fraction

import jsonpatch
from cel_expr_python import cel
from cel_expr_python.ext import ext_strings
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, struct_pb2


def descriptors():
    """`JSONPatch{op: …, path: …, value: …}`"""
    file = descriptor_pb2.FileDescriptorProto(name="patch.proto", syntax="proto3")
    file.dependency.append("google/protobuf/struct.proto")
    message = file.message_type.add(name="JSONPatch")
    field = descriptor_pb2.FieldDescriptorProto
    for number, name in enumerate(["op", "path"], 1):
        message.field.add(name=name, number=number, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    message.field.add(name="value", number=3, type=field.TYPE_MESSAGE, label=field.LABEL_OPTIONAL,
                      type_name=".google.protobuf.Value")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return pool


POOL = descriptors()
# Under another name, because texts have an indexOf already and this library takes one of a name.
INDEX_OF = cel.FunctionDecl("listIndexOf", [cel.Overload(
    "list_index_of", cel.Type.INT, [cel.Type.LIST, cel.Type.STRING], True,
    lambda items, item: items.index(item) if item in items else -1)])

UNITS = {"": 1, "m": Fraction(1, 1000), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
         "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def amount(text):
    number = text.rstrip("mkMGTi")
    return float(Fraction(number) * UNITS[text[len(number):]])


QUANTITIES = [
    cel.FunctionDecl("quantity", [cel.Overload(
        "quantity_of_string", cel.Type.DOUBLE, [cel.Type.STRING], False, amount)]),
    cel.FunctionDecl("compareTo", [cel.Overload(
        "quantity_compare_to", cel.Type.INT, [cel.Type.DOUBLE, cel.Type.DOUBLE], True,
        lambda one, other: (one > other) - (one < other))])]


class Policy:
    def __init__(self, spec):
        self.types = {"object": cel.Type.DYN, "namespaceObject": cel.Type.DYN}
        self.variables = []
        for variable in spec["variables"]:
            name = "variables." + variable["name"]
            expression = self.compile(variable["expression"])
            self.types[name] = expression.return_type()
            self.variables.append((name, expression))
        (mutation,) = spec["mutations"]
        self.mutation = self.compile(mutation["jsonPatch"]["expression"])
        # Kubernetes takes this type exactly.
        assert self.mutation.return_type().name() == "LIST<JSONPatch>"

    def compile(self, expression):
        env = cel.NewEnv(descriptor_pool=POOL, variables=self.types, functions=[INDEX_OF, *QUANTITIES],
                         extensions=[ext_strings.ExtStrings()])
        return env.compile(expression.replace(".indexOf(", ".listIndexOf("))

    def mutate(self, pod, namespace):
        values = {"object": pod, "namespaceObject": namespace}
        for name, expression in self.variables:
            value = expression.eval(data=values)
            # Variables are evaluated when they are used; an error that nobody sees is none.
            if value.type() != cel.Type.ERROR:
                values[name] = value.plain_value()
        result = self.mutation.eval(data=values)
        assert result.type() != cel.Type.ERROR, result.value()
        operations = [json_format.MessageToDict(operation) for operation in result.plain_value()]
        return jsonpatch.apply_patch(pod, operations)


def whole(value):
    """Numbers came through google.protobuf.Value, which has doubles only."""
    if isinstance(value, dict):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def main():
    with open(os.environ["CASES"]) as file:
        cases = json.load(file)
    policy = Policy(cases["policy"]["spec"])
    namespace = {"metadata": {"labels": {"spillway.dev/inject": cases["namespace"]}}}
    print(json.dumps([whole(policy.mutate(pod, namespace)) for pod in cases["pods"]]))


main()
