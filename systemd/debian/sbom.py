"""What a private environment is made of, as CycloneDX: `python3 sbom.py WHEELS > sbom.cdx.json`.

Run by the environment's own Python, so it lists what is there, not what was asked for.
Each library with the checksum of the wheel it came from; what a wheel says that was
compiled into it (PEP 770) stands below it. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

Json = dict[str, Any]
PROGRAM = "gatewayd"


def document(wheels: Path) -> Json:
    """The whole bill of materials; the same environment makes the same text."""
    found = sorted(distributions(), key=normalised)
    components = {normalised(each): component(each, wheels) for each in found}
    program = components.pop(PROGRAM) | {"type": "application"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": program},
        "components": list(components.values()),
    }


def normalised(library: Distribution) -> str:
    """Its name as package indexes compare them (PEP 503)."""
    return re.sub(r"[-_.]+", "-", library.metadata["Name"]).lower()


def component(library: Distribution, wheels: Path) -> Json:
    """One library."""
    name = normalised(library)
    (wheel,) = wheels.glob(f"{name.replace('-', '_')}-{library.version}-*.whl")
    purl = f"pkg:pypi/{name}@{library.version}"
    made: Json = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": library.version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}],
    }
    if text := library.metadata["License-Expression"]:
        made["licenses"] = [{"expression": text}]
    elif text := library.metadata["License"]:
        made["licenses"] = [{"license": {"name": text.splitlines()[0].strip()}}]
    if inside := list(compiled_in(library, purl)):
        made["components"] = inside
    return made


def compiled_in(library: Distribution, owner: str) -> Iterator[Json]:
    """What the wheel's own bills name; references are made its own, for two may name the same."""
    directory = Path(str(library.locate_file("")))
    for number, path in enumerate(sorted(directory.glob(f"{info(library)}/sboms/*.json"))):
        for each in json.loads(path.read_text("utf-8")).get("components", ()):
            kept = {key: each[key] for key in ("type", "name", "version", "purl") if key in each}
            yield kept | {"bom-ref": f"{owner}#{number}-{each['name']}-{each.get('version', '')}"}


def info(library: Distribution) -> str:
    """The directory of its metadata."""
    return f"{library.metadata['Name'].replace('-', '_')}-{library.version}.dist-info"


if __name__ == "__main__":
    json.dump(document(Path(sys.argv[1])), sys.stdout, indent=1, sort_keys=True)
