#!/usr/bin/env bash
# Installs the binary, the manual pages, the completions of three shells and a systemd user unit below PREFIX (default: ~/.local), or
# removes them again:
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
        sed -n '2,8s/^# \{0,1\}//p' "$0"
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
unit=$prefix/share/systemd/user/ucaffeine@.service

if $uninstall; then
    for page in "$source"/docs/*.[15]; do
        rm -f -- "$manuals/man${page##*.}/${page##*/}"
    done
    rm -f -- "$binary" "$bash" "$zsh" "$fish" "$unit"
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
mkdir -p -- "${bash%/*}" "${zsh%/*}" "${fish%/*}" "${unit%/*}"
"$binary" --completions bash >"$bash"
"$binary" --completions zsh >"$zsh"
"$binary" --completions fish >"$fish"
cat >"$unit" <<END
# systemctl --user start ucaffeine@NAME: the instance NAME, which serves ~/.config/ucaffeine/NAME. Its settings are variables in
# ~/.config/ucaffeine/NAME.env (UCAFFEINE_PORT=8081), one a line.
[Unit]
Description=ucaffeine instance %i
Documentation=man:ucaffeine(1)
After=network.target

[Service]
ExecStart="$binary" --name=%i
EnvironmentFile=-%E/ucaffeine/%i.env
# The server drains for 30 s, and sees its programs to their end itself.
KillMode=mixed
TimeoutStopSec=45
Restart=on-failure
# Wrong usage and wrong configuration do not mend themselves.
RestartPreventExitStatus=2 3

[Install]
WantedBy=default.target
END
echo "installed $binary"
case :$PATH: in
*":$prefix/bin:"*) ;;
*) echo "note: $prefix/bin is not on PATH" ;;
esac
