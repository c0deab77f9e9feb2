"""Makes the SBOM of one build out of cargo-cyclonedx's, and compares it with what the program says.

sbom.py FROM CONTAINED BUILT TO [PROGRAM]: CONTAINED and BUILT are lists of `cargo tree`, without and
with what only the build needs.
"""

import hashlib
import json
import pathlib
import re
import struct
import sys
import zlib

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

# A list without these, or with those, is not the production program's.
ALWAYS = {"tonic", "rustls", "aws-lc-sys", "redis"}
NEVER = {"ccgateway-sim", "ccgateway-test-support", "rcgen", "uuid", "proptest"}

Crates = set[tuple[str, str]]


def fail(message: str) -> None:
    sys.exit(f"sbom: {message}")


def listed(file: str) -> Crates:
    lines = pathlib.Path(file).read_text().splitlines()
    return {(found[1], found[2]) for line in lines if (found := re.match(r"(\S+) v(\S+)", line))}


def prune(bom: dict, contained: Crates) -> None:
    """Leaves what is contained, named by its purl: the folder of the build is nobody's business."""
    root = bom["metadata"]["component"]
    root["purl"] = f"pkg:cargo/{root['name']}@{root['version']}"
    bom["components"] = [c for c in bom["components"] if (c["name"], c["version"]) in contained]
    refs = {}
    for component in [root, *bom["components"]]:
        refs[component["bom-ref"]] = component["purl"]
        component["bom-ref"] = component["purl"]
    bom["dependencies"] = [
        {"ref": refs[d["ref"]], "dependsOn": [refs[r] for r in d.get("dependsOn", []) if r in refs]}
        for d in bom["dependencies"]
        if d["ref"] in refs
    ]


def said_by(program: bytes) -> list[dict]:
    """What `cargo auditable` put into the section .dep-v0 of a 64-bit ELF file."""
    (table,) = struct.unpack_from("<Q", program, 40)
    size, count, names = struct.unpack_from("<HHH", program, 58)

    def section(index: int) -> tuple[int, int, int]:
        name, _, _, _, at, length = struct.unpack_from("<IIQQQQ", program, table + index * size)
        return name, at, length

    strings = section(names)[1]
    for name, at, length in map(section, range(count)):
        if program[strings + name :].startswith(b".dep-v0\0"):
            return json.loads(zlib.decompress(program[at : at + length]))["packages"]
    fail("the program has no section .dep-v0; cargo auditable build makes it")


def compare(bom: dict, metadata: Crates, built: Crates, program: str) -> None:
    content = pathlib.Path(program).read_bytes()
    digest = {"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}
    bom["metadata"]["component"]["hashes"] = [digest]
    packages = said_by(content)
    said = {(p["name"], p["version"]) for p in packages}
    # Both ask `cargo metadata`, so that any difference is another build's.
    if said != metadata:
        fail(f"the program was built of something else: {sorted(said ^ metadata)}")
    linked = {(p["name"], p["version"]) for p in packages if p.get("kind") != "build"}
    missing = {(c["name"], c["version"]) for c in bom["components"]} - linked
    if missing:
        fail(f"the program takes for parts of its build only: {sorted(missing)}")
    never_built = ", ".join(sorted(f"{name} {version}" for name, version in said - built))
    print(f"sbom: fits what the program says, which also names, though not built: {never_built}")


def main() -> None:
    source, contained, built, to, program = sys.argv[1:]
    bom = json.loads(pathlib.Path(source).read_text())
    root = bom["metadata"]["component"]
    itself = (root["name"], root["version"])
    metadata = {(c["name"], c["version"]) for c in bom["components"]} | {itself}
    prune(bom, listed(contained))
    found = {(c["name"], c["version"]) for c in bom["components"]} | {itself}
    if found != listed(contained):
        fail(f"cargo tree and cargo-cyclonedx disagree: {sorted(found ^ listed(contained))}")
    names = {name for name, _ in found}
    if not ALWAYS <= names or NEVER & names:
        fail(f"not the production program: lacks {ALWAYS - names}, has {NEVER & names}")
    if program:
        compare(bom, metadata, listed(built), program)
    text = json.dumps(bom, indent=2)
    if wrong := JsonStrictValidator(SchemaVersion.V1_5).validate_str(text):
        fail(f"not CycloneDX 1.5: {wrong}")
    pathlib.Path(to).write_text(text + "\n")
    print(f"sbom: {to} names {len(bom['components'])} crates")


if __name__ == "__main__":
    main()
