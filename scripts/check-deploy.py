"""Checks one rendered overlay: check-deploy.py RENDERED BRIDGE KUBERNETES_VERSION...

That every object has the form that the given versions of Kubernetes want, that objects which name
each other fit, and that the bridge takes its configuration as the pod would show it to it.

check-deploy.py --schemas RENDERED KUBERNETES_VERSION... does the first only, for objects that need others.

For scripts/check-image, which starts the pod of an overlay:
check-deploy.py --files RENDERED FOLDER writes what the bridge's container would see into FOLDER, and
check-deploy.py --words RENDERED CONTAINER prints a container's environment and arguments, one a line.
"""

import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import yaml

# Kinds of others' operators, for which kubernetes-validate has no schema.
FOREIGN = {
    ("cert-manager.io/v1", "Certificate"),
    ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"),
    ("gateway.networking.k8s.io/v1", "GRPCRoute"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
}
CONTAINER = "bridge"
ROOT = Path(__file__).parent.parent
TEMPLATES = sorted((ROOT / "deploy").rglob("*-secret.example.yaml"))
CALLER = ROOT / "deploy/base/caller-certificate.example.yaml"
ROUTE = ROOT / "deploy/base/grpc-route.example.yaml"
# What the bridge should have in reserve before it is killed, seconds.
RESERVE = 5
# What docs/running/capacity.md reckons with, MiB: the process and rude callers; the events of a tenant, and
# with Redis those that wait for it; a kept session. And how many sessions a tenant may have by default.
PROCESS, EVENTS, SESSION, SESSIONS = 40 + 64, 8, 45 / 1024, 10000


class Overlay:
    """The objects of an overlay, and what is found wrong with them."""

    def __init__(self, path):
        self.name = path.stem
        self.objects = [o for o in yaml.safe_load_all(path.read_text()) if o]
        self.problems = []
        self.deployment = self.only("Deployment")
        self.pod = self.deployment["spec"]["template"]
        self.bridge = self.container(CONTAINER)

    def of(self, kind):
        return [o for o in self.objects if o["kind"] == kind]

    def only(self, kind):
        found = self.of(kind)
        if len(found) != 1:
            sys.exit(f"{self.name}: {len(found)} objects of kind {kind}, not one")
        return found[0]

    def container(self, name):
        spec = self.pod["spec"]
        containers = spec["containers"] + spec.get("initContainers", [])
        return next(c for c in containers if c["name"] == name)

    def configs(self):
        """What the bridge reads; other ConfigMaps have something else."""
        texts = [m["data"].get("bridge.toml") for m in self.of("ConfigMap")]
        return [tomllib.loads(text) for text in texts if text is not None]

    def want(self, holds, problem):
        if not holds:
            self.problems.append(problem)

    def ports(self):
        return {p["name"]: p["containerPort"] for p in self.bridge["ports"]}


def check_schemas(overlay, versions):
    # Only here, so that laying out needs nothing but YAML.
    import kubernetes_validate

    for version in versions:
        for each in [*overlay.objects, *templates()]:
            name = f"{each['kind']} {each['metadata']['name']}"
            if (each["apiVersion"], each["kind"]) in FOREIGN:
                continue
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(str(part) for part in error.path)
                overlay.problems.append(f"{name}: Kubernetes {version}: {where}: {error.message}")
            except kubernetes_validate.SchemaNotFoundError:
                overlay.problems.append(f"{name}: Kubernetes {version} knows no such kind")


def templates():
    """The Secrets that an operator makes; no overlay has them."""
    return [yaml.safe_load(path.read_text()) for path in TEMPLATES]


def check_references(overlay):
    """Objects find each other by labels and names, and nothing complains where they do not."""
    labels = overlay.pod["metadata"]["labels"]
    ports = overlay.ports()
    want = overlay.want

    def selects(what, selector):
        matches = selector.get("matchLabels", {})
        want(matches and not selector.get("matchExpressions"), f"{what} selects everything")
        want(matches.items() <= labels.items(), f"{what} does not select the bridge's pods")

    selects("the Deployment", overlay.deployment["spec"]["selector"])
    selects("the Service", {"matchLabels": overlay.only("Service")["spec"]["selector"]})
    selects("the PodDisruptionBudget", overlay.only("PodDisruptionBudget")["spec"]["selector"])
    policy = overlay.only("NetworkPolicy")["spec"]
    selects("the NetworkPolicy", policy["podSelector"])
    check_peers(overlay, policy)
    if overlay.of("Certificate"):
        image = overlay.bridge["image"]
        want("@sha256:" in image, f"{image} is a tag, which can be moved to another image")
    for spread in overlay.pod["spec"]["topologySpreadConstraints"]:
        selects("a topology spread constraint", spread["labelSelector"])

    named = [port["targetPort"] for port in overlay.only("Service")["spec"]["ports"]]
    named += [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    for monitor in overlay.of("PodMonitor"):
        selects("the PodMonitor", monitor["spec"]["selector"])
        named += [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        want(overlay.bridge[kind]["httpGet"]["port"] == "admin", f"the {kind} is not on port admin")
    known = set()
    for each in overlay.bridge.get("env", []):
        # Kubernetes leaves $(NAME) as it stands where NAME comes later.
        unknown = set(re.findall(r"\$\((\w+)\)", each.get("value", ""))) - known
        want(not unknown, f"{each['name']} has the value of {unknown}, which are not there before it")
        known.add(each["name"])
    for port in named:
        want(port in ports, f"the bridge's container has no port {port}")

    classes = [c["metadata"]["name"] for c in overlay.of("PriorityClass")]
    priority = overlay.pod["spec"].get("priorityClassName")
    want(classes in ([], [priority]), f"the pod's priority class is {priority}, not {classes}")
    name = overlay.deployment["metadata"]["name"]
    for rules in overlay.of("PrometheusRule"):
        want(f'deployment="{name}"' in str(rules), "the alerts are about another Deployment")
    for scaler in overlay.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        want((target["kind"], target["name"]) == ("Deployment", name), "the HPA scales nothing")
        want("replicas" not in overlay.deployment["spec"], "the Deployment and the HPA both decide")
    account = overlay.only("ServiceAccount")["metadata"]["name"]
    want(overlay.pod["spec"]["serviceAccountName"] == account, "the pod's account is another one")
    service = overlay.only("Service")["metadata"]
    for certificate in overlay.of("Certificate"):
        host = f"{service['name']}.{service['namespace']}.svc"
        want(host in certificate["spec"]["dnsNames"], f"the Certificate is not for {host}")


def check_peers(overlay, policy):
    """Whom the policy lets in, and where it lets the bridge go: pods by namespace and label, or addresses."""
    peers = [("from", peer) for rule in policy["ingress"] for peer in rule.get("from", [{}])]
    peers += [("to", peer) for rule in policy["egress"] for peer in rule.get("to", [{}])]
    for way, peer in peers:
        named = peer.get("podSelector", {}).get("matchLabels")
        everywhere = peer.get("namespaceSelector") == {}
        good = (named and not everywhere) or (way == "to" and "ipBlock" in peer)
        overlay.want(good, f"the NetworkPolicy has no namespace and label in {way}: {peer}")


def check_callers(overlay):
    """The caller whose certificate is the example is let in where callers need one."""
    caller = yaml.safe_load(CALLER.read_text())["spec"]
    for config in overlay.configs():
        listeners = config.get("listeners", {}).values()
        if not any(l.get("tls", {}).get("client_ca_file") for l in listeners):
            continue
        issuers = [c["spec"]["issuerRef"] for c in overlay.of("Certificate")]
        overlay.want(caller["issuerRef"] in issuers, f"{CALLER.name} has another issuer")
        known = [p for rule in config["callers"].values() for p in rule["principals"]]
        matches = [uri for uri in caller["uris"] for p in known if is_about(p, uri)]
        overlay.want(matches, f"no rule is about the caller of {CALLER.name}")
        overlay.want("client auth" in caller["usages"], f"{CALLER.name} is for no client")


def check_routes(overlay):
    """The example of a route, and those that there are, lead to the bridge and to services that it has."""
    service = overlay.only("Service")
    certificates = [c["spec"]["dnsNames"] for c in overlay.of("Certificate")]
    # The example is for a bridge with TLS.
    example = list(yaml.safe_load_all(ROUTE.read_text())) if certificates else []
    for each in [*overlay.objects, *example]:
        name = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] == "GRPCRoute":
            rules = each["spec"]["rules"]
            backends = {(b["name"], b["port"]) for rule in rules for b in rule["backendRefs"]}
            bridge = {(service["metadata"]["name"], p["port"]) for p in service["spec"]["ports"]}
            overlay.want(backends <= bridge, f"{name} leads to {backends}, not to {bridge}")
            asked = {m["method"]["service"] for rule in rules for m in rule["matches"]}
            overlay.want(asked == services(), f"{name} is for {asked}, not for {services()}")
        if each["kind"] == "BackendTLSPolicy":
            targets = [target["name"] for target in each["spec"]["targetRefs"]]
            overlay.want(targets == [service["metadata"]["name"]], f"{name} is for {targets}")
            host = each["spec"]["validation"]["hostname"]
            overlay.want(any(host in names for names in certificates), f"no Certificate is for {host}")


def services():
    """Those of the contract, and that of health."""
    named = {"grpc.health.v1.Health"}
    for path in (ROOT / "proto/ccgateway").rglob("*.proto"):
        text = path.read_text()
        package = re.search(r"^package ([\w.]+);", text, re.MULTILINE)[1]
        named |= {f"{package}.{s}" for s in re.findall(r"^service (\w+)", text, re.MULTILINE)}
    return named


def check_call_in_pod(overlay):
    """`ccgateway-bridge call` in the pod reaches the bridge without a certificate, and changes nothing."""
    want = overlay.want
    address = environment(overlay.bridge).get("CCGW_CALL_ADDR", "127.0.0.1:50051")
    for config in overlay.configs():
        listeners = config.get("listeners", {"default": {}}).values()
        plain = [l.get("address", "[::]:50051") for l in listeners if "tls" not in l]
        port = address.rpartition(":")[2]
        want(address in plain or f"[::]:{port}" in plain, f"CCGW_CALL_ADDR: {address} needs a certificate")
        if "callers" not in config:
            continue
        rules = [r for r in config["callers"].values() if "anonymous" in r["principals"]]
        want(rules, f"{address}: no rule is about whoever calls in the pod")
        want(all(r["rights"] == ["read"] for r in rules), f"{address}: whoever is in the pod may change agents")
        want(address.startswith("127.0.0.1:"), f"{address}: others reach where no certificate is asked for")


def is_about(principal, uri):
    # A final "/*" is everything below.
    below = principal.endswith("/*") and uri.startswith(principal[:-1])
    return below or principal == uri


def check_session_file(overlay):
    """A file of sessions is one pod's, on a volume that outlives it."""
    files = [config.get("store", {}).get("file") for config in overlay.configs()]
    claims = {c["metadata"]["name"]: c["spec"] for c in overlay.of("PersistentVolumeClaim")}
    overlay.want(bool(claims) == any(files), "a volume without a file of sessions, or the reverse")
    for file in filter(None, files):
        spec, want = overlay.deployment["spec"], overlay.want
        want(spec.get("replicas") == 1, f"{file} is for one replica")
        want(not overlay.of("HorizontalPodAutoscaler"), f"{file} is for one replica, with no HPA")
        want(spec["strategy"] == {"type": "Recreate"}, f"{file} is open twice during a rollout")
        mounts = [m for m in overlay.bridge["volumeMounts"] if m["mountPath"] == str(Path(file).parent)]
        want(len(mounts) == 1 and not mounts[0].get("readOnly"), f"{file} is on no volume")
        volumes = {v["name"]: v for v in overlay.pod["spec"]["volumes"]}
        for mount in mounts:
            claim = volumes[mount["name"]].get("persistentVolumeClaim", {}).get("claimName")
            want(claim in claims, f"{file} is on a volume that goes with its pod")
            modes = claims.get(claim, {}).get("accessModes", [])
            want(modes in (["ReadWriteOncePod"], ["ReadWriteOnce"]), f"{file}: any pod can have it")


def check_stop(overlay):
    """The bridge must be done before Kubernetes kills it."""
    env = environment(overlay.bridge)
    delay, timeout = (env.get(f"CCGW__SERVER__DRAIN__{part}") for part in ("DELAY", "TIMEOUT"))
    if not delay or not timeout:
        overlay.problems.append("the drain's delay and timeout are not both in the environment")
        return ""
    grace = overlay.pod["spec"]["terminationGracePeriodSeconds"]
    hook = overlay.bridge.get("lifecycle", {}).get("preStop")
    overlay.want(not hook, "there is a preStop hook; its time is not in the sum")
    total = seconds(delay) + seconds(timeout)
    overlay.want(
        total + RESERVE <= grace,
        f"delay {delay} and timeout {timeout} leave less than {RESERVE} s of {grace} s",
    )
    return f"stops within {total:g} s of {grace} s"


def check_memory(overlay):
    """One replica bears all sessions that there may be: for a while the others may be away."""
    resources = overlay.bridge["resources"]
    asked, limit = (mebibytes(resources[part]["memory"]) for part in ("requests", "limits"))
    overlay.want(asked == limit, f"a full node kills the bridge: it asks for {asked} of {limit} MiB")
    for config in overlay.configs():
        tenants = config["tenants"].values()
        sessions = sum(t.get("limits", {}).get("sessions", SESSIONS) for t in tenants)
        events = EVENTS * len(tenants) * (2 if "urls" in config.get("store", {}) else 1)
        total = PROCESS + events + sessions * SESSION
        overlay.want(
            total <= limit,
            f"{sessions} sessions of {len(tenants)} tenants may take {total:.0f} MiB, which is more"
            f" than {limit} MiB: raise the limit, or lower limits.sessions",
        )


def mebibytes(text):
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def seconds(text):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    parts = re.findall(r"(\d+)\s*(ms|s|m|h)", text)
    return sum(int(number) * units[unit] for number, unit in parts)


def environment(container):
    return {e["name"]: e["value"] for e in container.get("env", []) if "value" in e}


def lay_out(overlay, folder):
    """Writes what is mounted into the bridge's container; what is not known gets a stand-in."""
    volumes = {v["name"]: v for v in overlay.pod["spec"]["volumes"]}
    stand_in = StandIn()
    config = None
    for mount in overlay.bridge["volumeMounts"]:
        target = folder / mount["mountPath"].lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        volume = volumes[mount["name"]]
        for source in volume.get("projected", {}).get("sources", []):
            for path, content in project(overlay, source, stand_in):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).write_text(content)
                if path == "bridge.toml":
                    config = target / path
    # Folders that another container fills while the pod runs.
    for mount in overlay.bridge["volumeMounts"]:
        if "emptyDir" in volumes[mount["name"]]:
            inside = rf'"{mount["mountPath"]}/([^"/]+)"'
            for name in re.findall(inside, config.read_text()):
                path = folder / mount["mountPath"].lstrip("/") / name
                path.write_text(stand_in.for_key(name))
    return config


def project(overlay, source, stand_in):
    """The files of one source of a projected volume, as paths and contents."""
    if "serviceAccountToken" in source:
        # Made by the kubelet; what is in it, only the API server knows.
        yield source["serviceAccountToken"]["path"], secrets.token_urlsafe(16)
        return
    if "configMap" in source:
        maps = {m["metadata"]["name"]: m["data"] for m in overlay.of("ConfigMap")}
        # The cluster puts this one into every namespace.
        maps["kube-root-ca.crt"] = {"ca.crt": stand_in.certificate}
        data = maps.get(source["configMap"]["name"], {})
        items = source["configMap"]["items"]
    else:
        data = secret(overlay, source["secret"]["name"], stand_in)
        items = source["secret"]["items"]
    for item in items:
        known = item["key"] in data
        overlay.want(known, f"{item['path']}: {item['key']} is in no object that is known here")
        if known:
            yield item["path"], data[item["key"]]


def secret(overlay, name, stand_in):
    """A Secret as whoever makes it would: cert-manager, or an operator by the template."""
    if any(name == c["spec"]["secretName"] for c in overlay.of("Certificate")):
        return {key: stand_in.for_key(key) for key in ("tls.crt", "tls.key", "ca.crt")}
    made = [each["stringData"] for each in templates() if each["metadata"]["name"] == name]
    return {
        key: stand_in.for_placeholder(content)
        for data in made
        for key, content in data.items()
    }


class StandIn:
    """A certificate and its key, for those that are nobody's business here."""

    def __init__(self):
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
        command += " -subj /CN=stand-in -keyout - -out -"
        made = subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout
        at = made.index("-----BEGIN CERTIFICATE")
        self.key, self.certificate = made[:at], made[at:]

    def for_placeholder(self, content):
        """What an operator puts there. A placeholder that the bridge would take is none."""
        if "BEGIN CERTIFICATE" in content:
            return self.certificate
        if not content:
            return secrets.token_urlsafe(16)
        content = re.sub(r"^\(64 hex digits.*\)$", secrets.token_hex(32), content)
        return re.sub(r"\(.* in quotes\)", '"secret"', content)

    def for_key(self, key):
        return self.key if key.endswith(".key") else self.certificate


def check_config(overlay, bridge):
    """Asks the bridge itself, with the container's arguments and environment."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = lay_out(overlay, folder)
        if config is None:
            overlay.problems.append("no bridge.toml is mounted into the bridge's container")
            return
        # Absolute paths mean the container's own root.
        for mount in overlay.bridge["volumeMounts"]:
            text = config.read_text()
            config.write_text(text.replace(f'"{mount["mountPath"]}/', f'"{folder}{mount["mountPath"]}/'))
        arguments = [
            f"{folder}{a}" if a.startswith("/") else a for a in overlay.bridge["args"]
        ]
        ran = subprocess.run(
            [bridge, "check-config", *arguments],
            env=environment(overlay.bridge),
            capture_output=True,
            text=True,
            check=False,
        )
        said = (ran.stdout + ran.stderr).replace(scratch, "")
    overlay.want(ran.returncode == 0, f"check-config: {said}")
    ports = overlay.ports()
    for name, port in ports.items():
        listens = re.search(rf" (0\.0\.0\.0|\[::\]):{port}\b", said)
        overlay.want(listens or ran.returncode, f"nothing listens on the port {name}, {port}")
    with_tls = re.search(r"gRPC on \S+, with TLS", said) is not None
    protocol = "https" if with_tls else "kubernetes.io/h2c"
    for port in overlay.only("Service")["spec"]["ports"]:
        told = port.get("appProtocol")
        overlay.want(told == protocol or ran.returncode, f"the Service's appProtocol is {told}, not {protocol}")
    overlay.want(
        with_tls == bool(overlay.of("Certificate")) or ran.returncode,
        "there is a Certificate that is not used, or TLS without one",
    )


def words(container):
    variables = [f"{name}={value}" for name, value in environment(container).items()]
    return [*variables, *container.get("args", [])]


def main():
    if sys.argv[1] in ("--files", "--words"):
        overlay = Overlay(Path(sys.argv[2]))
        if sys.argv[1] == "--files":
            lay_out(overlay, Path(sys.argv[3]))
        else:
            print("\n".join(words(overlay.container(sys.argv[3]))))
        return
    if sys.argv[1] == "--schemas":
        rendered, *versions = sys.argv[2:]
        overlay = Overlay(Path(rendered))
        check_schemas(overlay, versions)
        report(overlay, versions, "its parts are not compared")
        return
    rendered, bridge, *versions = sys.argv[1:]
    overlay = Overlay(Path(rendered))
    check_schemas(overlay, versions)
    check_references(overlay)
    check_callers(overlay)
    check_routes(overlay)
    check_call_in_pod(overlay)
    check_session_file(overlay)
    check_memory(overlay)
    stop = check_stop(overlay)
    check_config(overlay, shutil.which(bridge))
    report(overlay, versions, f"check-config is content; {stop}")


def report(overlay, versions, more):
    for problem in overlay.problems:
        print(f"{overlay.name}: {problem}", file=sys.stderr)
    if overlay.problems:
        sys.exit(1)
    foreign = [o["kind"] for o in overlay.objects if (o["apiVersion"], o["kind"]) in FOREIGN]
    unchecked = f"; {' and '.join(foreign)} by no schema" if foreign else ""
    print(
        f"{overlay.name}: {len(overlay.objects)} objects are good for Kubernetes"
        f" {' and '.join(versions)}{unchecked}; {more}"
    )


if __name__ == "__main__":
    main()
