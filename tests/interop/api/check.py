"""Whether an answer is as the OpenAPI document says."""

import json
import re

from jsonschema import Draft202012Validator, FormatChecker, RefResolver

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
METHODS = ("get", "put", "post", "delete")

formats = FormatChecker(formats=())


@formats.checks("date-time")
def is_moment(value):
    return not isinstance(value, str) or MOMENT.fullmatch(value) is not None


def events(text):
    """The server-sent events that are whole: the name, id and data of each."""
    for block in text.replace("\r\n", "\n").split("\n\n")[:-1]:
        fields = [line.partition(":") for line in block.split("\n")]
        one = {name: value.removeprefix(" ") for name, _, value in fields if name}
        if "data" in one:
            yield one.get("event", "message"), one.get("id"), one["data"]


class Document:
    """An OpenAPI 3.1 document whose references stay within it."""

    def __init__(self, text):
        self.root = json.loads(text)
        self.resolver = RefResolver.from_schema(self.root)
        self.seen = set()
        self.seen_events = set()

    def follow(self, part):
        while "$ref" in part:
            part = self.resolver.resolve(part["$ref"])[1]
        return part

    def operations(self):
        """Each method of each path: its name, method, path and description."""
        for path, item in self.root["paths"].items():
            for method in METHODS:
                if method in item:
                    yield item[method]["operationId"], method.upper(), path, item[method]

    def operation(self, name):
        return next((method, path, told) for id, method, path, told in self.operations() if id == name)

    def faults(self, name, status, kind, body):
        """What is wrong with an answer to an operation."""
        answers = self.operation(name)[2]["responses"]
        if str(status) not in answers:
            return [f"{status} is not told of"]
        answer = self.follow(answers[str(status)])
        self.seen.add((name, str(status)))
        content = answer.get("content")
        if content is None:
            return [f"a body, and none is told of: {body[:100]}"] if body else []
        kind = kind.split(";")[0].strip().lower()
        if kind not in content:
            return [f"Content-Type is {kind}, not one of {', '.join(content)}"]
        if "x-events" in content[kind]:
            return self.event_faults(content[kind]["x-events"], body)
        if kind != "application/json":
            return [] if body else ["no body"]
        return self.json_faults(content[kind]["schema"], body)

    def event_faults(self, schemas, body):
        faults = []
        for name, _, data in events(body):
            if name in schemas:
                self.seen_events.add(name)
                faults += [f"{name}: {fault}" for fault in self.json_faults(schemas[name], data)]
            else:
                faults.append(f"an event {name}, and none is told of")
        return faults

    def json_faults(self, schema, body):
        try:
            value = json.loads(body)
        except ValueError as error:
            return [f"no JSON: {error}"]
        checker = Draft202012Validator(schema, resolver=self.resolver, format_checker=formats)
        return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in checker.iter_errors(value)]

    def own_faults(self):
        """What is wrong with the document itself."""
        faults = []
        names = [name for name, *_ in self.operations()]
        faults += [f"two operations are called {name}" for name in set(names) if names.count(name) > 1]

        def walk(part, place):
            if isinstance(part, dict):
                if isinstance(part.get("$ref"), str):
                    try:
                        self.follow(part)
                    except Exception as error:
                        faults.append(f"{place}: {error}")
                if "properties" in part and "type" in part:
                    absent = set(part.get("required", ())) - set(part["properties"])
                    faults.extend(f"{place}: {name} is required, and is no property" for name in absent)
                    lacking = [key for key, one in part["properties"].items() if not {"description", "$ref", "const"} & set(one)]
                    faults.extend(f"{place}: {key} has no description" for key in lacking)
                for key, inner in part.items():
                    walk(inner, f"{place}/{key}")
            elif isinstance(part, list):
                for at, inner in enumerate(part):
                    walk(inner, f"{place}/{at}")

        walk(self.root, "")
        schemas = self.root["components"]["schemas"]
        for name, schema in schemas.items():
            # It has all of another, in the same words: `additionalProperties` leaves no shorter way to say so.
            base = schemas.get(schema.get("x-extends"), {})
            for key, told in base.get("properties", {}).items():
                if schema["properties"].get(key) != told or (key in base["required"]) != (key in schema["required"]):
                    faults.append(f"{name}: {key} differs from that of {schema['x-extends']}")
            if "x-extends" in schema and not base:
                faults.append(f"{name} extends {schema['x-extends']}, which there is not")
            faults += [f"{name}: {error.message}" for error in Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)]
        return faults
