#!/usr/bin/env python3
"""Copies what the crate declares from the WDK's numbers into this folder. See README.md."""

import json
import pathlib
import re
import sys

SPEC = pathlib.Path(sys.argv[1])
HERE = pathlib.Path(__file__).parent
SOURCE = HERE.parent.parent / "src"

text = "\n".join(path.read_text() for path in sorted(SOURCE.rglob("*.rs")))
words = set(re.findall(r"\w+", text))


def load(name):
    return json.loads((SPEC / f"{name}.json").read_text())


def store(name, value):
    text = ",\n".join(f"{json.dumps(key)}: {json.dumps(value[key])}" for key in sorted(value))
    (HERE / f"{name}.json").write_text("{\n" + text + "\n}\n")


layouts = load("layouts") | load("layouts-ndis630")
store("layouts", {name: value for name, value in layouts.items() if name in words})
for name in ["constants", "functions", "callbacks"]:
    store(name, {key: value for key, value in load(name).items() if key in words})
store("enums", {name: members for name, members in load("enums").items() if name in words})
store("exports", {module: sorted(words & set(names)) for module, names in load("exports").items()})
