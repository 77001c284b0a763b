# shellcheck shell=bash disable=SC2154 # variables of dev/engines
# What has to be on the machine: Debian packages, and pinned Maven artifacts in the cache folder.

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

install() { # PACKAGE..
  command -v apt-get >/dev/null || die "install these first: $*"
  if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
    die "install these first, as root: apt-get install -y --no-install-recommends $*"
  fi
  say "installing $*" >&2
  as_root apt-get update -qq >&2 || say "apt-get update failed; going on with the lists that are here" >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 ||
    die "apt-get cannot install $*"
}

# Packages that bring a service, without the service: it would take the port, now and after the next boot.
install_quietly() { # SERVICE PACKAGE..
  local service="$1" policy=/usr/sbin/policy-rc.d ours=""; shift
  if [ ! -e "$policy" ] && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    ours=yes
    # shellcheck disable=SC2064 # the path as it is now
    trap "as_root rm -f $policy" EXIT
  fi
  install "$@"
  if [ -n "$ours" ]; then as_root rm -f "$policy"; trap - EXIT; fi
  if command -v systemctl >/dev/null; then as_root systemctl disable "$service" >/dev/null 2>&1 || true; fi
}

java_17() {
  command -v java >/dev/null || install openjdk-17-jre-headless
  local major
  major="$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)"
  [ "${major:-0}" -ge 17 ] || die "Java 17 or later is needed, this is ${major:-unknown}"
  printf '%s' "$major"
}

# The artifacts of dev/ENGINE/pom.xml, in a folder named after its content.
artifacts() { # ENGINE MEGABYTES
  local key lib
  key="$(sha256sum "$here/$1/pom.xml" | cut -c1-12)"
  lib="$cache/$1-$key"
  if [ ! -f "$lib/.complete" ]; then
    command -v mvn >/dev/null || install maven
    say "fetching Apache ${1^} (about $2 MB) to $lib" >&2
    mkdir -p "$lib"
    # Two of these at once, of two clusters, must not write the same files.
    (
      flock 8
      [ -f "$lib/.complete" ] || mvn -B -q --strict-checksums -f "$here/$1/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DoutputDirectory="$lib" >&2
    ) 8> "$lib.lock" || die "the Maven artifacts of Apache ${1^} cannot be had; take a distribution with --$1-home DIR"
    touch "$lib/.complete"
  fi
  printf '%s' "$lib"
}

# A certificate authority that nobody else trusts, a server's certificate for loopback and a client's.
certificates() {
  local tls="$run/tls" who
  command -v openssl >/dev/null || install openssl
  openssl x509 -in "$tls/server.pem" -noout -checkend 86400 >/dev/null 2>&1 && return 0
  rm -rf "$tls"; mkdir -p "$tls"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=dev-engines authority" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout "$tls/ca.key" -out "$tls/ca.pem" 2>/dev/null
  printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2,IP:127.0.0.3\nextendedKeyUsage=serverAuth\n' > "$tls/server.ext"
  printf 'subjectAltName=DNS:hawser\nextendedKeyUsage=clientAuth\n' > "$tls/client.ext"
  for who in server client; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=hawser" -keyout "$tls/$who.key" \
      -out "$tls/$who.csr" 2>/dev/null
    openssl x509 -req -in "$tls/$who.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 30 \
      -extfile "$tls/$who.ext" -out "$tls/$who.pem" 2>/dev/null
  done
  openssl pkcs12 -export -in "$tls/server.pem" -inkey "$tls/server.key" -passout pass:hawser -out "$tls/server.p12"
  rm -f "$tls"/*.csr "$tls"/*.ext
}
