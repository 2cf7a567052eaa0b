"""Writes the API reference, as Markdown, from the server's OpenAPI document."""

import json
import sys

METHODS = ("get", "post", "put", "patch", "delete", "head", "options")


def resolve(document, node):
    while "$ref" in node:
        target = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def cell(text):
    return " ".join(str(text).split()).replace("|", "\\|")


def kind(schema):
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    name = schema.get("type", "any")
    if name == "array":
        name = "list of " + schema.get("items", {}).get("type", "any")
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        name += f", {low if low is not None else ''} to {high if high is not None else ''}"
    return name


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    print("# API reference\n")
    print("Made from [openapi.json](openapi.json) (OpenAPI 3.0), which a running server shows at `/api`.\n")
    for path, item in document["paths"].items():
        for method in METHODS:
            if method not in item:
                continue
            operation = item[method]
            print(f"## {method.upper()} {path.replace('{', '&#123;').replace('}', '&#125;')}\n")
            for field in ("summary", "description"):
                if operation.get(field):
                    print(operation[field].strip() + "\n")
            parameters = [resolve(document, p) for p in item.get("parameters", []) + operation.get("parameters", [])]
            if parameters:
                print("| parameter | in | type | |\n|---|---|---|---|")
                for p in parameters:
                    need = " (required)" if p.get("required") and p["in"] != "path" else ""
                    print(f"| `{p['name']}` | {p['in']}{need} | {cell(kind(resolve(document, p.get('schema', {}))))} | {cell(p.get('description', ''))} |")
                print()
            body = resolve(document, operation.get("requestBody", {})).get("content", {})
            if body:
                print("Body: " + ", ".join(f"`{name}`" for name in body) + "\n")
            print("| answer | |\n|---|---|")
            for code, response in operation["responses"].items():
                print(f"| {code} | {cell(resolve(document, response).get('description', ''))} |")
            print()


if __name__ == "__main__":
    main()
