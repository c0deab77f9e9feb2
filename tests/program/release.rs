//! What a release names in more than one place; see docs/releasing.md.

#[test]
fn images_and_manifests_are_of_the_programs_version() {
    let version = env!("CARGO_PKG_VERSION");
    let files = [
        (include_str!("../../deploy/Dockerfile"), "ARG VERSION="),
        (include_str!("../../deploy/overlays/dev/kustomization.yaml"), "newTag: "),
        (include_str!("../../deploy/overlays/prod/kustomization.yaml"), "newTag: "),
    ];
    for (text, before) in files {
        let named: Vec<_> =
            text.lines().filter_map(|line| line.trim().strip_prefix(before)).collect();
        assert!(!named.is_empty(), "{before} is nowhere");
        assert!(named.iter().all(|named| *named == version), "{before}{named:?}, not {version}");
    }
}
