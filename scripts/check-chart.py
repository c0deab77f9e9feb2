"""Checks the Helm chart: check-chart.py CHART KUSTOMIZED FOLDER

That Helm's own lint is content; that it renders each way to install it, and does the same objects then as
Kustomize has in KUSTOMIZED/NAME.yaml; that each value makes a difference, and is in the schema; and that mistakes
are refused, by words that name the value. What it renders is in FOLDER/chart-NAME.yaml, and of the files in ci/
in FOLDER/option-NAME.yaml, or in FOLDER/part-NAME.yaml where others make a part of what check-deploy.py wants to see.
"""

import copy
import re
import sys
import tomllib
from pathlib import Path

import helm_python as helm
import yaml

RELEASE, NAMESPACE = "ccgateway-bridge", "ccgateway"
DIGEST = "sha256:" + "0" * 64
# What an overlay has in the place of a digest, and so have the examples.
PLACEHOLDER = "sha256:THE-DIGEST-OF-YOUR-IMAGE"
# The overlay, the files of values in the chart that do the same, and what one would set besides.
SAME = {
    "dev": (["examples/dev.yaml"], {}),
    "single": (["examples/single.yaml"], {}),
    "prod": (["examples/prod.yaml"], {}),
    "prod-with-traces": (["examples/prod.yaml"], {"traces": {"enabled": True}}),
    "single-with-dashboard": (["examples/single.yaml"], {"dashboard": {"enabled": True}}),
    "single-with-tokens": (["examples/single.yaml", "examples/service-account-tokens.yaml"], {}),
}
PARTS = {"by-hand", "existing-claim"}
NAMESPACES = {"dev": "ccgateway-dev"}
# Labels that Helm's users expect, and Kustomize's do not.
OF_HELM = {
    "helm.sh/chart",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
}
GOOD = ["examples/single.yaml"]
# What is added to a good file, and the words of the refusal.
REFUSED = [
    ({"replicas": 3}, "replicas"),
    ({"image": {"digest": "latest"}}, "/image/digest"),
    ({"image": {"digest": PLACEHOLDER}}, "/image/digest"),
    ({"image": {"version": "1"}}, "version"),
    ({"config": {"tenant": {}}}, "tenant"),
    ({"config": {"tenants": {"acme": {"limits": {"sessions": "many"}}}}}, "/sessions"),
    ({"config": {"tenants": {"Acme": {"base_urls": ["https://a.example"]}}}}, "Acme"),
    ({"config": {"tenants": {"other": {}}}}, "base_urls"),
    ({"config": {"listeners": {"default": {"address": "[::]:443"}}}}, "/address"),
    ({"config": {"listeners": {"pod": {"address": "[::]:50052"}}}}, "/address"),
    ({"config": {"admin": {"address": "off"}}}, "/address"),
    ({"config": {"store": {"file": "/tmp/sessions.redb"}}}, "/config/store/file"),
    ({"store": {"kind": "postgres"}}, "/store/kind"),
    ({"store": {"volume": {"accessMode": "ReadWriteMany"}}}, "/accessMode"),
    ({"replicaCount": 0}, "/replicaCount"),
    ({"replicaCount": "3"}, "/replicaCount"),
    ({"tls": {"mode": "on"}}, "/tls/mode"),
    ({"tls": {"duration": "90 days"}}, "/tls/duration"),
    ({"drain": {"timeoutSeconds": "20s"}}, "/timeoutSeconds"),
    ({"drain": {"reserveSeconds": 0}}, "/reserveSeconds"),
    ({"resources": {"limits": {"memory": "much"}}}, "/memory"),
    ({"secrets": {"server-tls": "mine"}}, "server-tls"),
    ({"networkPolicy": {"dns": [{"too": []}]}}, "too"),
    ({"networkPolicy": {"gateways": {"ports": ["8043"]}}}, "/ports"),
    ({"podMonitor": {"enabled": "yes"}}, "/enabled"),
    ({"prometheusRule": {"runbookUrl": "https://git.example"}}, "/runbookUrl"),
    # What the schema cannot tell.
    ({"config": {"server": {"drain": {"timeout": "1m"}}}}, "drain.timeoutSeconds"),
    ({"config": {"tenants": {"acme": {"credentials_file": "a.toml"}}}}, "FOLDER/KEY"),
    ({"config": {"tenants": {"acme": {"credentials_file": "vault/a.toml"}}}}, "vault is in neither"),
    ({"config": {"store": {"urls": ["redis://a.example"]}}}, "config.store.urls"),
    ({"replicaCount": 2}, "store.kind"),
    ({"autoscaling": {"enabled": True}}, "store.kind"),
    ({"store": {"kind": "redis"}}, "config.store.urls"),
    ({"tls": {"issuerRef": {"name": ""}}}, "tls.issuerRef.name"),
    ({"grpcRoute": {"enabled": True}}, "grpcRoute.parentRefs"),
    ({"grpcRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}}, "tls.clientCertificates"),
]


class Chart:
    """The chart as a package, which is what others get of it, and what is found wrong."""

    def __init__(self, path, folder):
        self.path, self.folder = path, folder
        self.archive = helm.package(path, destination=folder)
        self.chart = helm.Chart.load(self.archive)
        self.problems = []
        self.defaults = yaml.safe_load((path / "values.yaml").read_text())

    def want(self, holds, problem):
        if not holds:
            self.problems.append(problem)

    def values(self, files, more):
        values = {}
        for file in files:
            merge(values, yaml.safe_load((self.path / file).read_text()))
        merge(values, more)
        image = values.get("image", {})
        if image.get("digest") == PLACEHOLDER and "image" not in more:
            image["digest"] = DIGEST
        return values

    def render(self, values, name=RELEASE, namespace=NAMESPACE):
        """The text of each template, or what Helm says is wrong."""
        try:
            self.chart.validate_schema(values)
            return self.chart.render(values, name=name, namespace=namespace), None
        except helm.HelmError as error:
            return {}, str(error)


def merge(values, more):
    """As Helm does with several files: maps are joined, and all else is replaced."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            merge(values[key], value)
        else:
            values[key] = copy.deepcopy(value)


def objects(rendered):
    manifests = [text for name, text in rendered.items() if not name.endswith("NOTES.txt")]
    return [each for text in manifests for each in yaml.safe_load_all(text) if each]


def check_lint(chart, what, values):
    """Helm's own, where a warning is a mistake too."""
    namespace = NAMESPACES.get(what, NAMESPACE)
    for said in helm.lint(chart.archive, values, strict=True, namespace=namespace)["messages"]:
        harmless = said["error"] == "icon is recommended"
        chart.want(harmless, f"{what}: lint: {said['path']}: {said['error']}")


def check_same(chart, what, rendered, kustomized):
    """The objects of the overlay, and no others; what differs is named by its place."""
    ours, theirs = normal(objects(rendered)), normal(yaml.safe_load_all(kustomized.read_text()))
    # Helm makes the namespace by itself, if it is told to.
    theirs = {name: each for name, each in theirs.items() if not name.startswith("Namespace ")}
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs:
            chart.problems.append(f"{what}: {name} is in the chart, and not in the overlay")
        elif name not in ours:
            chart.problems.append(f"{what}: {name} is in the overlay, and not in the chart")
        else:
            for place, one, other in differences(ours[name], theirs[name], ""):
                chart.problems.append(
                    f"{what}: {name}: {place}: the chart has {one}, the overlay {other}"
                )
    return len(theirs)


def normal(found):
    """By kind and name, without what may differ."""
    found = [each for each in found if each]
    named = {}
    for each in found:
        if each["kind"] == "ConfigMap" and "bridge.toml" in each["data"]:
            # The name ends with the hash of a text, and these are not written in the same way.
            named[each["metadata"]["name"]] = "(the bridge's)"
            each["data"]["bridge.toml"] = tomllib.loads(each["data"]["bridge.toml"])
    found = [simplified(each, named) for each in found]
    return {f"{each['kind']} {each['metadata']['name']}": each for each in found}


def simplified(value, named):
    if isinstance(value, dict):
        kept = {k: simplified(v, named) for k, v in value.items() if k not in OF_HELM}
        if "annotations" in kept:
            of_helm = [k for k in kept["annotations"] if k.startswith("helm.sh/")]
            for key in of_helm:
                del kept["annotations"][key]
        return {k: v for k, v in kept.items() if v != {} or k not in ("annotations", "labels")}
    if isinstance(value, list):
        items = [simplified(each, named) for each in value]
        return sorted(items, key=order)
    if isinstance(value, str):
        value = value.replace(PLACEHOLDER, DIGEST)
    return named.get(value, value) if isinstance(value, str) else value


def order(item):
    """Lists whose order says nothing: those of named things, of files and of rules."""
    for key in ("name", "key", "path"):
        if isinstance(item, dict) and key in item:
            return str(item[key])
    return yaml.safe_dump(item) if isinstance(item, dict) else ""


def differences(one, other, place):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys(), key=str):
            missing = "nothing"
            yield from differences(one.get(key, missing), other.get(key, missing), f"{place}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (this, that) in enumerate(zip(one, other)):
            yield from differences(this, that, f"{place}[{number}]")
    elif one != other:
        yield place.lstrip("."), one, other


def check_options(chart, files):
    """Each value is set somewhere to another one than by default, and makes a difference there."""
    unset = {".".join(path) for path in leaves(chart.defaults, ())}
    useless = {}
    for file in files:
        values = chart.values([file], {})
        name = "every" if "fullnameOverride" in values else RELEASE
        before, wrong = chart.render(values, name)
        if wrong:
            continue
        for path in leaves(chart.defaults, ()):
            there, value = at(values, path)
            dotted = ".".join(path)
            if not there or value == at(chart.defaults, path)[1]:
                continue
            unset.discard(dotted)
            changed = copy.deepcopy(values)
            del at(changed, path[:-1])[1][path[-1]]
            if chart.render(changed, name)[0] == before:
                useless.setdefault(dotted, []).append(file)
    for path in sorted(unset):
        chart.problems.append(f"values.yaml: {path}: no file in examples/ or ci/ sets it to anything else")
    for path, where in sorted(useless.items()):
        chart.problems.append(f"{', '.join(where)}: {path}: makes no difference")


def leaves(values, path):
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def at(values, path):
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False, None
        values = values[key]
    return True, values


def check_schema(chart):
    """It has the values of values.yaml and no others."""
    schema = chart.chart.schema

    def properties(node):
        while "$ref" in node:
            node = schema["definitions"][node["$ref"].rsplit("/", 1)[-1]]
        return node.get("properties") if node.get("additionalProperties") is False else None

    def compare(node, values, place):
        known = properties(node)
        if known is None:
            # A map of the user's own.
            return
        given = values if isinstance(values, dict) else {}
        for key in sorted(given.keys() - known.keys()):
            chart.problems.append(f"values.schema.json: {place}{key} of values.yaml is not there")
        for key in sorted(known.keys() - given.keys() - {"global"}):
            chart.problems.append(f"values.yaml: {place}{key} of values.schema.json is not there")
        for key in known.keys() & given.keys():
            if place + key != "config":
                compare(known[key], given[key], f"{place}{key}.")

    compare(schema, chart.defaults, "")


def check_refusals(chart):
    wrong = chart.render({})[1]
    chart.want(wrong and "config.tenants" in wrong, f"no values: this is not refused as it should: {wrong}")
    values = chart.values(GOOD, {})
    # What one file says of a map, another cannot take away.
    del values["config"]["callers"]
    wrong = chart.render(values)[1]
    chart.want(wrong and "config.callers" in wrong, f"no callers: this is not refused as it should: {wrong}")
    for more, words in REFUSED:
        wrong = chart.render(chart.values(GOOD, more))[1]
        chart.want(wrong, f"{more} is not refused")
        chart.want(not wrong or words in wrong, f"{more}: {words!r} is not in the refusal: {wrong}")


def check_two_releases(chart):
    """Two of them are in one cluster, even in one namespace, and share nothing."""
    values = chart.values(GOOD, {"dashboard": {"enabled": True}})
    names = ("one", "two")
    made = {name: objects(chart.render(values, name)[0]) for name in names}
    one, two = ({(o["kind"], o["metadata"]["name"]) for o in made[name]} for name in names)
    chart.want(one and not one & two, f"releases of two names share {one & two}")
    for name, found in made.items():
        for each in found:
            if each["kind"] == "PrometheusRule":
                asked = set(re.findall(r'deployment="(.*?)"', str(each)))
                mine = {f"{name}-ccgateway-bridge"}
                chart.want(asked == mine, f"the alerts of {mine} are about {asked}")


def check_links(chart, source):
    """What is linked into the chart is in its package, as it is."""
    packed = {each["name"]: each["data"] for each in chart.chart.files}
    for link in sorted(source.glob("files/*")):
        name = f"files/{link.name}"
        chart.want(link.is_symlink(), f"{name} is a copy, which nobody keeps up to date")
        chart.want(packed.get(name) == link.read_text(), f"{name} is not in the package as it is")


def write(folder, kind, what, rendered):
    texts = [text for name, text in rendered.items() if not name.endswith("NOTES.txt")]
    (folder / f"{kind}-{what}.yaml").write_text("\n---\n".join(texts))


def main():
    source, kustomized, folder = map(Path, sys.argv[1:])
    chart = Chart(source, folder)
    check_links(chart, source)
    check_schema(chart)
    compared = 0
    for what, (files, more) in SAME.items():
        values = chart.values(files, more)
        check_lint(chart, what, values)
        rendered, wrong = chart.render(values, namespace=NAMESPACES.get(what, NAMESPACE))
        chart.want(not wrong, f"{what}: cannot be rendered: {wrong}")
        if not wrong:
            write(folder, "chart", what, rendered)
            compared += check_same(chart, what, rendered, kustomized / f"{what}.yaml")
    for file in sorted(source.glob("ci/*.yaml")):
        values = chart.values([file.relative_to(source)], {})
        check_lint(chart, file.stem, values)
        name = "every" if "fullnameOverride" in values else RELEASE
        rendered, wrong = chart.render(values, name)
        chart.want(not wrong, f"ci/{file.name}: cannot be rendered: {wrong}")
        write(folder, "part" if file.stem in PARTS else "option", file.stem, rendered)
    files = [f.relative_to(source) for part in ("examples", "ci") for f in sorted(source.glob(f"{part}/*"))]
    check_options(chart, [str(file) for file in files])
    check_refusals(chart)
    check_two_releases(chart)
    for problem in chart.problems:
        print(f"chart: {problem}", file=sys.stderr)
    if chart.problems:
        sys.exit(1)
    print(
        f"chart: Helm {helm.helm_sdk_version()} lints and renders it in {len(SAME)} ways, with the {compared}"
        f" objects of the overlays; {len(REFUSED) + 2} mistakes are refused"
    )


if __name__ == "__main__":
    main()
