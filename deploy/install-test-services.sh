#!/usr/bin/env bash
# Installs the real servers, and the browser, that the tests and the local fleet start on loopback, from Debian's packages; does nothing when they are here.
set -euo pipefail
packages=()
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || packages+=(postgresql)
# The cartridge of the newest PostgreSQL that is here, or of the one that Debian brings.
version=$(ls /usr/lib/postgresql 2>/dev/null | sort -n | tail -1)
[ -e "/usr/share/postgresql/${version:-none}/extension/rdkit.control" ] || packages+=("postgresql-${version:-15}-rdkit")
command -v redis-server >/dev/null || packages+=(redis-server)
[ -x /usr/sbin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null || packages+=(rabbitmq-server)
# The portal's tests run in a real browser.
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || packages+=(chromium)
# Its systemd-analyze checks deploy/systemd.
command -v systemd-analyze >/dev/null || packages+=(systemd)
[ ${#packages[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
    echo "Install ${packages[*]} with this system's package manager: the tests run against the real servers." >&2
    exit 1
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
