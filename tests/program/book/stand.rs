//! What a page's commands need: a running demo, a folder, and programs on the PATH.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use ccgateway_test_support::python;
use tempfile::TempDir;
use tokio::process::Child;

use super::{
    documents::{root, tracked},
    ports::Ports,
    shell::Shell,
};
use crate::{
    demo::{FREE, demo, stop, with_path},
    grpcurl::tool,
    support::simulator,
};

/// A demo with everything around it, for one page.
pub(super) struct Stand {
    pub(super) ports: Ports,
    pub(super) shell: Shell,
    demo: Child,
    /// The programs, and the contract's modules for Python.
    _tools: TempDir,
    _folder: TempDir,
}

/// What readers have in the folder of their clone; a copy, since commands may change it.
const OF_A_CLONE: [&str; 5] = ["deploy", "docs", "examples", "proto", "scripts"];

/// Programs that reach beyond this machine or build for minutes, and some that the tests do not need. A
/// block with one of them has a mark, and one that lacks it must not reach anything.
const KEPT_OUT: [&str; 13] = [
    "apt-get", "buf", "cargo", "docker", "git", "go", "helm", "jq", "kind", "kubectl", "npm",
    "pip", "sudo",
];

impl Stand {
    pub(super) async fn set_up() -> Self {
        let (demo, printed) = demo(&FREE).await;
        let after = |words: &str| {
            let rest = printed.split(words).nth(1).unwrap_or_else(|| panic!("{words}: {printed}"));
            let address = rest.split(['/', ' ', '\n']).next().unwrap_or_default();
            address.rsplit(':').next().unwrap_or_default().to_owned()
        };
        let ports = Ports::of([
            ("50051", &after("gRPC on ")),
            ("9090", &after("page on http://")),
            ("8043", &after("gateway  https://")),
            ("8044", &after("control on http://")),
        ]);
        let folder = tempfile::tempdir().expect("a folder");
        copy_clone(folder.path());
        let tools = tempfile::tempdir().expect("a folder");
        let addr = format!("127.0.0.1:{}", after("gRPC on "));
        let variables = set_up_tools(tools.path(), &addr);
        let shell = Shell::new(folder.path().to_owned(), variables);
        Self { ports, shell, demo, _tools: tools, _folder: folder }
    }

    pub(super) async fn take_down(self) {
        drop(self.shell);
        stop(self.demo).await;
    }
}

fn copy_clone(folder: &Path) {
    for file in tracked() {
        if OF_A_CLONE.iter().any(|name| file.starts_with(name)) {
            let to = folder.join(&file);
            fs::create_dir_all(to.parent().expect("a folder")).expect("made");
            fs::copy(root().join(&file), to).expect("copied");
        }
    }
}

/// Puts the programs into a folder; gives the environment of commands.
fn set_up_tools(tools: &Path, grpc: &str) -> Vec<(&'static str, OsString)> {
    let bin = tools.join("bin");
    fs::create_dir(&bin).expect("a folder");
    symlink(tool(), bin.join("grpcurl")).expect("linked");
    symlink(simulator(), bin.join("ccgateway-sim")).expect("linked");
    let bridge = env!("CARGO_BIN_EXE_ccgateway-bridge");
    // What is called without an address is the demo at its usual one.
    calls_the_demo(&bin.join("ccgateway-bridge"), bridge, "call", grpc);
    calls_the_demo(&bin.join("python3"), &python().display().to_string(), "*set_busy.py", grpc);
    for name in KEPT_OUT {
        let why =
            "this program does not run in the test: give the block a mark, such as sh,cluster";
        executable(&bin.join(name), &format!("#!/bin/sh\necho \"$0: {why}\" >&2\nexit 126\n"));
    }
    // On a terminal curl shows no progress of what it prints.
    fs::write(tools.join(".curlrc"), "no-progress-meter\n").expect("written");
    let modules = tools.join("modules");
    generate_modules(&modules);
    vec![
        ("PATH", with_path(&bin)),
        ("HOME", tools.into()),
        ("CURL_HOME", tools.into()),
        ("PYTHONPATH", modules.into()),
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
        ("LANG", "C.UTF-8".into()),
    ]
}

/// A program that is given this address where its first argument is like `first` and none is given.
fn calls_the_demo(path: &Path, program: &str, first: &str, grpc: &str) {
    let text = format!(
        "#!/bin/sh\n\
         case \"$1/ $* \" in\n\
         *--addr*) ;;\n\
         {first}/*) exec '{program}' \"$@\" --addr {grpc} ;;\n\
         esac\n\
         exec '{program}' \"$@\"\n"
    );
    executable(path, &text);
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("its owner's");
}

/// As a page tells the reader to: by grpc_tools.
fn generate_modules(folder: &Path) {
    fs::create_dir(folder).expect("a folder");
    let mut protoc = Command::new(python());
    protoc.current_dir(root()).args(["-m", "grpc_tools.protoc", "-I", "proto"]);
    for out in ["--python_out", "--grpc_python_out"] {
        protoc.arg(format!("{out}={}", folder.display()));
    }
    let contract = tracked();
    let contract = contract.iter().filter(|file| file.starts_with("proto/ccgateway"));
    let ended = protoc.args(contract).output().expect("Python starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
