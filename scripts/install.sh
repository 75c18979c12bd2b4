#!/usr/bin/env bash
# Installs the binary, the manual pages, the completions of three shells and systemd units (for a user's instances, and for one server of
# the machine, which systemd finds below PREFIX=/usr/local) below PREFIX (default: ~/.local), or removes them again:
#
#     scripts/install.sh [PREFIX]
#     scripts/install.sh --uninstall [PREFIX]
#
# UCAFFEINE_BINARY names a binary that is built already; without it, `cargo build --release` makes one.
set -euo pipefail

uninstall=false
prefix=
for argument in "$@"; do
    case $argument in
    --uninstall) uninstall=true ;;
    -h | --help)
        sed -n '2,9s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*)
        echo "install.sh: $argument is not known; [--uninstall] [PREFIX]" >&2
        exit 2
        ;;
    *)
        if [ -n "$prefix" ]; then
            echo "install.sh: one PREFIX, not two" >&2
            exit 2
        fi
        prefix=$argument
        ;;
    esac
done
prefix=${prefix:-$HOME/.local}
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)
source=$(cd "$(dirname "$0")/.." && pwd)

binary=$prefix/bin/ucaffeine
manuals=$prefix/share/man
bash=$prefix/share/bash-completion/completions/ucaffeine
zsh=$prefix/share/zsh/site-functions/_ucaffeine
fish=$prefix/share/fish/vendor_completions.d/ucaffeine.fish
units=(
    "$prefix/share/systemd/user/ucaffeine@.service"
    "$prefix/lib/systemd/system/ucaffeine.service"
    "$prefix/lib/systemd/system/ucaffeine.socket"
)

if $uninstall; then
    for page in "$source"/docs/*.[15]; do
        rm -f -- "$manuals/man${page##*.}/${page##*/}"
    done
    rm -f -- "$binary" "$bash" "$zsh" "$fish" "${units[@]}"
    echo "removed from $prefix; instances, their folders and their logs are as they were"
    exit 0
fi

built=${UCAFFEINE_BINARY:-}
if [ -z "$built" ]; then
    cargo build --release --locked --manifest-path "$source/Cargo.toml"
    built=${CARGO_TARGET_DIR:-$source/target}/release/ucaffeine
fi

# A new file and a rename, because a binary that runs cannot be written to.
install -D -m 755 -- "$built" "$binary.new"
mv -f -- "$binary.new" "$binary"
for page in "$source"/docs/*.[15]; do
    install -D -m 644 -- "$page" "$manuals/man${page##*.}/${page##*/}"
done
mkdir -p -- "${bash%/*}" "${zsh%/*}" "${fish%/*}" "${units[@]%/*}"
"$binary" --completions bash >"$bash"
"$binary" --completions zsh >"$zsh"
"$binary" --completions fish >"$fish"
install_unit() {
    local text
    text=$(cat -- "$source/scripts/${1##*/}")
    printf '%s\n' "${text//@BINARY@/"$binary"}" >"$1"
    chmod 644 -- "$1"
}
for unit in "${units[@]}"; do install_unit "$unit"; done
echo "installed $binary"
case :$PATH: in
*":$prefix/bin:"*) ;;
*) echo "note: $prefix/bin is not on PATH" ;;
esac
